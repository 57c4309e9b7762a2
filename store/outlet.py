"""Where deliveries go from the store: to a dispatcher of this process, under a lease."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from store.matching import Subscription


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery under a lease, with all that its sink needs."""

    id: str
    fence: int
    attempt: int  # from 1: this one
    failures: int
    subscription: Subscription
    event_id: str
    event_type: str
    provider: str | None
    subject: str
    event_time: datetime
    body: bytes


class Outlet:
    """A dispatcher's places for deliveries in flight, and how it is given some.

    take is called in the writer's thread, after the commit.
    """

    def __init__(
        self,
        owner: str,
        lease: timedelta,
        places: int,
        take: Callable[[Sequence[Delivery]], None],
    ) -> None:
        self.owner = owner
        self.lease = lease
        self.take = take
        self.behind: Collection[str] = frozenset()
        """Subscriptions with deliveries that wait for a claim; the writer's thread only."""
        self._free = places
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """How many places are left. Only the writer's thread takes some; they may grow meanwhile."""
        return self._free

    def reserve(self, wanted: int) -> int:
        """Take up to so many places; how many there were."""
        with self._lock:
            granted = min(wanted, self._free)
            self._free -= granted
        return granted

    def release(self, places: int) -> None:
        with self._lock:
            self._free += places
