"""What waits for a subscription: how much, up to a bound, and when the first of it is due."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, case, func, select

from store.tables import deliveries, word

MOST = 200
"""Deliveries that are counted; more are said to be more."""


@dataclass(frozen=True, slots=True)
class Owed:
    """Deliveries that are not over. next_at: when the first that waits is due, if one does."""

    count: int
    next_at: datetime | None

    @property
    def more(self) -> bool:
        """Whether there are more than were counted."""
        return self.count > MOST


def read_owed(connection: Connection, subscription_ids: Iterable[str]) -> dict[str, Owed]:
    """What waits for each."""
    return {
        each: Owed(*connection.execute(_OWED, {"subscription": each}).one())
        for each in subscription_ids
    }


_FIRST = (
    select(deliveries.c.due_at, deliveries.c.status)
    .where(
        deliveries.c.subscription_id == bindparam("subscription"),
        deliveries.c.finished_at.is_(None),
    )
    .order_by(deliveries.c.due_at)
    .limit(MOST + 1)
    .subquery()
)
# while one is being sent, what is due is the end of its lease
_PENDING_AT = case((_FIRST.c.status == word("pending"), _FIRST.c.due_at))
_OWED = select(func.count(), func.min(_PENDING_AT))
