"""Handing deliveries to the dispatcher of this process in the transaction that makes them.

They are written already leased, so nobody has to look for them. What cannot go at once (no place
free, the subscription's limits, another delivery before it) is written as waiting, and from then on
its subscription's deliveries wait behind it until a claim has found them all.

Nobody takes the last places: a subscription has no more in flight than eight times what is left.
So there are some for the others, also when dozens are slow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, func, or_, select, text

from store.among import among
from store.bulk import Bulk
from store.database import CLAIM_LOCK
from store.matching import Subscription
from store.outlet import Delivery, Outlet
from store.tables import OPEN, deliveries, word
from store.writer import Tx

IN_FLIGHT = word("in_flight")
TIMES_WHAT_IS_LEFT = 8
"""What a subscription may have in flight, counted in places that are left then."""


def hand_over(
    tx: Tx, event_rows: Sequence[Mapping[str, Any]], delivery_rows: Sequence[dict[str, Any]]
) -> bool:
    """Lease to this process's dispatcher those of the new deliveries that may go at once.

    Changes their rows, which are not written yet. False when some must wait for a claim.
    """
    outlet = tx.outlet
    if outlet is None:
        return False
    events = {event["id"]: event for event in event_rows}
    gate = _Gate(tx, outlet, delivery_rows)
    able = [row for row in delivery_rows if row["event_id"] in events and gate.lets(row)]
    granted = tx.reserve(outlet, len(able))
    for row in able[:granted]:
        row |= {
            "status": "in_flight",
            "due_at": tx.now + outlet.lease,
            "owner": outlet.owner,
            "fence": 1,
            "attempts": 1,
            "claims": 1,
        }
        known = tx.subscriptions[row["subscription_id"]]
        tx.handed.append(_delivery(row, events[row["event_id"]], known))
    waiting = {row["subscription_id"] for row in delivery_rows if row["status"] == "pending"}
    outlet.behind = {*outlet.behind, *waiting}
    return not waiting


class _Gate:
    """Which new deliveries may go at once."""

    def __init__(self, tx: Tx, outlet: Outlet, delivery_rows: Sequence[Mapping[str, Any]]) -> None:
        tx.lock(CLAIM_LOCK)  # claims count what is in flight, too
        self._known = tx.subscriptions
        self._behind = set(outlet.behind)
        self._left = outlet.free
        self._flying = Counter(in_flight(tx))
        self._lanes = _lanes_in_use(tx, delivery_rows)

    def lets(self, row: Mapping[str, Any]) -> bool:
        subscription_id: str = row["subscription_id"]
        subscription = self._known.get(subscription_id)
        lane = (row["task_id"], subscription_id)
        if (
            subscription is None
            or subscription.rate_per_second  # turns are taken by claims
            or subscription_id in self._behind
            or self._flying[subscription_id] >= self._most(subscription)
            or lane in self._lanes
        ):
            self._behind.add(subscription_id)  # whatever comes after it must not overtake it
            return False
        self._flying[subscription_id] += 1
        self._left -= 1
        if row["task_id"]:
            self._lanes.add(lane)
        return True

    def _most(self, subscription: Subscription) -> int:
        return min(subscription.places, TIMES_WHAT_IS_LEFT * self._left)


def in_flight(tx: Tx) -> dict[str, int]:
    """How many deliveries of each subscription are in flight, in all processes."""
    return dict(tx.ask(_IN_FLIGHT_COUNTS, {"now": tx.now}))


_IN_FLIGHT_COUNTS = Bulk(
    select(deliveries.c.subscription_id, func.count())
    .where(deliveries.c.status == IN_FLIGHT, deliveries.c.due_at > bindparam("now"))
    .group_by(deliveries.c.subscription_id)
)


def _lanes_in_use(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> set[tuple[str | None, str]]:
    """Tasks and subscriptions with deliveries that must come before new ones."""
    ids = {row["task_id"] for row in rows if row["task_id"] and row["task_version"] > 1}
    if not ids:
        return set()
    found = tx.connection.execute(_LANES_IN_USE, {"ids": ids, "now": tx.now})
    return {(row.task_id, row.subscription_id) for row in found}


_LANES_IN_USE = select(deliveries.c.task_id, deliveries.c.subscription_id).where(
    among(deliveries.c.task_id, "ids"),
    deliveries.c.task_id.is_not(None),
    text(OPEN),
    # what waits for its retry holds nothing back; what is kept does
    or_(
        deliveries.c.status == IN_FLIGHT,
        deliveries.c.due_at <= bindparam("now"),
        deliveries.c.due_at.is_(None),
    ),
)


def _delivery(
    row: Mapping[str, Any], event: Mapping[str, Any], subscription: Subscription
) -> Delivery:
    return Delivery(
        id=row["id"],
        fence=row["fence"],
        attempt=row["attempts"],
        failures=row["failures"],
        subscription=subscription,
        event_id=event["id"],
        event_type=event["type"],
        provider=event["provider"],
        subject=event["subject"],
        event_time=event["created_at"],
        body=event["body"],
    )
