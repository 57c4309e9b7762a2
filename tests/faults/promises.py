"""What must be true of a database once a fault is over: nothing lost, nothing stuck, nothing made up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from store.database import open_database
from tests.faults.arrivals import Arrivals
from tests.faults.pushes import Told

_OPEN = "SELECT count(*) FROM deliveries WHERE status IN ('pending', 'in_flight')"
_EVENTS = """
    SELECT e.id, e.type, t.provider_task_id AS task
    FROM events e LEFT JOIN tasks t ON t.id = e.task_id
"""
_DELIVERIES = """
    SELECT d.event_id, d.status, d.last_error, s.url
    FROM deliveries d LEFT JOIN subscriptions s ON s.id = d.subscription_id
"""


@dataclass(frozen=True, slots=True)
class Found:
    """lost: acknowledged pushes without an event, and events that a subscriber never got.

    broken: every promise that does not hold, in words.
    """

    lost: int
    doubled: int
    broken: tuple[str, ...]


def check(url: str, told: Told, subscribers: Sequence[Arrivals], *, most_doubled: int) -> Found:
    """Hold a database that nobody uses any more against what was pushed and what arrived."""
    with asked(url) as connection:
        return _check(_Rows(connection), told, subscribers, most_doubled)


@contextlib.contextmanager
def asked(url: str) -> Iterator[Connection]:
    with _opened(url) as engine, engine.begin() as connection:
        yield connection


@contextlib.contextmanager
def _opened(url: str) -> Iterator[Engine]:
    database = open_database(url)
    try:
        yield database.reader
    finally:
        database.dispose()


async def settled(url: str, seconds: float) -> float:
    """Wait until no delivery is owed; the seconds that took. Raises TimeoutError."""
    began = time.monotonic()
    with _opened(url) as engine:
        while left := await asyncio.to_thread(_left, engine):
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"{left} deliveries were still owed after {seconds:g} s")
            await asyncio.sleep(0.05)
    return time.monotonic() - began


def _left(engine: Engine) -> int:
    with engine.begin() as connection:
        return int(connection.execute(text(_OPEN)).scalar_one())


class _Rows:
    """What the database holds."""

    def __init__(self, connection: Connection) -> None:
        self.events = connection.execute(text(_EVENTS)).all()
        self.deliveries = connection.execute(text(_DELIVERIES)).all()
        self.sound = "ok"
        if connection.dialect.name == "sqlite":
            self.sound = connection.execute(text("PRAGMA integrity_check")).scalar_one()


def _check(rows: _Rows, told: Told, subscribers: Sequence[Arrivals], most_doubled: int) -> Found:
    made = Counter(row.task for row in rows.events if row.task)
    event_ids = {row.id for row in rows.events}
    unrecorded = told.acknowledged - made.keys()
    owed = {row.id for row in rows.events if row.task}  # the others go to whoever asks for them
    unsent = [miss for one in subscribers for miss in _missed(rows, owed, one)]
    doubled = sum(one.doubled for one in subscribers)
    arrived = {event_id for one in subscribers for event_id in one.counts}
    several = [ids for one in subscribers for ids in one.ids.values() if len(ids) > 1]
    return Found(
        lost=len(unrecorded) + len(unsent),
        doubled=doubled,
        broken=_said(
            (unrecorded, "acknowledged pushes without an event"),
            (unsent, "events that a subscriber should have got and did not"),
            ([task for task, count in made.items() if count > 1], "tasks with two events"),
            (made.keys() - told.sent, "events that nobody pushed"),
            (several, "tasks delivered under two webhook-ids"),
            (arrived - event_ids, "deliveries of no known event"),
            (_astray(rows, event_ids), "delivery rows of no known event or subscription"),
            (_open(rows), "deliveries still owed"),
            (_unexplained(rows), "dead deliveries without a reason"),
            (range(max(0, doubled - most_doubled)), f"doubled beyond the {most_doubled} allowed"),
            ([] if rows.sound == "ok" else [rows.sound], f"unsound file: {rows.sound}"),
        ),
    )


def _said(*findings: tuple[Collection[object], str]) -> tuple[str, ...]:
    return tuple(f"{len(found)} {what}" for found, what in findings if found)


def _missed(rows: _Rows, owed: set[str], one: Arrivals) -> list[str]:
    """Events that neither came nor lie among the dead."""
    buried = {
        row.event_id for row in rows.deliveries if row.url == one.url and row.status == "dead"
    }
    return sorted(owed - one.counts.keys() - buried)


def _astray(rows: _Rows, event_ids: Collection[str]) -> list[str]:
    return [r.event_id for r in rows.deliveries if r.event_id not in event_ids or r.url is None]


def _open(rows: _Rows) -> list[str]:
    return [row.event_id for row in rows.deliveries if row.status in ("pending", "in_flight")]


def _unexplained(rows: _Rows) -> list[str]:
    return [row.event_id for row in rows.deliveries if row.status == "dead" and not row.last_error]
