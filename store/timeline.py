"""All that happened to one task: what was received, what was recorded, what was sent on."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from store.durations import durations_of, model_of
from store.events import Task, Verdict
from store.rows import task_from_row
from store.tables import attempts, deliveries, events, receipts, subscriptions, tasks

_BEFORE = timedelta(minutes=10)
"""How long before we knew of a task its address may have been challenged: while it was submitted."""

MOST = 200
"""Receipts, events, deliveries and attempts that are read: the first ones of each."""


@dataclass(frozen=True, slots=True)
class Received:
    """A push, and what became of it; or a challenge of the address that it came to."""

    id: str
    at: datetime
    verdict: str
    token_id: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event. source: how its news came. late: the task had been given up by then."""

    id: str
    at: datetime
    type: str
    source: str
    late: bool


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt at a delivery."""

    at: datetime
    number: int
    duration_ms: int
    result: str
    status_code: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Owed:
    """A delivery, and the attempts at it. url: as subscriptions show it."""

    id: str
    at: datetime
    event_id: str
    subscription_id: str
    url: str
    status: str
    due_at: datetime | None
    last_error: str | None
    attempts: list[Tried] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Timeline:
    """usual: the median of seconds that such tasks take, None when it is not known.

    cut: there is more than MOST of something.
    """

    task: Task
    received: list[Received]
    recorded: list[Recorded]
    owed: list[Owed]
    usual: float | None
    cut: bool


def read_timeline(connection: Connection, task_id: str) -> Timeline | None:
    """None when there is no such task."""
    row = connection.execute(select(tasks).where(tasks.c.id == task_id)).first()
    if row is None:
        return None
    task = task_from_row(row)
    received = _received(connection, task_id)
    received[:0] = _challenged(connection, task, {each.token_id for each in received})
    recorded = _recorded(connection, task_id)
    owed = _owed(connection, [event.id for event in recorded])
    tried = _add_attempts(connection, owed)
    learned = durations_of(connection, [model_of(task)]).get(model_of(task))
    return Timeline(
        task,
        received,
        recorded,
        owed,
        usual=learned.quantile(0.5) if learned else None,
        cut=max(len(received), len(recorded), len(owed), tried) >= MOST,
    )


_RECEIVED = (receipts.c.id, receipts.c.received_at, receipts.c.verdict, receipts.c.token_id)


def _challenged(connection: Connection, task: Task, token_ids: Set[str]) -> list[Received]:
    """The last challenge that can have been for this task: nothing in one says which it is for."""
    query = (
        select(*_RECEIVED)
        .where(
            receipts.c.task_id.is_(None),
            receipts.c.received_at.between(task.created_at - _BEFORE, task.created_at),
            receipts.c.verdict == Verdict.CHALLENGE,
            receipts.c.token_id.in_(token_ids),
        )
        .order_by(receipts.c.received_at.desc())
        .limit(1)
    )
    return [Received(*row) for row in connection.execute(query)] if token_ids else []


def _received(connection: Connection, task_id: str) -> list[Received]:
    query = (
        select(*_RECEIVED).where(receipts.c.task_id == task_id).order_by(receipts.c.id).limit(MOST)
    )
    return [Received(*row) for row in connection.execute(query)]


# a body ends with these two (store.outbox): it need not be read for them, however long it is
_END = re.compile(rb'"source":"([a-z]+)","late":(true|false)}}')
_END_BYTES = 48


def _recorded(connection: Connection, task_id: str) -> list[Recorded]:
    end = func.substr(events.c.body, func.length(events.c.body) - _END_BYTES + 1)
    query = (
        select(events.c.id, events.c.created_at, events.c.type, end)
        .where(events.c.task_id == task_id)
        .order_by(events.c.cursor)
        .limit(MOST)
    )
    return [_event(*row) for row in connection.execute(query)]


def _event(event_id: str, at: datetime, event_type: str, end: bytes) -> Recorded:
    found = _END.search(end)
    source, late = (found[1].decode(), found[2] == b"true") if found else ("", False)
    return Recorded(event_id, at, event_type, source, late)


def _owed(connection: Connection, event_ids: Sequence[str]) -> list[Owed]:
    query = (
        select(
            deliveries.c.id,
            deliveries.c.created_at,
            deliveries.c.event_id,
            deliveries.c.subscription_id,
            subscriptions.c.url,
            deliveries.c.status,
            deliveries.c.due_at,
            deliveries.c.last_error,
        )
        .join(subscriptions, subscriptions.c.id == deliveries.c.subscription_id)
        .where(deliveries.c.event_id.in_(event_ids))
        .order_by(deliveries.c.id)
        .limit(MOST)
    )
    return [Owed(*row) for row in connection.execute(query)] if event_ids else []


def _add_attempts(connection: Connection, owed: Sequence[Owed]) -> int:
    """Put each attempt at its delivery; how many there are."""
    of = {delivery.id: delivery.attempts for delivery in owed}
    if not of:
        return 0
    query = (
        select(
            attempts.c.delivery_id,
            attempts.c.started_at,
            attempts.c.number,
            attempts.c.duration_ms,
            attempts.c.result,
            attempts.c.status_code,
            attempts.c.error,
        )
        .where(attempts.c.delivery_id.in_(of))
        .order_by(attempts.c.id)
        .limit(MOST)
    )
    found = connection.execute(query).all()
    for delivery_id, *tried in found:
        of[delivery_id].append(Tried(*tried))
    return len(found)
