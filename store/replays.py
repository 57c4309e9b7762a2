"""Delivering again what a subscription was owed, or would have been, in bounded parts.

Finding reads a part of the events and blocks nobody; writing takes what was found and looks once
more, so that two replays of the same events at once make one delivery of each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, Select, null, select

from store.errors import NotFoundError, StoreError
from store.events import Interest, wants
from store.ids import first_id
from store.matching import Subscription, interested
from store.outbox import delivery_row, insert_events
from store.tables import deliveries, events, subscriptions
from store.writer import Operation, Tx

STRIDE = 10_000
"""Events that one reading goes over, however few of them are wanted."""

MOST = 1_000
"""Deliveries that one replay makes."""

_UNDER_WAY = ("pending", "in_flight")

EndStatus = Literal["delivered", "dead", "canceled"]


@dataclass(frozen=True, slots=True)
class Span:
    """Which events: recorded from since (inclusive) until (exclusive), of these types.

    status: only those whose newest delivery to the subscription ended so. Without one: all that
    the subscription wants, delivered before or not.
    """

    since: datetime | None = None
    until: datetime | None = None
    types: tuple[str, ...] | None = None
    status: EndStatus | None = None

    def holds(self, moment: datetime) -> bool:
        return (self.since is None or self.since <= moment) and (
            self.until is None or moment < self.until
        )


@dataclass(frozen=True, slots=True)
class Found:
    """Ids of events, oldest first, and the one to go on behind; None: there is nothing more."""

    event_ids: list[str]
    following: str | None


def find(
    connection: Connection,
    subscription: Subscription,
    span: Span,
    *,
    after: str | None,
    limit: int | None,
) -> Found:
    """The next part of what a replay would deliver, behind the event `after`.

    Left out is what is on its way to the subscription already.
    """
    found: list[str] = []
    seen = 0
    last = after
    for row in _stretch(connection, subscription, span, after):
        if limit is not None and len(found) == limit:
            return Found(found, last)
        seen, last = seen + 1, row.id
        if _wanted(row, subscription, span):
            found.append(row.id)
    return Found(found, last if seen == STRIDE else None)


def _stretch(
    connection: Connection, subscription: Subscription, span: Span, after: str | None
) -> Iterator[Row[Any]]:
    picky = subscription.interest.metadata or subscription.condition
    body = events.c.body if picky and span.status is None else null().label("body")
    newest = _newest_status(subscription.id).label("newest")
    query: Select[Any] = select(
        events.c.id, events.c.type, events.c.provider, events.c.created_at, body, newest
    )
    if span.since is not None:
        # an id's time is never before its event's: the index leads to the span's beginning
        query = query.where(events.c.id >= first_id("evt", span.since))
    if after is not None:
        query = query.where(events.c.id > after)
    yield from connection.execute(query.order_by(events.c.id).limit(STRIDE))


def _newest_status(subscription_id: str) -> ColumnElement[Any]:
    """Of an event's deliveries to a subscription; null when there was none."""
    return (
        select(deliveries.c.status)
        .where(deliveries.c.event_id == events.c.id)
        # concat: else an index would be taken for the order's sake, and walked for every event
        .where(deliveries.c.subscription_id.concat("") == subscription_id)
        .order_by(deliveries.c.id.concat("").desc())
        .limit(1)
        .correlate(events)
        .scalar_subquery()
    )


def _wanted(row: Row[Any], subscription: Subscription, span: Span) -> bool:
    if row.newest in _UNDER_WAY or not span.holds(row.created_at):
        return False
    if span.types is not None and not wants(Interest(types=span.types), row.type, None, {}):
        return False
    if span.status is not None:
        return bool(row.newest == span.status)
    metadata = json.loads(row.body)["data"].get("task", {}).get("metadata", {}) if row.body else {}
    known = {subscription.id: subscription}
    return bool(interested(known, row.type, row.provider, metadata, row.body))


@dataclass(frozen=True, slots=True)
class Again:
    """Deliver these events to a subscription once more."""

    subscription_id: str
    event_ids: Sequence[str]


def _deliver_again(tx: Tx, items: Sequence[Again]) -> list[list[str] | StoreError]:
    return [_deliver_one_again(tx, item) for item in items]


deliver_again: Operation[Again, list[str]] = Operation("deliver_again", _deliver_again)
"""Answers the ids of the deliveries it made: none for an event that is on its way meanwhile."""


def _deliver_one_again(tx: Tx, item: Again) -> list[str] | StoreError:
    if item.subscription_id not in tx.subscriptions:
        return NotFoundError(f"no subscription {item.subscription_id}")
    # one replay to a subscription at a time, also across processes
    own = select(subscriptions.c.id).where(subscriptions.c.id == item.subscription_id)
    tx.connection.execute(tx.database.locked(own))
    newest = _newest_status(item.subscription_id).label("newest")
    query = select(events.c.id, events.c.task_id, events.c.version, newest)
    found = tx.connection.execute(
        query.where(events.c.id.in_(item.event_ids)).order_by(events.c.id)
    )
    rows = [
        delivery_row(dict(event._mapping), item.subscription_id, tx.now)
        for event in found
        if event.newest not in _UNDER_WAY
    ]
    insert_events(tx, [], rows)
    return [row["id"] for row in rows]
