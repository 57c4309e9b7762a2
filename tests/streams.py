"""A client of the event stream, over ASGI or a socket: what it was sent, taken apart."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from starlette.types import ASGIApp, Message

from receiver.feed import Feed
from store.store import Store
from tests.app import ADMIN_KEY
from tests.e2e.process import until
from tests.patience import PATIENCE_SECONDS

WHOLE = {
    "cache-control": "no-cache, no-transform",
    "content-encoding": "identity",
    "x-accel-buffering": "no",
}
"""Headers that keep intermediaries from compressing a stream or holding it back."""

SECONDS = PATIENCE_SECONDS
"""How long anything may take on a machine that is busy."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One message; id is None when it had none, and data is read as JSON."""

    id: int | None
    event: str
    data: Any


async def idle(feed: Feed, count: int) -> None:
    """Return once so many follow, and have nothing more to read."""
    async with asyncio.timeout(SECONDS):
        while not _idle(feed, count):  # noqa: ASYNC110 - they read in the store's threads
            await asyncio.sleep(0.001)


def _idle(feed: Feed, count: int) -> bool:
    return len(feed) == count and all(follower._idle for follower in feed._followers)


async def listening(store: Store) -> None:
    """Return once the process has its connection for notices."""

    async def found() -> bool:
        return bool(await store.read(_listeners))

    await until(found, SECONDS, every=0.01)


def _listeners(connection: Connection) -> int:
    rows = connection.exec_driver_sql(
        "SELECT 1 FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN%%'"
    )
    return len(rows.all())


def taken_apart(text: bytes) -> Iterator[Sent]:
    """The whole messages of a stream, as the HTML standard reads them."""
    for block in text.split(b"\n\n")[:-1]:
        fields: dict[str, str] = {}
        for line in block.decode().split("\n"):
            name, _, value = line.partition(":")
            if name and name != "retry":
                assert name not in fields
                fields[name] = value.removeprefix(" ")
        number = fields.get("id")
        yield Sent(int(number) if number else None, fields["event"], json.loads(fields["data"]))


class Client:
    """One that reads all it is sent, while `reading` is set. raw: every byte of it."""

    def __init__(self) -> None:
        self.raw = b""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = False
        self.reading = asyncio.Event()
        self.reading.set()
        self._gone = asyncio.Event()
        self._news = asyncio.Condition()

    @property
    def sent(self) -> list[Sent]:
        return list(taken_apart(self.raw))

    @property
    def ids(self) -> list[int]:
        return [each.id for each in self.sent if each.id is not None]

    def leave(self) -> None:
        self._gone.set()

    async def wait_for(self, count: int) -> list[Sent]:
        """What was sent, once it is so much."""
        return await self.until(lambda: len(self.sent) >= count)

    async def until(self, true: Any) -> list[Sent]:
        async with asyncio.timeout(SECONDS), self._news:
            await self._news.wait_for(true)
        return self.sent

    async def receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.reading.wait()
        async with self._news:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            else:
                self.raw += message["body"]
                self.ended = not message.get("more_body", False)
            self._news.notify_all()


@contextlib.asynccontextmanager
async def streaming(
    app: ASGIApp, query: str = "", headers: Mapping[str, str] | None = None
) -> AsyncIterator[Client]:
    """A client of the app's stream, once its answer has begun."""
    async with opened(app, query, headers) as client:
        await client.until(lambda: client.raw or client.ended)
        yield client


@contextlib.asynccontextmanager
async def opened(
    app: ASGIApp,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    *,
    path: str = "/v1/events/stream",
) -> AsyncIterator[Client]:
    """A client with the admin key that leaves at the end."""
    client = Client()
    given = {"host": "taskbell.test", "authorization": f"Bearer {ADMIN_KEY}", **(headers or {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.encode(), v.encode()) for k, v in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("taskbell.test", 80),
    }
    answering = asyncio.ensure_future(app(scope, client.receive, client.send))
    try:
        yield client
    finally:
        client.reading.set()
        client.leave()
        await asyncio.wait_for(answering, SECONDS)
