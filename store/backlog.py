"""Deliveries that are kept for a paused subscription: pending, without a due time.

So no claim walks over them. They have an index of their own, by subscription and age, and every
step over them is bounded: however many are kept, nothing holds the writer up for long.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Select, and_, bindparam, case, func, or_, select

from store.matching import Subscription
from store.tables import deliveries, subscriptions, word
from store.text import clean
from store.writer import Tx

STEP = 500
"""Deliveries that one transaction keeps, releases or cancels for a subscription."""

EXPIRED = "expired"
"""Why a delivery was canceled that waited for longer than its event is kept."""

EXPIRING_WITHIN = timedelta(days=1)
"""How long before it expires a kept delivery is announced to do so."""

SKIPPED = "skipped"
"""Why a delivery was canceled that waited when its subscription was resumed without it."""

_AGE = (deliveries.c.created_at, deliveries.c.id)
_IS_KEPT = (deliveries.c.status == word("pending"), deliveries.c.due_at.is_(None))


def keep(tx: Tx, subscription_id: str) -> int:
    """Take the due time from what waits for a paused subscription; return how many it was taken from.

    What a dead process held waits as well; what is being sent is left to its sender.
    """
    some = (
        select(deliveries.c.id)
        .where(
            deliveries.c.subscription_id == subscription_id,
            deliveries.c.finished_at.is_(None),
            deliveries.c.due_at.is_not(None),
            or_(
                deliveries.c.status == word("pending"),
                and_(deliveries.c.status == word("in_flight"), deliveries.c.due_at <= tx.now),
            ),
        )
        .limit(STEP)
    )
    kept = tx.connection.execute(
        deliveries.update()
        .where(deliveries.c.id.in_(some.scalar_subquery()))
        .values(status="pending", due_at=None)
    )
    return kept.rowcount


def release(tx: Tx, subscription_id: str) -> int:
    """Make the oldest kept deliveries due, by their age, so that they go out in order.

    Only as many as claims can use up soon: what is released and not sent yet counts.
    """
    oldest = tx.connection.execute(
        select(deliveries.c.created_at)
        .where(deliveries.c.subscription_id == subscription_id, *_IS_KEPT)
        .order_by(*_AGE)
        .limit(word(1))
    ).first()
    if oldest is None:
        return 0
    released = (
        select(word(1))
        .where(
            deliveries.c.subscription_id == subscription_id,
            deliveries.c.finished_at.is_(None),
            deliveries.c.due_at <= min(oldest.created_at, tx.now),
        )
        .limit(STEP)
        .subquery()
    )
    ready = tx.connection.execute(select(func.count()).select_from(released)).scalar_one()
    some = (
        select(deliveries.c.id)
        .where(deliveries.c.subscription_id == subscription_id, *_IS_KEPT)
        .order_by(*_AGE)
        .limit(max(STEP - ready, STEP // 10))  # some always: those may wait for one that is kept
    )
    created = deliveries.c.created_at
    done = tx.connection.execute(
        deliveries.update()
        .where(deliveries.c.id.in_(some.scalar_subquery()))
        .values(due_at=case((created <= tx.now, created), else_=tx.now))
    )
    return done.rowcount


def skip(tx: Tx, subscription_id: str, through: str | None = None) -> int:
    """Cancel up to STEP deliveries that wait for a subscription; return how many.

    through: the id of the last one to be skipped.
    """
    some = select(deliveries.c.id).where(
        deliveries.c.subscription_id == subscription_id,
        deliveries.c.finished_at.is_(None),
        deliveries.c.status == word("pending"),
    )
    if through is not None:
        # concat: else the index by id would be walked, with all that was ever delivered
        some = some.where(deliveries.c.id.concat("") <= through)
    return cancel(tx, some.limit(STEP), SKIPPED)


def cancel(tx: Tx, some: Select[tuple[str]], reason: str) -> int:
    """Cancel the deliveries of these ids; return how many."""
    done = tx.connection.execute(
        deliveries.update()
        .where(deliveries.c.id.in_(some.scalar_subquery()))
        .values(status="canceled", due_at=None, finished_at=tx.now, last_error=clean(reason, 500))
    )
    return done.rowcount


def newest_waiting(connection: Connection, subscription_id: str) -> str | None:
    """Return the id of the newest delivery that waits for a subscription."""
    query = select(func.max(deliveries.c.id)).where(
        deliveries.c.subscription_id == subscription_id,
        deliveries.c.finished_at.is_(None),
        deliveries.c.status == word("pending"),
    )
    found: str | None = connection.execute(query).scalar()
    return found


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for a subscription. oldest: when the first of what is kept was made, if any is."""

    waiting: int = 0
    oldest: datetime | None = None


def read_backlogs(connection: Connection, subscription_ids: Sequence[str]) -> dict[str, Backlog]:
    """Return what waits for each: all that is neither over nor being sent."""
    if not subscription_ids:
        return {}
    of_these = deliveries.c.subscription_id.in_(subscription_ids)
    open_ = _counts(connection, of_these, deliveries.c.finished_at.is_(None))
    flying = _counts(connection, of_these, deliveries.c.status == word("in_flight"))
    return {
        each: Backlog(
            open_[each] - flying.get(each, 0),
            connection.execute(_OLDEST, {"subscription": each}).scalar(),
        )
        for each in subscription_ids
        if each in open_
    }


def _counts(connection: Connection, *conditions: object) -> dict[str, int]:
    query = select(deliveries.c.subscription_id, func.count()).where(*conditions)  # type: ignore[arg-type]
    return {
        row[0]: row[1] for row in connection.execute(query.group_by(deliveries.c.subscription_id))
    }


_OLDEST = (
    select(deliveries.c.created_at)
    .where(deliveries.c.subscription_id == bindparam("subscription"), *_IS_KEPT)
    .order_by(*_AGE)
    .limit(word(1))
)


@dataclass(frozen=True, slots=True)
class Kept:
    """How much is kept for all paused subscriptions, and how much of it expires soon, by each."""

    count: int
    expiring: Mapping[str, int]


def count_kept(connection: Connection, expiring_before: datetime) -> Kept:
    """Count what is kept; what was made before that moment expires soon."""
    query = select(
        deliveries.c.subscription_id,
        func.count(),
        func.count(case((deliveries.c.created_at < expiring_before, 1))),
    ).where(*_IS_KEPT)
    rows = connection.execute(query.group_by(deliveries.c.subscription_id)).all()
    return Kept(sum(row[1] for row in rows), {row[0]: row[2] for row in rows if row[2]})


def awaited(connection: Connection, event_ids: Collection[str]) -> set[str]:
    """Return those of the events that are kept for somebody."""
    if not event_ids:
        return set()
    query = select(deliveries.c.event_id).where(deliveries.c.event_id.in_(event_ids), *_IS_KEPT)
    return set(connection.execute(query).scalars())


def expire(tx: Tx, event_ids: Collection[str]) -> int:
    """Cancel what is kept of events that retention has passed over; return how many."""
    if not event_ids:
        return 0
    some = select(deliveries.c.id).where(deliveries.c.event_id.in_(event_ids), *_IS_KEPT)
    return cancel(tx, some, EXPIRED)


def settle(tx: Tx, known: Subscription, *, due: bool, kept: bool) -> tuple[int, bool]:
    """Bring what waits for a subscription into line with it, a step.

    due, kept: whether something waits with a due time, and without. Returns how many deliveries
    were released, and whether there is more to do at once.
    """
    if known.skipped_through is not None:
        if skip(tx, known.id, known.skipped_through) == STEP:
            return 0, True
        forget = subscriptions.update().where(subscriptions.c.id == known.id)
        tx.connection.execute(forget.values(skipped_through=None))
        tx.subscriptions_changed()
    if known.paused:
        return 0, due and keep(tx, known.id) == STEP
    return (release(tx, known.id) if kept else 0), False
