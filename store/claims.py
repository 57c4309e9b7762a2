"""Claiming deliveries: a fair share for each subscription, within its limits, under a lease.

A claim moves `due_at` to the lease's end and takes a new fence. Whoever comes back after the lease
ran out finds another fence and changes nothing. What a dead process had claimed is due again by
itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, and_, exists, func, or_, select, text, tuple_, union_all

from store.database import CLAIM_LOCK
from store.deliveries import Delivery, announce_dead
from store.matching import Subscription
from store.tables import deliveries, events, subscriptions, word
from store.writer import Operation, Tx

DEFAULT_MAX_IN_FLIGHT = 32
PARKED_AFTER = 5
"""A delivery whose claims were never finished this often crashes its sender: it is buried."""

_SUBSCRIPTIONS_A_CLAIM = 64
_IN_FLIGHT = word("in_flight")
_OPEN = (word("pending"), _IN_FLIGHT)


@dataclass(frozen=True, slots=True)
class Claim:
    """Who sends, how many deliveries it can take, and for how long it holds them."""

    owner: str
    limit: int
    lease: timedelta


@dataclass(frozen=True, slots=True)
class Catch:
    """What a claim found; next_due is when to look again at the latest, if anything waits."""

    deliveries: tuple[Delivery, ...]
    next_due: datetime | None


def _claim(tx: Tx, claims: Sequence[Claim]) -> list[Catch]:
    tx.database.lock(tx.connection, CLAIM_LOCK)
    return [_claim_one(tx, claim) for claim in claims]


claim: Operation[Claim, Catch] = Operation("claim", _claim, order=9)


def _claim_one(tx: Tx, wish: Claim) -> Catch:
    waiting = waiting_subscriptions(tx)
    _park(tx)
    due = [
        (tx.subscriptions[sid], at)
        for sid, at in waiting
        if at <= tx.now and sid in tx.subscriptions and tx.subscriptions[sid].active
    ]
    shares = _shares(tx, [subscription for subscription, _ in due], wish.limit)
    ids = _pick(tx, shares)
    taken = _lease(tx, ids, wish) if ids else ()
    later = [at for sid, at in waiting if sid in tx.subscriptions and tx.subscriptions[sid].active]
    return Catch(taken, min(later, default=None))


_WAITING = text(
    """
    WITH RECURSIVE hop(sid) AS (
      SELECT min(subscription_id) FROM deliveries WHERE status IN ('pending', 'in_flight')
      UNION ALL
      SELECT (SELECT min(d.subscription_id) FROM deliveries d
              WHERE d.status IN ('pending', 'in_flight') AND d.subscription_id > hop.sid)
      FROM hop WHERE hop.sid IS NOT NULL
    )
    SELECT hop.sid, (SELECT min(d.due_at) FROM deliveries d
      WHERE d.status IN ('pending', 'in_flight') AND d.subscription_id = hop.sid) AS due
    FROM hop WHERE hop.sid IS NOT NULL
    """
).columns(sid=deliveries.c.subscription_id.type, due=deliveries.c.due_at.type)


def waiting_subscriptions(tx: Tx) -> list[tuple[str, datetime]]:
    """Each subscription with open deliveries and its first due time, longest waiting first.

    The query hops from one subscription to the next in the index: 100,000 rows waiting for one
    cost as much as a single one.
    """
    rows = [(row.sid, row.due) for row in tx.connection.execute(_WAITING)]
    return sorted(rows, key=lambda row: row[1])


def _park(tx: Tx) -> None:
    """Bury what five claims could not finish."""
    rows = tx.connection.execute(
        deliveries.update()
        .where(
            deliveries.c.status == _IN_FLIGHT,
            deliveries.c.due_at <= tx.now,
            deliveries.c.claims >= PARKED_AFTER,
        )
        .values(
            status="dead",
            due_at=None,
            finished_at=tx.now,
            last_error=f"parked: {PARKED_AFTER} attempts were started and never finished",
        )
        .returning(deliveries.c.id)
    )
    announce_dead(tx, list(rows.scalars()))


def _shares(tx: Tx, due: Sequence[Subscription], limit: int) -> list[tuple[Subscription, int]]:
    """How many deliveries each subscription may have now: its own limits, then a fair part."""
    if not due:
        return []
    rows = tx.connection.execute(
        select(deliveries.c.subscription_id, func.count())
        .where(deliveries.c.status == _IN_FLIGHT, deliveries.c.due_at > tx.now)
        .group_by(deliveries.c.subscription_id)
    )
    flying = {row[0]: int(row[1]) for row in rows}
    turns = _turns(tx, due)
    shares: list[tuple[Subscription, int]] = []
    left = limit
    for place, subscription in enumerate(due[:_SUBSCRIPTIONS_A_CLAIM]):
        room = (subscription.max_in_flight or DEFAULT_MAX_IN_FLIGHT) - flying.get(
            subscription.id, 0
        )
        fair = max(1, left // (min(len(due), _SUBSCRIPTIONS_A_CLAIM) - place))
        share = min(room, turns.get(subscription.id, limit), fair, left)
        if share > 0:
            shares.append((subscription, share))
            left -= share
    return shares


def _turns(tx: Tx, due: Sequence[Subscription]) -> dict[str, int]:
    """For subscriptions with a rate: how many turns have come up by now."""
    paced = {s.id: s.rate_per_second for s in due if s.rate_per_second}
    if not paced:
        return {}
    rows = tx.connection.execute(
        select(subscriptions.c.id, subscriptions.c.next_send_at).where(
            subscriptions.c.id.in_(paced)
        )
    )
    return {row.id: turns_now(row.next_send_at, float(paced[row.id] or 0), tx.now) for row in rows}


def turns_now(next_send_at: datetime | None, rate: float, now: datetime) -> int:
    """Turns of a subscription with a rate (per second) that may be taken at once.

    A long silence saves up no more than a twentieth of a second's worth, at least one turn.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> turns_now(None, 2.0, noon), turns_now(noon + timedelta(seconds=0.1), 2.0, noon)
    (1, 0)
    """
    most = max(1, int(rate / 20))
    if next_send_at is None:
        return most
    if next_send_at > now:
        return 0
    return min(most, 1 + int((now - next_send_at).total_seconds() * rate))


def after_turns(next_send_at: datetime | None, rate: float, taken: int, now: datetime) -> datetime:
    """When the next turn comes up after `taken` were used."""
    saved = timedelta(seconds=(max(1, int(rate / 20)) - 1) / rate)
    start = max(next_send_at or now - saved, now - saved)
    return start + timedelta(seconds=taken / rate)


def _pick(tx: Tx, shares: Sequence[tuple[Subscription, int]]) -> list[str]:
    if not shares:
        return []
    picks = union_all(*(_next_of(subscription.id, n, tx.now) for subscription, n in shares))
    rows = tx.connection.execute(picks).all()
    _take_turns(tx, shares, [row.subscription_id for row in rows])
    return [row.id for row in rows]


def _next_of(subscription_id: str, limit: int, now: datetime) -> Select[Any]:
    """The next deliveries of a subscription, leaving out those whose task has one before them.

    Before them is whatever is in flight, and what is due and older. A delivery that waits for its
    retry holds nothing back.
    """
    other = deliveries.alias()
    before = exists().where(
        other.c.subscription_id == deliveries.c.subscription_id,
        other.c.task_id == deliveries.c.task_id,
        other.c.id != deliveries.c.id,
        other.c.status.in_(_OPEN),
        or_(
            and_(other.c.status == _IN_FLIGHT, other.c.due_at > now),
            and_(
                other.c.due_at <= now,
                tuple_(other.c.task_version, other.c.id)
                < tuple_(deliveries.c.task_version, deliveries.c.id),
            ),
        ),
    )
    picked = (
        select(deliveries.c.id, deliveries.c.subscription_id)
        .where(
            deliveries.c.subscription_id == subscription_id,
            deliveries.c.status.in_(_OPEN),
            deliveries.c.due_at <= now,
            ~before,
        )
        .order_by(deliveries.c.due_at)
        .limit(limit)
        .subquery()
    )
    return select(picked)


def _take_turns(tx: Tx, shares: Sequence[tuple[Subscription, int]], picked: Sequence[str]) -> None:
    for subscription, _ in shares:
        rate, taken = subscription.rate_per_second, picked.count(subscription.id)
        if rate and taken:
            row = subscriptions.c.id == subscription.id
            turn = tx.connection.execute(select(subscriptions.c.next_send_at).where(row)).scalar()
            tx.connection.execute(
                subscriptions.update()
                .where(row)
                .values(next_send_at=after_turns(turn, rate, taken, tx.now))
            )


def _lease(tx: Tx, ids: list[str], wish: Claim) -> tuple[Delivery, ...]:
    rows = tx.connection.execute(
        deliveries.update()
        .where(deliveries.c.id.in_(ids), deliveries.c.status.in_(_OPEN))
        .values(
            status="in_flight",
            due_at=tx.now + wish.lease,
            owner=wish.owner,
            fence=deliveries.c.fence + 1,
            attempts=deliveries.c.attempts + 1,
            claims=deliveries.c.claims + 1,
        )
        .returning(
            deliveries.c.id,
            deliveries.c.event_id,
            deliveries.c.subscription_id,
            deliveries.c.fence,
            deliveries.c.attempts,
            deliveries.c.failures,
        )
    ).all()
    bodies = {
        row.id: row
        for row in tx.connection.execute(
            select(events).where(events.c.id.in_({row.event_id for row in rows}))
        )
    }
    found = [_delivery(row, bodies[row.event_id], tx.subscriptions) for row in rows]
    return tuple(sorted(found, key=lambda delivery: delivery.id))


def _delivery(row: Row[Any], event: Row[Any], known: Mapping[str, Subscription]) -> Delivery:
    return Delivery(
        id=row.id,
        fence=row.fence,
        attempt=row.attempts,
        failures=row.failures,
        subscription=known[row.subscription_id],
        event_id=event.id,
        event_type=event.type,
        provider=event.provider,
        subject=event.subject,
        event_time=event.created_at,
        body=event.body,
    )
