"""Servers as processes of their own, and waiting for what other processes do."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import httpx

from tests.faults.handle import Handle
from tests.faults.servers import Nursery, Tricks
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port

TASKBELL = Path(sys.executable).with_name("taskbell")


class Process:
    """`taskbell serve`, to be killed and started again on its port. api: with its admin key.

    folder is where it runs; its log is there.
    """

    def __init__(
        self, folder: Path, database_url: str, api_key: str, environment: Mapping[str, str]
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = httpx.AsyncClient(
            base_url=self.url,
            headers={"authorization": f"Bearer {api_key}"},
            timeout=PATIENCE_SECONDS,
            trust_env=False,
            verify=False,  # nothing here speaks TLS, and loading the authorities takes its time
        )
        self.log = folder / f"{self.port}.log"
        self._folder = folder
        self._environment = {
            "PYTHONUTF8": "1",
            "TASKBELL_DATABASE_URL": database_url,
            "TASKBELL_API_KEY": api_key,
            "TASKBELL_ALLOW_NETWORKS": "127.0.0.0/8",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        await self._open()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await self._ready():
                assert self._running, self.log.read_text()
                await asyncio.sleep(0.05)

    async def _open(self) -> None:
        self._process = await asyncio.to_thread(self._popen)

    def _popen(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [TASKBELL, "serve", "--port", str(self.port)],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    @property
    def _running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """As a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def stop(self) -> int:
        """As a service manager does; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self._process.wait, PATIENCE_SECONDS)

    async def close(self) -> None:
        await self.api.aclose()
        if self._running:
            self.kill()

    async def _ready(self) -> bool:
        try:
            return (await self.api.get("/readyz")).status_code == 200
        except httpx.HTTPError:
            return False


class Forked(Process):
    """The same without the command: forked from a process that has imported everything."""

    def __init__(
        self,
        home: Nursery,
        tricks: Tricks,
        folder: Path,
        database_url: str,
        api_key: str,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(folder, database_url, api_key, environment)
        self._home = home
        self._tricks = tricks
        self._handle: Handle | None = None
        self._code = self.log.with_suffix(".code")

    async def _open(self) -> None:
        environment = {**self._environment, "TASKBELL_PORT": str(self.port)}
        wish = {
            "environment": environment,
            "log": str(self.log),
            "tricks": dict(self._tricks),
            "code": str(self._code),
        }
        self._let_go()
        self._handle = Handle(self._home.start(wish))

    @property
    def _running(self) -> bool:
        return self._handle is not None and not self._handle.ended

    def kill(self) -> None:
        assert self._handle is not None
        self._handle.kill()

    async def stop(self) -> int:
        assert self._handle is not None
        self._handle.send(signal.SIGTERM)
        await self._handle.end(PATIENCE_SECONDS)
        return int(self._code.read_text())

    async def close(self) -> None:
        await super().close()
        self._let_go()

    def _let_go(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None


@contextlib.asynccontextmanager
async def processes(
    folder: Path,
    database_url: str,
    *environments: Mapping[str, str],
    home: Nursery | None = None,
    tricks: Tricks = MappingProxyType({}),
) -> AsyncIterator[list[Process]]:
    """Servers with the same database and keys, all started, each with settings of its own.

    home: where to fork them, a tenth of a command's work; tricks are for these alone.
    """
    api_key, secret_key = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    new = partial(Forked, home, tricks) if home else Process
    made = [
        new(folder, database_url, api_key, {"TASKBELL_SECRET_KEYS": secret_key, **environment})
        for environment in environments
    ]
    try:
        await asyncio.gather(*(process.start() for process in made))
        yield made
    finally:
        await asyncio.gather(*(process.close() for process in made))


async def until(true: Callable[[], Awaitable[bool]], seconds: float, *, every: float = 0.1) -> None:
    """Return once it is true. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110 - another process, it tells by nothing else
            await asyncio.sleep(every)
