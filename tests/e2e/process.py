"""`taskbell serve` as a process of its own, and waiting for what other processes do."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import httpx

from deploy.demo.stage import free_port

START_SECONDS = 20
TASKBELL = Path(sys.executable).with_name("taskbell")


class Process:
    """A server that can be killed and started again on its port. api: a client with its admin key.

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
            timeout=10,
            trust_env=False,
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
        self._process = await asyncio.to_thread(self._open)
        async with asyncio.timeout(START_SECONDS):
            while not await self._ready():
                assert self._process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.05)

    def _open(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [TASKBELL, "serve", "--port", str(self.port)],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """As a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def stop(self) -> int:
        """As a service manager does; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self._process.wait, 30)

    async def close(self) -> None:
        await self.api.aclose()
        if self._process is not None and self._process.poll() is None:
            self.kill()

    async def _ready(self) -> bool:
        try:
            return (await self.api.get("/readyz")).status_code == 200
        except httpx.HTTPError:
            return False


@contextlib.asynccontextmanager
async def processes(
    folder: Path, database_url: str, *environments: Mapping[str, str]
) -> AsyncIterator[list[Process]]:
    """Servers with the same database and keys, all started, each with settings of its own."""
    api_key, secret_key = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    made = [
        Process(folder, database_url, api_key, {"TASKBELL_SECRET_KEYS": secret_key, **environment})
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
