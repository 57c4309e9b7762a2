"""The whole of Taskbell for hostile rows: door, API and loops, with its own network clients."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from deploy.app import make_app
from deploy.service import make_service
from deploy.settings import load
from store.clock import Clock
from store.database import open_database
from store.tables import attempts, callback_tokens, deliveries, events, receipts, tasks
from tests.app import ADMIN_KEY, SECRET_KEYS, Taskbell, bearer
from tests.databases import copy_sqlite

WAIT_SECONDS = 60
_OF_TASKS = (attempts, deliveries, receipts, events, tasks, callback_tokens)


@contextlib.asynccontextmanager
async def live(database_url: str, clock: Clock, **settings: str) -> AsyncIterator[Taskbell]:
    """Run it, with these settings. Jitter is in the middle, so that a wait is as scheduled."""
    values = {
        "DATABASE_URL": database_url,
        "SECRET_KEYS": ",".join(SECRET_KEYS),
        "API_KEY": ADMIN_KEY,
        **settings,
    }
    chosen = load({f"TASKBELL_{name}": value for name, value in values.items()})
    service = make_service(chosen, open_database(database_url), clock=clock, jitter=lambda: 0.5)
    app = make_app(service)
    async with (
        app.router.lifespan_context(app),
        client(app) as door,
        client(app, headers=bearer(ADMIN_KEY)) as api,
    ):
        yield Taskbell(service, app, api, door)


def client(app: Any, *, address: str = "127.0.0.1", **options: Any) -> httpx.AsyncClient:
    """Whoever sends requests, from an address."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 50_000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", **options)


def database_in(folder: Path, template: Path) -> str:
    """A migrated database of one's own."""
    return copy_sqlite(template, folder / "taskbell.db")


async def emptied(taskbell: Taskbell) -> None:
    """Forget every task and what came of it, so that the next row finds a fresh Taskbell."""
    for table in _OF_TASKS:
        await taskbell.write(table.delete())


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Return once it is true: what loops do beside us tells by nothing else."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not await true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A server on loopback that does what its script says with each request.

    requests: what came. tls: to speak TLS. Its end is (127.0.0.1, port).
    """

    def __init__(self) -> None:
        self.script: Script = answer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        self.requests: list[bytes] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def end(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    @contextlib.asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                self.requests.append(await _request(reader))
                await self.script(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side has left, or the test has ended
        finally:
            self._tasks.discard(task)
            writer.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].partition(b":")[2]) if lengths else 0
    return head + await reader.readexactly(length)


def answer(raw: bytes) -> Script:
    """Write this, and go on with the connection."""

    async def write(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return write
