"""Taskbell's app for tests: running without sockets, with short ways to push and to ask."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from sqlalchemy import Connection, Executable, Table, select
from starlette.applications import Starlette
from starlette.routing import Route

from deploy.app import make_app
from deploy.service import Service, make_service
from deploy.settings import load
from receiver.callbacks import CallbackDoor
from receiver.tokens import CallbackTokens
from receiver.uses import LastUses
from store.clock import Clock
from store.database import open_database
from store.tables import receipts
from store.writer import Operation, Tx

SECRET_KEYS = (
    "an-older-key-that-still-verifies-0123456789",
    "the-key-that-signs-0123456789-0123456789",
)
ADMIN_KEY = "the-first-admin-key-of-these-tests-0123456789"
HOOK = "https://93.184.216.34/hook"
"""A public address, so that no name is looked up; nothing is ever sent there."""
AWAY = "postgresql://nobody@/nothing?host=/nonexistent-folder-of-taskbell"
"""A database that refuses every connection at once."""

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}

Answers = Callable[[httpx.Request], httpx.Response]


@dataclass(frozen=True, slots=True)
class Taskbell:
    """A running app; `api` sends the admin key, `door` sends none."""

    service: Service
    app: Starlette
    api: httpx.AsyncClient
    door: httpx.AsyncClient

    def path(
        self,
        provider: str = "minimax",
        *,
        token_id: str = "tok1",
        expires_at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """The path of a callback URL."""
        token = CallbackTokens(SECRET_KEYS).issue(
            provider, token_id, expires_at=expires_at, metadata=metadata or {}
        )
        return f"/callbacks/{provider}/{token}"

    def uses(self) -> LastUses:
        """Of the callback door."""
        for route in self.app.routes:
            if isinstance(route, Route) and isinstance(route.endpoint, CallbackDoor):
                assert route.endpoint.uses is not None
                return route.endpoint.uses
        raise AssertionError("there is no door")

    async def push(self, body: Any, path: str | None = None) -> httpx.Response:
        """Push to the callback door: bytes as they are, everything else as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.door.post(path or self.path(), content=raw)

    async def track(self, task_id: str = "1", **fields: Any) -> dict[str, Any]:
        """Register a task; its view, without warnings about a key that is missing."""
        wish = {"provider": "minimax", "task_id": task_id, **fields}
        task: dict[str, Any] = good(await self.api.post("/v1/tasks", json=wish), 201)
        task.pop("warnings", None)
        return task

    async def subscribe(self, url: str = HOOK, **fields: Any) -> dict[str, Any]:
        """Subscribe a URL, also a second time; the view with its secret."""
        wish = {"url": url, "allow_duplicate": True, **fields}
        answer = await self.api.post("/v1/subscriptions", json=wish)
        subscription: dict[str, Any] = good(answer, 201)
        return subscription

    async def tasks(self) -> list[dict[str, Any]]:
        return await self.data("/v1/tasks")

    async def events(self) -> list[dict[str, Any]]:
        return await self.data("/v1/events")

    async def event_types(self) -> list[str]:
        return [event["type"] for event in await self.events()]

    async def data(self, path: str) -> list[dict[str, Any]]:
        """The first page of a list."""
        found: list[dict[str, Any]] = good(await self.api.get(path))["data"]
        return found

    async def all_pages(self, path: str, cursor: str = "cursor") -> list[dict[str, Any]]:
        """A list read to its end, as a client would."""
        found: list[dict[str, Any]] = []
        url: httpx.URL | None = httpx.URL(path)
        while url is not None:
            page = good(await self.api.get(url))
            found += page["data"]
            following = page["next_cursor"]
            url = None if following is None else url.copy_set_param(cursor, following)
        return found

    async def receipts(self) -> list[Any]:
        """What came through the callback door, in order."""
        return await self.rows(receipts)

    async def rows(self, table: Table) -> list[Any]:
        """What a table holds, in the order of its first column."""

        def ask(connection: Connection) -> list[Any]:
            return list(connection.execute(select(table).order_by(next(iter(table.c)))))

        return await self.service.store.read(ask)

    async def write(self, statement: Executable) -> None:
        """Change rows by hand."""

        def run(tx: Tx, items: Sequence[Executable]) -> list[None]:
            for item in items:
                tx.connection.execute(item)
            return [None] * len(items)

        await self.service.store.write(Operation("by hand", run), statement)


@contextlib.asynccontextmanager
async def running(
    database_url: str,
    clock: Clock,
    environ: Mapping[str, str] | None = None,
    *,
    answers: Answers | None = None,
) -> AsyncIterator[Taskbell]:
    """The app over ASGI, on a migrated database, without polling and dispatching.

    environ: more settings, without TASKBELL_. answers: what every provider answers to our
    questions.
    """
    values = {
        "DATABASE_URL": database_url,
        "SECRET_KEYS": ",".join(SECRET_KEYS),
        "API_KEY": ADMIN_KEY,
        "ROLES": "receive",
        **(environ or {}),
    }
    settings = load({f"TASKBELL_{name}": value for name, value in values.items()})
    service = make_service(
        settings,
        open_database(database_url),
        clock=clock,
        transport=httpx.MockTransport(answers or _silent),
    )
    app = make_app(service)
    async with (
        app.router.lifespan_context(app),
        _client(app) as door,
        _client(app, ADMIN_KEY) as api,
    ):
        yield Taskbell(service, app, api, door)


def _silent(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(503)


def _client(app: Starlette, key: str | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://taskbell.test",
        headers=bearer(key) if key else {},
    )


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def minimax(task_id: Any = "1", status: Any = "Success", **more: Any) -> dict[str, Any]:
    """A flat MiniMax push."""
    return {"task_id": task_id, "status": status, **more}


def good(response: httpx.Response, status: int = 200) -> Any:
    """The JSON of an answer that must be of this status."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:300]}"
    assert response.headers["content-type"] == "application/json"
    return response.json()


def problem(response: httpx.Response, status: int) -> str:
    """The detail of an answer that must be an RFC 9457 problem of this status."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:300]}"
    assert response.headers["content-type"] == "application/problem+json"
    assert SECURITY_HEADERS.items() <= response.headers.items()
    body = response.json()
    assert set(body) == {"type", "title", "status", "detail"}
    assert body["status"] == status
    assert body["type"] == "about:blank"
    assert body["title"]
    detail: str = body["detail"]
    return detail


@contextlib.contextmanager
def loggers_as_before() -> Iterator[None]:
    """Undo what deploy/logs.py does to the whole process."""
    names = ("", "taskbell", "httpx", "httpcore", "aiohttp", "alembic", "uvicorn")
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
