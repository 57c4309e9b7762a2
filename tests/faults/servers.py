"""Taskbell servers that can be killed and started again on their ports, as often as one likes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.settings import process_environment
from dispatch.worker import LEASE_MARGIN
from receiver.tokens import CallbackTokens, new_token_id
from tests.bench.processes import ROOT
from tests.bench.taskbell import SECRET_KEYS
from tests.faults.fault import Rig
from tests.faults.handle import Handle
from tests.faults.wire import API_KEY, status_of
from tests.ports import free_port

ATTEMPT_SECONDS = 1
LEASE_SECONDS = ATTEMPT_SECONDS + LEASE_MARGIN.total_seconds()
"""How long what a dead server held waits, at the most; in the short forms two seconds."""
_QUICK = {"TASKBELL_ATTEMPT_TIMEOUT_SECONDS": f"{ATTEMPT_SECONDS}", "TASKBELL_RETRY_SCHEDULE": "1"}
ALL = "receive,poll,dispatch"
_START_SECONDS = 60
_STOP_SECONDS = 60

Tricks = Mapping[str, Any]
"""What tests/faults/tricks.py does to a server, by function, with its argument."""


class Nursery:
    """The process that servers are forked from (tests/faults/nursery.py)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, wish: Mapping[str, Any]) -> int:
        """A server's pid."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextlib.contextmanager
def nursery(*under: str) -> Iterator[Nursery]:
    """under: a command to run it by, such as a tracer."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = {
        name: value
        for name, value in process_environment().items()
        if not name.startswith("TASKBELL_")
    }
    command = (*under, sys.executable, "-m", "tests.faults.nursery")
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) as process:
        yield Nursery(process)


@dataclass(slots=True)
class Server:
    """One of them. Its log stays, whatever becomes of it."""

    nursery: Nursery
    port: int
    environment: Mapping[str, str]
    log: Path
    tricks: Tricks = field(default_factory=dict)
    _handle: Handle | None = None

    @property
    def door(self) -> tuple[int, str]:
        """Where MiniMax would push: port and path."""
        tokens = CallbackTokens(SECRET_KEYS)
        token = tokens.issue("minimax", new_token_id(), expires_at=None, metadata={})
        return self.port, f"/callbacks/minimax/{token}"

    async def start(self, tricks: Tricks | None = None) -> None:
        """Return when it is ready. tricks: other ones this time."""
        await self.launch(tricks)
        async with asyncio.timeout(_START_SECONDS):
            while await status_of(self.port, "/readyz") != 200:
                assert self.alive, self.log.read_text()[-3000:]
                await asyncio.sleep(0.02)

    async def launch(self, tricks: Tricks | None = None) -> None:
        chosen = self.tricks if tricks is None else tricks
        wish = {"environment": dict(self.environment), "log": str(self.log), "tricks": dict(chosen)}
        self._handle = Handle(self.nursery.start(wish))

    @property
    def pid(self) -> int:
        assert self._handle
        return self._handle.pid

    @property
    def alive(self) -> bool:
        return self._handle is not None and not self._handle.ended

    async def kill(self) -> None:
        """As a power cut would."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """As a service manager does. Raises TimeoutError."""
        await self._end(signal.SIGTERM)

    async def died(self, seconds: float) -> bool:
        """Whether it ended by itself in time."""
        assert self._handle
        try:
            await self._handle.end(seconds)
        except TimeoutError:
            return False
        return True

    async def _end(self, number: signal.Signals) -> None:
        if self._handle:
            self._handle.send(number)
            await self._handle.end(_STOP_SECONDS)
            self._handle.close()
            self._handle = None


@contextlib.asynccontextmanager
async def servers(
    rig: Rig,
    *roles: str,
    tricks: Tricks | None = None,
    database_url: str = "",
    home: Nursery | None = None,
    **settings: str,
) -> AsyncIterator[list[Server]]:
    """Ready servers, one with each of these sets of roles; settings as TASKBELL_… without that.

    home: another nursery than the rig's. Whatever happens they are gone at the end.
    """
    shared = {
        **_QUICK,
        "TASKBELL_DATABASE_URL": database_url or rig.database_url,
        "TASKBELL_SECRET_KEYS": ",".join(SECRET_KEYS),
        "TASKBELL_API_KEY": API_KEY,
        "TASKBELL_ALLOW_NETWORKS": "127.0.0.0/8",
        **{f"TASKBELL_{name}": value for name, value in settings.items()},
    }
    made = []
    for place, role in enumerate(roles):
        port = free_port()
        environment = {**shared, "TASKBELL_PORT": str(port), "TASKBELL_ROLES": role}
        log = rig.folder / f"server-{place}.log"
        made.append(Server(home or rig.nursery, port, environment, log, tricks or {}))
    try:
        await asyncio.gather(*(server.start() for server in made))
        yield made
    finally:
        for server in made:
            await server.kill()
