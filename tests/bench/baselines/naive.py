"""The same job as it is written in an afternoon: a session a request, and a table that is polled.

python -m tests.bench.baselines.naive PORT DATABASE_URL SINK_URL …: without a sink nothing is sent
on, and each push makes one delivery row all the same.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import sqlite3
import sys
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
from sqlalchemy import Engine, event
from sqlmodel import Field, Session, SQLModel, create_engine, select
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.bench.baselines.bare import ready, serve

LOOK_SECONDS = 1.0
BATCH = 100
SECRET = b"0123456789abcdef0123456789abcdef"


def _id() -> str:
    return uuid.uuid4().hex


class Task(SQLModel, table=True):
    __tablename__ = "naive_tasks"
    id: str = Field(default_factory=_id, primary_key=True)
    provider_task_id: str = Field(unique=True)
    status: str


class Event(SQLModel, table=True):
    __tablename__ = "naive_events"
    id: str = Field(default_factory=_id, primary_key=True)
    task_id: str = Field(index=True)
    body: str


class Delivery(SQLModel, table=True):
    __tablename__ = "naive_deliveries"
    id: str = Field(default_factory=_id, primary_key=True)
    event_id: str = Field(foreign_key="naive_events.id", index=True)
    url: str
    status: str = Field(default="pending", index=True)


def open_engine(url: str) -> Engine:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), pool_size=20)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _pragmas)
    SQLModel.metadata.create_all(engine, [Task.__table__, Event.__table__, Delivery.__table__])  # type: ignore[attr-defined]
    return engine


def _pragmas(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 20000"):
        connection.execute(f"PRAGMA {pragma}")


class Naive:
    def __init__(self, engine: Engine, sinks: Sequence[str]) -> None:
        self._engine = engine
        self._sinks = sinks

    async def push(self, request: Request) -> Response:
        await run_in_threadpool(self.record, await request.json())
        return JSONResponse({"status": "success"})

    def record(self, body: dict[str, Any]) -> None:
        with Session(self._engine) as session:
            task = Task(provider_task_id=body["task_id"], status=body["status"])
            event = Event(
                task_id=task.id, body=json.dumps({"type": "task.succeeded", "data": body})
            )
            session.add_all([task, event])
            session.flush()
            for url in self._sinks or ["http://nobody.invalid"]:
                session.add(Delivery(event_id=event.id, url=url))
            session.commit()

    async def deliver_forever(self) -> None:
        async with httpx.AsyncClient() as client:
            while True:
                pending = await asyncio.to_thread(self.pending)
                await asyncio.gather(*(self.deliver(client, *each) for each in pending))
                if not pending:
                    await asyncio.sleep(LOOK_SECONDS)

    def pending(self) -> list[tuple[Delivery, Event]]:
        query = select(Delivery, Event).join(Event).where(Delivery.status == "pending").limit(BATCH)
        with Session(self._engine) as session:
            return [(delivery, event) for delivery, event in session.exec(query)]

    async def deliver(self, client: httpx.AsyncClient, delivery: Delivery, event: Event) -> None:
        with contextlib.suppress(httpx.HTTPError):
            answer = await client.post(
                delivery.url, content=event.body, headers=_signed(event.id, event.body)
            )
            if answer.is_success:
                await asyncio.to_thread(self.finish, delivery.id)

    def finish(self, delivery_id: str) -> None:
        with Session(self._engine) as session:
            delivery = session.get_one(Delivery, delivery_id)
            delivery.status = "delivered"
            session.commit()


def _signed(event_id: str, body: str) -> dict[str, str]:
    moment = str(time.time_ns() // 10**9)
    digest = hmac.digest(SECRET, f"{event_id}.{moment}.{body}".encode(), hashlib.sha256)
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": moment,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def main() -> None:
    port, url, *sinks = sys.argv[1:]
    naive = Naive(open_engine(url), sinks)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        sending = asyncio.create_task(naive.deliver_forever()) if sinks else None
        yield
        if sending:
            sending.cancel()

    routes = [Route("/push", naive.push, methods=["POST"]), Route("/ready", ready)]
    serve(Starlette(routes=routes, lifespan=lifespan), int(port))


if __name__ == "__main__":
    main()
