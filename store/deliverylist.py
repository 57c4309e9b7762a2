"""The list of deliveries as people look through it, and the dead among them, counted.

Open and dead ones have indexes of their own. What has none is looked for over a stretch of so many
deliveries at the most; the page says where the look stopped, so that the next one goes on there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Subquery, and_, exists, func, select

from store.among import among
from store.ids import first_id
from store.tables import deliveries, events, subscriptions, word

STRETCH = 20_000
"""Deliveries that one look goes over."""

COUNTED = 2_000
"""Dead ones that are counted at the most."""

_OPEN = ("pending", "in_flight")
_GIVEN_UP = ("dead", "canceled")
# as their index says it, or it would not serve
_IN_INDEX = deliveries.c.status.in_([word(status) for status in _GIVEN_UP])
_IS_DEAD = and_(_IN_INDEX, deliveries.c.status == word("dead"))


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deliveries; None: no condition."""

    status: str | None = None
    subscription_id: str | None = None
    event_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """A delivery. url, description: as subscriptions show them. newer: a later delivery of the same event there.

    event_type: None when the event is lost, by a hand or a bad disk.
    """

    id: str
    event_id: str
    event_type: str | None
    task_id: str | None
    subscription_id: str
    url: str
    description: str | None
    format: str
    status: str
    attempts: int
    last_error: str | None
    due_at: datetime | None
    created_at: datetime
    finished_at: datetime | None
    newer: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveryList:
    """A page of it, newest first; older, newer: the ids to go on from, None at an end.

    stopped: the look ended at `older` because the stretch was over, not because the page was full.
    """

    deliveries: list[DeliveryLine]
    older: str | None = None
    newer: str | None = None
    stopped: bool = False


def look_through(
    connection: Connection,
    wanted: Filter,
    *,
    limit: int,
    before: str | None = None,
    after: str | None = None,
) -> DeliveryList:
    """The deliveries older than `before`, or newer than `after`, or the newest ones."""
    found = _page(connection, wanted, limit, before, after)
    return replace(found, deliveries=_with_newer(connection, found.deliveries))


def _page(
    connection: Connection, wanted: Filter, limit: int, before: str | None, after: str | None
) -> DeliveryList:
    upwards = after is not None
    direct = _direct(connection, wanted)
    end = None if direct else _end_of_stretch(connection, wanted, before, after)
    # with an index of its own the rest is sorted: the order's index would be walked instead
    order: ColumnElement[Any] = deliveries.c.id.concat("") if direct else deliveries.c.id
    query = LINES.where(*_conditions(wanted, direct=direct)).limit(limit + 1)
    query = query.order_by(order if upwards else order.desc())
    if after is not None:
        query = query.where(deliveries.c.id > after)
        query = query.where(deliveries.c.id <= end) if end else query
    else:
        query = query.where(deliveries.c.id < before) if before else query
        query = query.where(deliveries.c.id >= end) if end else query
    found = [DeliveryLine(*row) for row in connection.execute(query)]
    more, page = len(found) > limit, found[:limit]
    further = page[-1].id if more else end
    stopped = not more and end is not None
    if upwards:
        page.reverse()
        return DeliveryList(page, page[-1].id if page else after, further, stopped)
    newer = page[0].id if page else before
    return DeliveryList(page, further, newer if before else None, stopped)


LINES: Select[Any] = (
    select(
        deliveries.c.id,
        deliveries.c.event_id,
        events.c.type,
        deliveries.c.task_id,
        deliveries.c.subscription_id,
        subscriptions.c.url,
        subscriptions.c.description,
        subscriptions.c.format,
        deliveries.c.status,
        deliveries.c.attempts,
        deliveries.c.last_error,
        deliveries.c.due_at,
        deliveries.c.created_at,
        deliveries.c.finished_at,
    )
    .join(subscriptions, subscriptions.c.id == deliveries.c.subscription_id)
    .outerjoin(events, events.c.id == deliveries.c.event_id)
)


def _direct(connection: Connection, wanted: Filter) -> bool:
    """Whether an index leads to few rows, all that is wanted among them."""
    if wanted.event_id is not None:
        return True
    if wanted.status in _OPEN:
        some = select(deliveries.c.id).where(deliveries.c.finished_at.is_(None))
    else:
        return False
    return connection.execute(some.limit(1).offset(STRETCH)).first() is None


def _conditions(wanted: Filter, *, direct: bool) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.event_id is not None:
        conditions.append(deliveries.c.event_id == wanted.event_id)
    if wanted.subscription_id is not None:
        column = deliveries.c.subscription_id
        better = direct or wanted.status in _GIVEN_UP
        # concat hides the column from its index
        conditions.append((column.concat("") if better else column) == wanted.subscription_id)
    if wanted.status in _GIVEN_UP:
        conditions.append(_IN_INDEX)
    if wanted.status is not None:
        conditions.append(deliveries.c.status == wanted.status)
    if wanted.status in _OPEN and direct:
        conditions.append(deliveries.c.finished_at.is_(None))
    return conditions


def _end_of_stretch(
    connection: Connection, wanted: Filter, before: str | None, after: str | None
) -> str | None:
    """The last id that one look reaches; None when it reaches them all."""
    ids = select(deliveries.c.id).limit(1).offset(STRETCH - 1)
    if wanted.status in _GIVEN_UP:
        ids = ids.where(_IN_INDEX)
    elif wanted.subscription_id is not None:
        ids = ids.where(deliveries.c.subscription_id == wanted.subscription_id)
    if after is not None:
        ids = ids.where(deliveries.c.id > after).order_by(deliveries.c.id)
    else:
        ids = ids.order_by(deliveries.c.id.desc())
        ids = ids.where(deliveries.c.id < before) if before else ids
    end: str | None = connection.execute(ids).scalar()
    return end


def _with_newer(connection: Connection, lines: Sequence[DeliveryLine]) -> list[DeliveryLine]:
    """The dead and canceled ones say which delivery has taken their place."""
    over = {line.event_id for line in lines if line.status in _GIVEN_UP}
    newest = _newest(connection, over)
    return [_with_place(line, newest.get((line.event_id, line.subscription_id))) for line in lines]


def _newest(connection: Connection, event_ids: Collection[str]) -> dict[tuple[str, str], str]:
    """The newest delivery of each of these events to each subscription."""
    if not event_ids:
        return {}
    found = connection.execute(_NEWEST, {"events": list(event_ids)})
    return {(event_id, subscription_id): last for event_id, subscription_id, last in found}


_NEWEST = (
    select(deliveries.c.event_id, deliveries.c.subscription_id, func.max(deliveries.c.id))
    .where(among(deliveries.c.event_id, "events"))
    .group_by(deliveries.c.event_id, deliveries.c.subscription_id)
)


def _with_place(line: DeliveryLine, newest: str | None) -> DeliveryLine:
    return replace(line, newer=newest) if newest is not None and newest > line.id else line


@dataclass(frozen=True, slots=True)
class Dead:
    """Dead deliveries to one subscription that no later one replaces.

    since: when the first of their events was recorded.
    """

    subscription_id: str
    url: str
    description: str | None
    active: bool
    count: int
    since: datetime


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """By subscription, most first. more: there are older ones than were counted."""

    dead: list[Dead]
    more: bool

    @property
    def count(self) -> int:
        return sum(each.count for each in self.dead)


def count_dead(
    connection: Connection,
    *,
    subscription_id: str | None = None,
    since: datetime | None = None,
) -> DeadLetters:
    """The newest ones, up to COUNTED. since: only of events that were recorded from then on."""
    query = _DEAD
    if subscription_id is not None:
        query = query.where(deliveries.c.subscription_id.concat("") == subscription_id)
    if since is not None:  # no delivery is older than its event
        query = query.where(deliveries.c.id >= first_id("dlv", since), events.c.created_at >= since)
    more = query.with_only_columns(deliveries.c.id).limit(1).offset(COUNTED)
    newest = query.order_by(deliveries.c.id.desc()).limit(COUNTED).subquery("dead")
    found = [Dead(*row) for row in connection.execute(_left_by_subscription(newest))]
    return DeadLetters(found, more=connection.execute(more).first() is not None)


_DEAD = (
    select(
        deliveries.c.id,
        deliveries.c.event_id,
        deliveries.c.subscription_id,
        subscriptions.c.url,
        subscriptions.c.description,
        subscriptions.c.active,
        events.c.created_at,
    )
    .join(events, events.c.id == deliveries.c.event_id)
    .join(subscriptions, subscriptions.c.id == deliveries.c.subscription_id)
    .where(_IS_DEAD, subscriptions.c.deleted_at.is_(None))
)


def _left_by_subscription(dead: Subquery) -> Select[Any]:
    """As the fields of Dead; without those in whose place there is a later delivery."""
    later = deliveries.alias("later")
    subscriber = (dead.c.subscription_id, dead.c.url, dead.c.description, dead.c.active)
    # concat: the event's index leads to a handful
    replaced = exists().where(
        later.c.event_id == dead.c.event_id,
        later.c.subscription_id.concat("") == dead.c.subscription_id,
        later.c.id.concat("") > dead.c.id,
    )
    count = func.count()
    return (
        select(*subscriber, count, func.min(dead.c.created_at))
        .where(~replaced)
        .group_by(*subscriber)
        .order_by(count.desc())
    )
