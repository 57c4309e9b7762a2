"""Claiming deliveries: a fair share for each subscription, within its limits, under a lease.

A claim moves `due_at` to the lease's end and takes a new fence. Whoever comes back after the lease
ran out finds another fence and changes nothing. What a dead process had claimed is due again by
itself.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    Row,
    Select,
    and_,
    bindparam,
    func,
    or_,
    select,
    text,
    tuple_,
)

from store.among import among
from store.backlog import settle
from store.bulk import Bulk
from store.damaged import what_can_be_read
from store.database import CLAIM_LOCK, unreadable
from store.deliveries import announce_dead
from store.handover import IN_FLIGHT, TIMES_WHAT_IS_LEFT, in_flight
from store.matching import Subscription
from store.outlet import Delivery, Outlet
from store.tables import deliveries, events, subscriptions, tasks, word
from store.writer import Operation, Tx

logger = logging.getLogger("taskbell.store")

PARKED_AFTER = 5
"""A delivery whose claims were never finished this often crashes its sender: it is buried."""

_SUBSCRIPTIONS_A_CLAIM = 64
_LOOK_AGAIN = timedelta(milliseconds=250)
_OPEN = (word("pending"), IN_FLIGHT)


@dataclass(frozen=True, slots=True)
class Claim:
    """Who sends, how many deliveries it can take, and for how long it holds them.

    outlet: its places are taken, so that no more than limit are.
    """

    owner: str
    limit: int
    lease: timedelta
    outlet: Outlet | None = None


@dataclass(frozen=True, slots=True)
class Catch:
    """What a claim found, at what time; next_due is when to look again, if anything waits.

    leftovers: something is still owed to a deleted or disabled subscription, to be canceled.
    """

    deliveries: tuple[Delivery, ...]
    next_due: datetime | None
    now: datetime
    leftovers: bool = False


def _claim(tx: Tx, claims: Sequence[Claim]) -> list[Catch]:
    _park(tx)  # before the lock: it may take the events' lock, which goes first
    tx.lock(CLAIM_LOCK)
    return [_claim_one(tx, claim) for claim in claims]


claim: Operation[Claim, Catch] = Operation("claim", _claim, order=9)


def _claim_one(tx: Tx, wish: Claim) -> Catch:
    waiting = waiting_subscriptions(tx)
    active, kept, more = _settled(tx, waiting)
    due = [subscription for subscription, at in active if at <= tx.now]
    turns = _turns(tx, due)
    limit = tx.reserve(wish.outlet, wish.limit) if wish.outlet else wish.limit
    ids = _pick(tx, _shares(tx, due, turns, limit, spare=wish.outlet is not None), limit)
    taken = _lease(tx, ids, wish) if ids else ()
    if wish.outlet:
        tx.give_back(wish.outlet, limit - len(taken))
        wish.outlet.behind = kept | _behind(tx, due, {d.subscription.id for d in taken})
    looks = [at for _, at in active if at > tx.now]
    looks += [turn.at if turn.ready == 0 else tx.now for turn in turns.values()]
    if len(due) > len(turns):
        # the rest waits for a place in flight, or for the delivery before it: both wake us
        looks.append(tx.now + _LOOK_AGAIN)
    if more:
        looks.append(tx.now)
    known = tx.subscriptions
    leftovers = any(w.id not in known or known[w.id].disabled_reason for w in waiting)
    return Catch(taken, min(looks, default=None), tx.now, leftovers)


def _settled(
    tx: Tx, waiting: Sequence[Waiting]
) -> tuple[list[tuple[Subscription, datetime]], set[str], bool]:
    """Keep what waits for paused subscriptions, release what was kept for those that are active.

    Returns the active ones with their first due time, longest waiting first; those for which some
    is kept still; and whether there is more to do at once.
    """
    active: list[tuple[Subscription, datetime]] = []
    kept: set[str] = set()
    more = False
    for each in waiting:
        known = tx.subscriptions.get(each.id)
        if known is None or not (known.active or known.paused):
            continue
        released = 0
        if each.kept or known.paused or known.skipped_through:
            released, go_on = settle(tx, known, due=each.due is not None, kept=each.kept)
            more = more or go_on
        if known.active and each.kept:
            kept.add(known.id)
        due = min(each.due or tx.now, tx.now) if released else each.due
        if known.active and due is not None:
            active.append((known, due))
    return sorted(active, key=lambda pair: pair[1]), kept, more


def _behind(tx: Tx, due: Sequence[Subscription], served: Collection[str]) -> set[str]:
    """The subscriptions of which this claim left something that is due."""
    left = {subscription.id for subscription in due if subscription.id not in served}
    asked = [{"subscription": subscription_id, "now": tx.now} for subscription_id in served]
    return left | {row.subscription_id for row in _LEFT.ask(tx.connection, asked)}


_LEFT = Bulk(
    select(deliveries.c.subscription_id)
    .where(
        deliveries.c.subscription_id == bindparam("subscription"),
        deliveries.c.finished_at.is_(None),
        deliveries.c.due_at <= bindparam("now"),
    )
    .limit(word(1))
)


def _release(tx: Tx, items: Sequence[None]) -> list[None]:
    tx.connection.execute(
        deliveries.update()
        .where(deliveries.c.status == IN_FLIGHT, deliveries.c.due_at > tx.now)
        .values(due_at=tx.now)
    )
    tx.connection.execute(
        tasks.update()
        .where(tasks.c.next_poll_at > tx.now, tasks.c.poll_claims > 0)
        .values(next_poll_at=tx.now)
    )
    return [None] * len(items)


release: Operation[None, None] = Operation("release", _release)
"""End every lease, of deliveries and of questions. Only for whoever is surely alone on a database:
what the process before it held is then due at once, and not when its leases run out."""


_WAITING = text(
    """
    WITH RECURSIVE hop(sid) AS (
      SELECT min(subscription_id) FROM deliveries WHERE finished_at IS NULL
      UNION ALL
      SELECT (SELECT min(d.subscription_id) FROM deliveries d
              WHERE d.finished_at IS NULL AND d.subscription_id > hop.sid)
      FROM hop WHERE hop.sid IS NOT NULL
    )
    SELECT hop.sid,
      (SELECT min(d.due_at) FROM deliveries d
       WHERE d.finished_at IS NULL AND d.subscription_id = hop.sid
         AND d.due_at IS NOT NULL) AS due,
      (SELECT min(d.created_at) FROM deliveries d
       WHERE d.status = 'pending' AND d.due_at IS NULL AND d.subscription_id = hop.sid) AS kept,
      CASE WHEN s.active OR s.deleted_at IS NOT NULL OR s.disabled_reason IS NOT NULL
           THEN 0 ELSE 1 END AS paused
    FROM hop LEFT JOIN subscriptions s ON s.id = hop.sid
    WHERE hop.sid IS NOT NULL
    """
).columns(sid=deliveries.c.subscription_id.type, due=deliveries.c.due_at.type)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A subscription with open deliveries.

    due: when the first of them is due, None when all are kept without a due time. kept: whether
    some are. paused: as its row says.
    """

    id: str
    due: datetime | None
    kept: bool
    paused: bool


def waiting_subscriptions(tx: Tx) -> list[Waiting]:
    """Each subscription with open deliveries.

    The query hops from one subscription to the next in the index: 100,000 rows waiting for one
    cost as much as a single one.
    """
    rows = _waiting(tx.connection)
    if any(row.due is _UNREADABLE for row in rows):
        _mend(tx)
        rows = _waiting(tx.connection)
    return rows


def first_due(connection: Connection) -> datetime | None:
    """When something is first to be sent, or a lease to be ended: all that an idle look asks.

    What is kept counts as due at once when its subscription is no longer paused.
    """
    moments = [
        _UNREADABLE if each.kept and not each.paused else each.due for each in _waiting(connection)
    ]
    return min((moment for moment in moments if moment is not None), default=None)


def _waiting(connection: Connection) -> list[Waiting]:
    try:
        rows = connection.execute(_WAITING).all()
    except Exception as error:  # what cannot be read fails in many ways; the rest goes on up
        if not unreadable(error):
            raise
        return [Waiting("", _UNREADABLE, kept=False, paused=False)]
    return [
        Waiting(
            row.sid,
            row.due if row.due or row.kept else _UNREADABLE,
            kept=row.kept is not None,
            paused=bool(row.paused),
        )
        for row in rows
    ]


_UNREADABLE = datetime.min.replace(tzinfo=UTC)
"""A due time that is none: a claim makes it now."""


def _mend(tx: Tx) -> None:
    nonsense = [and_(deliveries.c.due_at.is_(None), deliveries.c.status != word("pending"))]
    if not tx.database.postgresql:  # it takes any text for a time
        nonsense += [
            func.strftime("%s", deliveries.c.due_at).is_(None),
            deliveries.c.due_at.not_like(word("____-__-__T%")),
        ]
    mended = tx.connection.execute(
        deliveries.update()
        .where(deliveries.c.finished_at.is_(None), or_(*nonsense))
        .values(due_at=tx.now)
        .returning(deliveries.c.id)
    )
    logger.error("deliveries without a due time are due now: %s", ", ".join(mended.scalars()))


def _park(tx: Tx) -> None:
    """Bury what five claims could not finish."""
    rows = tx.connection.execute(
        deliveries.update()
        .where(
            deliveries.c.status == IN_FLIGHT,
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


def _shares(
    tx: Tx, due: Sequence[Subscription], turns: Mapping[str, _Turn], limit: int, *, spare: bool
) -> list[tuple[Subscription, int]]:
    """How many deliveries each subscription may have now: its own limits, then a fair part.

    Those with the fewest in flight come first, and of these the longest waiting. spare: limit is
    all that is left, and nobody takes the last places (store/handover.py).
    """
    if not due:
        return []
    flying = in_flight(tx)
    most = TIMES_WHAT_IS_LEFT * limit if spare else sys.maxsize
    room = {
        s.id: min(
            min(s.places, most) - flying.get(s.id, 0),
            turns[s.id].ready if s.id in turns else limit,
        )
        for s in due
    }
    able = [subscription for subscription in due if room[subscription.id] > 0]
    able.sort(key=lambda subscription: flying.get(subscription.id, 0))
    able = able[:_SUBSCRIPTIONS_A_CLAIM]
    shares: list[tuple[Subscription, int]] = []
    left = limit
    for place, subscription in enumerate(able):
        fair = left // (len(able) - place)
        if spare:
            fair = min(fair, _sparing(left, flying.get(subscription.id, 0)))
        # at least one, also beyond the limit: those before may have nothing that can go now
        share = min(room[subscription.id], max(1, fair))
        shares.append((subscription, share))
        left -= share
    return shares


def _sparing(left: int, flying: int) -> int:
    """How many more a subscription may have, of what is left, so that enough is left then.

    >>> _sparing(256, flying=0), _sparing(28, flying=228), _sparing(1, flying=0)
    (228, 0, 1)
    """
    return max(0, -((flying - TIMES_WHAT_IS_LEFT * left) // (TIMES_WHAT_IS_LEFT + 1)))


@dataclass(frozen=True, slots=True)
class _Turn:
    """How many turns of a paced subscription have come up, and when the next one does."""

    ready: int
    at: datetime


def _turns(tx: Tx, due: Sequence[Subscription]) -> dict[str, _Turn]:
    """Of the due subscriptions that have a rate."""
    paced = {s.id: s.rate_per_second for s in due if s.rate_per_second}
    if not paced:
        return {}
    rows = tx.connection.execute(
        select(subscriptions.c.id, subscriptions.c.next_send_at).where(
            subscriptions.c.id.in_(paced)
        )
    )
    return {
        row.id: _Turn(
            turns_now(row.next_send_at, float(paced[row.id] or 0), tx.now),
            row.next_send_at or tx.now,
        )
        for row in rows
    }


def turns_now(next_send_at: datetime | None, rate: float, now: datetime) -> int:
    """Turns of a subscription with a rate (per second) that may be taken at once.

    A long silence saves up no more than a twentieth of a second's worth, at least one turn, and
    what can be saved up is taken off the pace: no second ever holds more than rate + 1 turns.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> turns_now(None, 2.0, noon), turns_now(noon + timedelta(seconds=0.1), 2.0, noon)
    (1, 0)
    """
    most, pace = _pace(rate)
    if next_send_at is None:
        return most
    if next_send_at > now:
        return 0
    return min(most, 1 + int((now - next_send_at).total_seconds() * pace))


def after_turns(next_send_at: datetime | None, rate: float, taken: int, now: datetime) -> datetime:
    """When the next turn comes up after `taken` were used."""
    most, pace = _pace(rate)
    saved = timedelta(seconds=(most - 1) / pace)
    start = max(next_send_at or now - saved, now - saved)
    return start + timedelta(seconds=taken / pace)


def _pace(rate: float) -> tuple[int, float]:
    """Of a rate: how many turns can be saved up, and how many come up in a second."""
    most = max(1, int(rate / 20))
    return most, rate + 1 - most


def _pick(tx: Tx, shares: Sequence[tuple[Subscription, int]], limit: int) -> list[str]:
    wishes = [{"subscription": s.id, "share": share, "now": tx.now} for s, share in shares]
    rows = _NEXT.ask(tx.connection, wishes)[:limit]
    _take_turns(tx, shares, [row.subscription_id for row in rows])
    return [row.id for row in rows]


def _next() -> Select[Any]:
    """The next deliveries of a subscription, leaving out those whose task has one before them.

    Before them is whatever is in flight, and what is older and due, or kept without a due time. A
    delivery that waits for its retry holds nothing back.
    """
    other, now = deliveries.alias(), bindparam("now", type_=deliveries.c.due_at.type)
    # Without fresh statistics PostgreSQL would compare every waiting delivery with every other: by a
    # join if this were NOT EXISTS, by ix_deliveries_due if that served the subscription's id. So it
    # can only look up the task, in ix_deliveries_lane.
    before = (
        select(word(1))
        .where(
            other.c.task_id == deliveries.c.task_id,
            other.c.task_id.is_not(None),
            other.c.subscription_id.concat(word("")) == deliveries.c.subscription_id,
            other.c.id != deliveries.c.id,
            other.c.status.in_(_OPEN),
            or_(
                and_(other.c.status == IN_FLIGHT, other.c.due_at > now),
                and_(
                    or_(other.c.due_at <= now, other.c.due_at.is_(None)),
                    tuple_(other.c.task_version, other.c.id)
                    < tuple_(deliveries.c.task_version, deliveries.c.id),
                ),
            ),
        )
        .correlate_except(other)
        .limit(word(1))
        .scalar_subquery()
    )
    return (
        select(deliveries.c.id, deliveries.c.subscription_id)
        .where(
            deliveries.c.subscription_id == bindparam("subscription"),
            deliveries.c.finished_at.is_(None),
            deliveries.c.due_at <= now,
            before.is_(None),
        )
        .order_by(deliveries.c.due_at)
        .limit(bindparam("share", type_=Integer))
    )


_NEXT = Bulk(_next())


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
    terms = {"ids": ids, "now": tx.now, "until": tx.now + wish.lease, "sender": wish.owner}
    rows = tx.connection.execute(_LEASE, terms).all()
    bodies = _bodies(tx, {row.event_id for row in rows})
    _bury(tx, [row.id for row in rows if row.event_id not in bodies])
    found = [
        _delivery(row, bodies[row.event_id], tx.subscriptions)
        for row in rows
        if row.event_id in bodies
    ]
    return tuple(sorted(found, key=lambda delivery: delivery.id))


def _bodies(tx: Tx, event_ids: Collection[str]) -> dict[str, Row[Any]]:
    """Those events, without what is missing or cannot be read."""
    try:
        return {row.id: row for row in tx.connection.execute(_BODIES, {"ids": event_ids})}
    except Exception as error:  # what cannot be read fails in many ways; the rest goes on up
        if not unreadable(error):
            raise
    found = what_can_be_read(
        event_ids,
        lambda event_id: tx.connection.execute(_BODIES, {"ids": {event_id}}).all(),
        lambda event_id, why: logger.error("event %s cannot be read: %s", event_id, why),
    )
    return {row.id: row for rows in found for row in rows}


def _bury(tx: Tx, ids: Sequence[str]) -> None:
    """What cannot be sent. Without its event there is nothing to announce either."""
    if ids:
        tx.connection.execute(
            deliveries.update()
            .where(deliveries.c.id.in_(ids))
            .values(
                status="dead",
                due_at=None,
                finished_at=tx.now,
                last_error="parked: its event is missing or cannot be read",
            )
        )


_LEASE = (
    deliveries.update()
    # still due: another process may have finished one whose lease had run out
    .where(among(deliveries.c.id, "ids"), deliveries.c.due_at <= bindparam("now"))
    .values(
        status="in_flight",
        due_at=bindparam("until"),
        owner=bindparam("sender"),
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
)
_BODIES: Select[Any] = select(
    events.c.id,
    events.c.type,
    events.c.provider,
    events.c.subject,
    events.c.created_at,
    events.c.body,
).where(among(events.c.id, "ids"))


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
