"""A server with other bounds than the usual ones, whose exit code can be asked for.

python -m tests.faults.bounded '{"limits": {"connections": 10}, "descriptors": 256, "grace": 3600}':
serve by the environment's settings; what is null is as usual.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy import admission, service, serving
from deploy.admission import make_rooms
from deploy.crowd import Crowd, Limits
from deploy.settings import load, process_environment
from receiver.tokens import CallbackTokens, new_token_id
from tests.bench.processes import ROOT
from tests.bench.taskbell import SECRET_KEYS
from tests.faults.wire import API_KEY, status_of
from tests.ports import free_port

_QUICK = {"TASKBELL_ATTEMPT_TIMEOUT_SECONDS": "1", "TASKBELL_RETRY_SCHEDULE": "1"}
_START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Bounds:
    """limits: on clients. descriptors: as by ulimit -n. grace: seconds for requests at the end.

    unbounded: as many requests may wait as there are connections.
    """

    limits: Limits | None = None
    descriptors: int | None = None
    grace: int | None = None
    unbounded: bool = False


@dataclass(slots=True)
class Bounded:
    """One such server, a process of its own."""

    port: int
    log: Path
    process: asyncio.subprocess.Process

    @property
    def door(self) -> tuple[int, str]:
        """Where MiniMax would push: port and path."""
        tokens = CallbackTokens(SECRET_KEYS)
        token = tokens.issue("minimax", new_token_id(), expires_at=None, metadata={})
        return self.port, f"/callbacks/minimax/{token}"

    async def exit_code(self, seconds: float) -> int:
        """Wait for its end. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def stop(self, seconds: float = 30) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.exit_code(seconds)

    async def said(self, words: str) -> None:
        """Wait until its log has these words."""
        async with asyncio.timeout(_START_SECONDS):
            while words not in self.log.read_text():  # noqa: ASYNC110 - another process's file
                await asyncio.sleep(0.01)

    async def until_ready(self) -> None:
        async with asyncio.timeout(_START_SECONDS):
            while await status_of(self.port, "/readyz") != 200:
                assert self.process.returncode is None, self.log.read_text()[-3000:]
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def bounded_server(
    folder: Path, database_url: str, bounds: Bounds, **settings: str
) -> AsyncIterator[Bounded]:
    """A ready one with all roles, its log in the folder; settings as TASKBELL_… without that."""
    port = free_port()
    environment = {
        **process_environment(),
        **_QUICK,
        "TASKBELL_DATABASE_URL": database_url,
        "TASKBELL_SECRET_KEYS": ",".join(SECRET_KEYS),
        "TASKBELL_API_KEY": API_KEY,
        "TASKBELL_ALLOW_NETWORKS": "127.0.0.0/8",
        "TASKBELL_PORT": str(port),
        **{f"TASKBELL_{name}": value for name, value in settings.items()},
    }
    log = folder / "server.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.bounded", json.dumps(asdict(bounds))),
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        server = Bounded(port, log, process)
        await server.until_ready()
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def connected(port: int) -> int:
    """How many clients this machine's servers on a port hold a connection to."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ends = [line.split()[1:4] for line in lines]
    held = {"01", "08"}  # established, or ended by the client only
    return sum(local.endswith(f":{port:04X}") and state in held for local, _, state in ends)


def main() -> None:
    wish = json.loads(sys.argv[1])
    if wish["descriptors"]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wish["descriptors"],) * 2)
    if wish["grace"]:
        serving.GRACE_SECONDS = wish["grace"]
    if wish["unbounded"]:
        _bound_nothing()
    limits = Limits(**wish["limits"]) if wish["limits"] else None
    os.chdir("/")  # no .env file
    serving.run(load(process_environment()), dev=False, limits=limits)


def _bound_nothing() -> None:
    many = 10**6
    # as make_service knows it
    setattr(service, "make_rooms", lambda _connections: make_rooms(many))  # noqa: B010
    admission.STRANGERS = admission.STRANGERS_EACH = many
    Crowd.is_short_of_places = False  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    main()
