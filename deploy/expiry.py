"""What is kept for paused subscriptions, seen to the end of its retention: announced, then canceled."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from store.backlog import EXPIRING_WITHIN, count_kept
from store.clock import Clock
from store.retention import Prune, expire_waiting
from store.store import Store

logger = logging.getLogger("taskbell.dispatch")

_ANNOUNCED_AGAIN = timedelta(days=1)


class Expiry:
    """Announces and expires, a step at a time. retention: how long events are kept."""

    def __init__(self, store: Store, clock: Clock, retention: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._retention = retention
        self._announced: dict[str, datetime] = {}

    async def step(self) -> int:
        """Return how many deliveries were canceled. Raises StoreError."""
        expired = await self._store.write(expire_waiting, Prune(self._retention))
        if expired:
            logger.warning("%d deliveries that were kept for paused subscriptions expired", expired)
        await self._announce()
        return expired

    async def _announce(self) -> None:
        """Log once a day of each subscription how much is about to expire."""
        now = self._clock()
        before = now - self._retention + EXPIRING_WITHIN
        expiring = (await self._store.read(count_kept, before)).expiring
        self._announced = {
            subscription_id: at
            for subscription_id, at in self._announced.items()
            if subscription_id in expiring and now - at < _ANNOUNCED_AGAIN
        }
        for subscription_id, count in expiring.items():
            if subscription_id not in self._announced:
                self._announced[subscription_id] = now
                logger.warning(
                    "%d deliveries kept for %s expire within a day: resume it, or skip them",
                    count,
                    subscription_id,
                )
