"""The dispatcher: claims deliveries, sends them side by side, writes down how each went."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from dispatch.backoff import next_delay
from dispatch.sending import Sender, Sent
from dispatch.sink import Event, Result
from store.claims import Claim, claim
from store.clock import Clock
from store.deliveries import Attempt, Delivery, Finished, finish
from store.outbox import DELIVERIES
from store.retention import cancel_leftovers
from store.rounds import LOOK_SECONDS, Rounds
from store.store import Store

logger = logging.getLogger("taskbell.dispatch")

IN_FLIGHT = 256
LEASE_MARGIN = timedelta(seconds=15)
"""How much longer than an attempt a lease is: a lease that runs out early doubles deliveries."""

_LEFTOVERS = 500


class Worker:
    """Sends what is due. Several processes share the work by leases; `rounds` runs it."""

    def __init__(
        self,
        store: Store,
        sender: Sender,
        *,
        schedule: Sequence[timedelta],
        attempt_timeout: timedelta,
        clock: Clock,
        owner: str,
        jitter: Callable[[], float],
        in_flight: int = IN_FLIGHT,
    ) -> None:
        self._store = store
        self._sender = sender
        self._schedule = schedule
        self._lease = attempt_timeout + LEASE_MARGIN
        self._clock = clock
        self._owner = owner
        self._jitter = jitter
        self._places = in_flight
        self.rounds = Rounds(store, DELIVERIES, self._look, places=in_flight, logger=logger)

    async def _look(self) -> float:
        free = self._places - len(self.rounds.under_way)
        if free <= 0:
            return LOOK_SECONDS
        catch = await self._store.write(claim, Claim(self._owner, free, self._lease))
        for delivery in catch.deliveries:
            self.rounds.start(self._deliver(delivery), delivery.id)
        if catch.leftovers:
            canceled = await self._store.write(cancel_leftovers, _LEFTOVERS)
            if canceled > 0:
                return 0
        if catch.next_due is None:
            return LOOK_SECONDS
        return (catch.next_due - self._clock()).total_seconds()

    async def _deliver(self, delivery: Delivery) -> None:
        sent = await self._sender.send(_event(delivery), delivery.subscription)
        await self._store.write(finish, self._judged(delivery, sent))

    def _judged(self, delivery: Delivery, sent: Sent) -> Finished:
        outcome, answer = sent.outcome, sent.answer
        delivered = outcome.result is Result.DELIVERED
        refused = outcome.result is Result.REFUSED
        retry_in = None
        if outcome.result is Result.RETRY:
            retry_in = next_delay(
                self._schedule, delivery.failures + 1, self._jitter, outcome.retry_after
            )
        logger.log(
            logging.DEBUG if delivered else logging.INFO,
            "attempt",
            extra={
                "delivery": delivery.id,
                "event": delivery.event_id,
                "subscription": delivery.subscription.id,
                "attempt": delivery.attempt,
                "result": outcome.result,
                "reason": outcome.reason,
                "milliseconds": int(sent.duration.total_seconds() * 1000),
            },
        )
        return Finished(
            delivery=delivery,
            attempt=Attempt(
                started_at=sent.started_at,
                duration=sent.duration,
                result=outcome.result,
                status_code=answer.status if answer else None,
                error=outcome.reason or None,
                answer=answer.body if answer else b"",
            ),
            delivered=delivered,
            retry_in=retry_in,
            refused=outcome.reason if refused else None,
        )


def _event(delivery: Delivery) -> Event:
    source = f"/taskbell/{delivery.provider}" if delivery.provider else "/taskbell"
    return Event(
        id=delivery.event_id,
        type=delivery.event_type,
        source=source,
        subject=delivery.subject,
        time=delivery.event_time,
        body=delivery.body,
    )
