"""What is done to a server before it starts, in its own process, and never in anybody's settings.

Each function is a trick, and takes what it is given as JSON. Some make a fault, some take away a
defence, to see that its loss is noticed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from deploy import serving
from dispatch import connection as connection_module
from dispatch import worker as worker_module
from dispatch.backoff import next_delay
from dispatch.sending import Sender
from dispatch.sending import Sent as SentEvent
from dispatch.sink import Outcome, Result
from store import claims, database, rounds, writer
from store import clock as clock_module
from store.clock import Clock, system_clock
from store.events import Task, Verdict
from store.matching import DEFAULT_MAX_IN_FLIGHT, Subscription
from store.records import Recorded, Report, record
from store.sessions import Sessions
from store.store import Store
from store.writer import Operation


def lease_margin(seconds: float) -> None:
    """Hold deliveries only so much longer than an attempt, or even shorter."""
    _replace(worker_module, "LEASE_MARGIN", timedelta(seconds=seconds))


def look_every(seconds: float) -> None:
    """Rest so long between two looks at the store."""
    _replace(rounds, "LOOK_SECONDS", seconds)


def retry_sooner(factor: float) -> None:
    """Wait only for that part of the time that a failed delivery should wait."""

    def sooner(*what: Any) -> timedelta | None:
        wait = next_delay(*what)
        return None if wait is None else wait * factor

    _replace(worker_module, "next_delay", sooner)


def keep_leases(_: object) -> None:
    """Leave what the last process held with it, also where we are alone."""
    _replace(serving, "release", Operation("keep", lambda _tx, items: [None] * len(items)))


def answer_early(seconds: float) -> None:
    """Acknowledge a push so long before it is written."""
    write = Store.write

    async def early(self: Store, operation: Operation[Any, Any], item: Any) -> Any:
        if operation.name != record.name:
            return await write(self, operation, item)
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, lambda: loop.create_task(write(self, operation, item)))
        return Recorded(Verdict.RECORDED, _task(item))

    _replace(Store, "write", early)


def _task(report: Report) -> Task:
    now = system_clock()
    return Task("task", report.provider, report.provider_task_id, now, now, now)


def send_late(seconds: float) -> None:
    """Call a delivery delivered so long before it is sent."""
    send = Sender.send

    async def late(self: Sender, *what: Any) -> SentEvent:
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, lambda: loop.create_task(send(self, *what)))
        return SentEvent(Outcome(Result.DELIVERED), None, system_clock(), timedelta(0))

    _replace(Sender, "send", late)


def send_slowly(seconds: float) -> None:
    """Take so long before each send."""
    send = Sender.send

    async def slow(self: Sender, *what: Any) -> SentEvent:
        await asyncio.sleep(seconds)
        return await send(self, *what)

    _replace(Sender, "send", slow)


def busy_timeout(seconds: float) -> None:
    """Wait only so long for the SQLite file's write lock."""
    _replace(database, "BUSY_TIMEOUT_SECONDS", seconds)


def sync_rarely(_: object) -> None:
    """Let SQLite commit without waiting for the disk."""
    pragmas = database._sqlite_pragmas

    def loosely(connection: sqlite3.Connection, entry: object) -> None:
        pragmas(connection, entry)
        connection.execute("PRAGMA synchronous = NORMAL")

    _replace(database, "_sqlite_pragmas", loosely)


def trust_rows(_: object) -> None:
    """Take every row of the database for what it should be."""

    def trusted(ids: Sequence[str]) -> None:
        if ids:
            raise KeyError(ids[0])

    _replace(claims, "_bury", lambda _tx, ids: trusted(ids))


def trust_the_clock(_: object) -> None:
    """Take a clock that was set back for one that was not; on PostgreSQL the process's own."""
    _replace(writer, "set_back", lambda _connection, by: None)

    def now(_: object, connection: Connection, clock: Clock, value: str) -> tuple[datetime, Any]:
        return clock(), connection.exec_driver_sql(value).scalar()

    _replace(database.Database, "now", now)


def clock_file(path: str) -> None:
    """Let the wall clock be as many seconds ahead as the file says."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            ahead = timedelta(seconds=float(Path(path).read_text() or 0))
            return datetime.now(tz) + ahead  # noqa: TID251 - this is the clock

    _replace(clock_module, "datetime", Shifted)


def die_before_commit(passes: int) -> None:
    """With a push's rows inserted, at the so-manyth time."""
    run, passed = record.run, _fuse(passes)

    def dying(tx: Any, reports: Any) -> Any:
        answers = run(tx, reports)
        assert tx.connection  # PostgreSQL was told of nothing until somebody asks
        passed()
        return answers

    object.__setattr__(record, "run", dying)


def die_after_commit(passes: int) -> None:
    """With a push committed and nobody told."""
    run, committed, passed = record.run, Store._committed, _fuse(passes)
    pushes = False

    def noting(tx: Any, reports: Any) -> Any:
        nonlocal pushes
        pushes = True
        return run(tx, reports)

    def dying(self: Store, topics: set[str]) -> None:
        nonlocal pushes
        if pushes:
            passed()
        pushes = False
        committed(self, topics)

    object.__setattr__(record, "run", noting)
    _replace(Store, "_committed", dying)


def die_before_sending(passes: int) -> None:
    """With a delivery claimed."""
    send, passed = Sender.send, _fuse(passes)

    async def dying(self: Sender, *what: Any) -> SentEvent:
        passed()
        return await send(self, *what)

    _replace(Sender, "send", dying)


def die_after_sending(passes: int) -> None:
    """With a delivery taken by its subscriber, and not marked."""
    send, passed = Sender.send, _fuse(passes)

    async def dying(self: Sender, *what: Any) -> SentEvent:
        sent = await send(self, *what)
        passed()
        return sent

    _replace(Sender, "send", dying)


def _replace(where: object, name: str, by: object) -> None:
    setattr(where, name, by)


def _fuse(passes: int) -> Callable[[], None]:
    left = passes

    def passed() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return passed


def keep_places(_: object) -> None:
    """Let a subscription that only fails have as many deliveries in flight as any other."""
    Subscription.places = property(  # type: ignore[assignment]
        lambda self: self.max_in_flight or DEFAULT_MAX_IN_FLIGHT
    )


def read_on(_: object) -> None:
    """Read a subscriber's answer however long it is."""
    connection_module.LONGEST_BODY = connection_module._LONGEST_ANSWER = 1 << 40


def prepare_on_lent_connections(_: object) -> None:
    """Prepare statements also where the next transaction runs on another connection."""
    untold = Sessions.untold

    def preparing(self: Sessions, arguments: Any) -> Any:
        connection = untold(self, arguments)
        connection.prepare_threshold = 1
        return connection

    _replace(Sessions, "untold", preparing)


def tell_lent_connections_nothing(_: object) -> None:
    """Take the settings of whatever connection is lent."""
    _replace(database.Database, "first", lambda _self, _connection: [])
