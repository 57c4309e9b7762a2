"""One event, or one delivery of it, with all that people want to know about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from store.deliveries import AttemptView
from store.deliverylist import LINES, DeliveryLine, Filter, look_through
from store.events import Source, Verdict
from store.matching import Subscription, subscription_from_row
from store.tables import attempts, deliveries, events, receipts, subscriptions

MOST = 50
"""Deliveries of an event, or attempts at a delivery, that are read: the newest."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event; body is the exact JSON that every subscriber gets."""

    cursor: int
    id: str
    type: str
    provider: str | None
    task_id: str | None
    subject: str
    created_at: datetime
    body: bytes

    @property
    def data(self) -> Mapping[str, Any]:
        """The body's data; nothing when a hand or a bad disk has cut it."""
        try:
            found = json.loads(self.body)["data"]
        except (ValueError, LookupError, TypeError):
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class Push:
    """A push as it was received. verdict: what became of it (store.events.Verdict)."""

    id: str
    token_id: str
    received_at: datetime
    verdict: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class EventStory:
    """push: the one that brought the event, or whose news a question confirmed; None: not kept.

    cut: there are more than MOST deliveries.
    """

    event: StoredEvent
    push: Push | None
    deliveries: list[DeliveryLine]
    cut: bool


@dataclass(frozen=True, slots=True)
class DeliveryStory:
    """event: None when it is lost. attempts: newest first; cut: there are older ones, too."""

    line: DeliveryLine
    event: StoredEvent | None
    subscription: Subscription
    attempts: list[AttemptView]
    cut: bool


def read_event(connection: Connection, event_id: str) -> StoredEvent | None:
    row = connection.execute(select(*_EVENT).where(events.c.id == event_id)).first()
    return StoredEvent(*row) if row else None


_EVENT = (
    *(events.c.cursor, events.c.id, events.c.type, events.c.provider, events.c.task_id),
    *(events.c.subject, events.c.created_at, events.c.body),
)


def read_event_story(connection: Connection, event_id: str) -> EventStory | None:
    """None when there is no such event."""
    event = read_event(connection, event_id)
    if event is None:
        return None
    found = look_through(connection, Filter(event_id=event_id), limit=MOST)
    push = _push_behind(connection, event)
    return EventStory(event, push, found.deliveries, cut=found.older is not None)


_PUSH = (
    *(receipts.c.id, receipts.c.token_id, receipts.c.received_at, receipts.c.verdict),
    receipts.c.raw,
)


def _push_behind(connection: Connection, event: StoredEvent) -> Push | None:
    """The push that was recorded in the event's own transaction, which gave both its time.

    Where one transaction recorded several about the task, the n-th push made the n-th event; None
    when they do not pair off.
    """
    if event.task_id is None:
        return None
    made = connection.scalars(
        select(events.c.cursor)
        .where(events.c.task_id == event.task_id, events.c.created_at == event.created_at)
        .order_by(events.c.cursor)
    ).all()
    came = connection.execute(
        select(*_PUSH)
        .where(receipts.c.task_id == event.task_id, receipts.c.received_at == event.created_at)
        .where(receipts.c.verdict == Verdict.RECORDED)
        .order_by(receipts.c.id)
        .limit(len(made) + 1)
    ).all()
    if not came:
        return _push_confirmed(connection, event)
    return Push(*came[made.index(event.cursor)]) if len(came) == len(made) else None


def _push_confirmed(connection: Connection, event: StoredEvent) -> Push | None:
    """The unsigned push that waited for the provider's word, and with it became the event."""
    if event.data.get("source") != Source.PUSH:
        return None
    row = connection.execute(
        select(*_PUSH)
        .where(receipts.c.task_id == event.task_id, receipts.c.received_at <= event.created_at)
        .where(receipts.c.verdict == Verdict.HELD)
        .order_by(receipts.c.id.desc())
        .limit(1)
    ).first()
    return Push(*row) if row else None


def read_delivery_story(connection: Connection, delivery_id: str) -> DeliveryStory | None:
    """None when there is no such delivery."""
    line = _line(connection, delivery_id)
    if line is None:
        return None
    row = connection.execute(
        select(subscriptions).where(subscriptions.c.id == line.subscription_id)
    ).one()
    tries = _attempts(connection, delivery_id)
    return DeliveryStory(
        line,
        read_event(connection, line.event_id),
        subscription_from_row(row),
        tries[:MOST],
        cut=len(tries) > MOST,
    )


def _line(connection: Connection, delivery_id: str) -> DeliveryLine | None:
    row = connection.execute(LINES.where(deliveries.c.id == delivery_id)).first()
    if row is None:
        return None
    line = DeliveryLine(*row)
    beside = look_through(connection, Filter(event_id=line.event_id), limit=MOST).deliveries
    return next((each for each in beside if each.id == line.id), line)


def _attempts(connection: Connection, delivery_id: str) -> list[AttemptView]:
    query = (
        select(
            attempts.c.number,
            attempts.c.started_at,
            attempts.c.duration_ms,
            attempts.c.result,
            attempts.c.status_code,
            attempts.c.error,
            attempts.c.answer,
        )
        .where(attempts.c.delivery_id == delivery_id)
        .order_by(attempts.c.number.desc(), attempts.c.id.desc())
        .limit(MOST + 1)
    )
    return [AttemptView(*row) for row in connection.execute(query)]
