"""The dispatcher: claims deliveries, sends them side by side, writes down how each went."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from dispatch.backoff import next_delay
from dispatch.sending import Sender, Sent
from dispatch.sink import Event, Result
from store.claims import Claim, claim, first_due
from store.clock import Clock
from store.deliveries import Attempt, Finished, finish
from store.errors import StoreError, StoreUnavailableError
from store.outbox import DELIVERIES
from store.outlet import Delivery, Outlet
from store.retention import cancel_leftovers
from store.rounds import LOOK_SECONDS, Rounds
from store.store import Store

logger = logging.getLogger("taskbell.dispatch")

IN_FLIGHT = 256
LEASE_MARGIN = timedelta(seconds=15)
"""How much longer than an attempt a lease is: a lease that runs out early doubles deliveries."""

_LEFTOVERS = 500
_WRITE_AGAIN = timedelta(seconds=0.5)


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
        self._clock = clock
        self._jitter = jitter
        self._outlet = Outlet(owner, attempt_timeout + LEASE_MARGIN, in_flight, self._take)
        self._claim = Claim(owner, in_flight, self._outlet.lease, self._outlet)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._quiet = False  # the last claim found nothing
        self._ahead = timedelta(0)  # of our clock, the store's
        self._looked_at = clock()
        self.rounds = Rounds(store, DELIVERIES, self._look, places=in_flight, logger=logger)

    async def run(self) -> None:
        """Send, until canceled."""
        self._loop = asyncio.get_running_loop()
        self._store.attach(self._outlet)
        await self.rounds.run()

    async def drain(self, seconds: float) -> None:
        """Let what is under way end, and what is just being handed over; then cut it off."""
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(seconds):
                await self._store.detach()
        await self.rounds.drain(seconds)

    def _take(self, handed: Sequence[Delivery]) -> None:
        """In the writer's thread: deliveries that are ours since their transaction's commit."""
        assert self._loop is not None  # noqa: S101 - attached by run() only
        with contextlib.suppress(RuntimeError):  # the loop is closed: their leases will run out
            self._loop.call_soon_threadsafe(self._start, handed)

    def _start(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self.rounds.start(self._deliver(delivery), delivery.id)

    async def _look(self) -> float:
        before, self._looked_at = self._looked_at, self._clock()
        if self._looked_at < before:  # it was set back: what is due would seem far off
            self._quiet = False
        if self._quiet:
            wait = self._until(await self._store.read(first_due))
            if wait > 0:
                return wait
        # read before the claim: a time read after it would make everything due later by its duration
        asked_at = self._clock()
        catch = await self._store.write(claim, self._claim)
        self._quiet = not catch.deliveries
        self._ahead = catch.now - asked_at
        self._start(catch.deliveries)
        if catch.leftovers:
            canceled = await self._store.write(cancel_leftovers, _LEFTOVERS)
            if canceled > 0:
                return 0
        return self._until(catch.next_due)

    def _until(self, due: datetime | None) -> float:
        """Seconds until something is due, by the store's clock."""
        if due is None:
            return LOOK_SECONDS
        return (due - self._clock() - self._ahead).total_seconds()

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            sent = await self._sender.send(_event(delivery), delivery.subscription)
            await self._write_down(self._judged(delivery, sent))
        finally:
            self._outlet.release(1)

    async def _write_down(self, finished: Finished) -> None:
        """Try for as long as the lease may hold: what nobody wrote down is sent again."""
        for _ in range(int(self._outlet.lease / _WRITE_AGAIN)):
            with contextlib.suppress(StoreUnavailableError):
                return await self._store.write(finish, finished)
            await asyncio.sleep(_WRITE_AGAIN.total_seconds())
        return await self._store.write(finish, finished)

    def _judged(self, delivery: Delivery, sent: Sent) -> Finished:
        outcome, answer = sent.outcome, sent.answer
        delivered = outcome.result is Result.DELIVERED
        refused = outcome.result is Result.REFUSED
        retry_in = None
        if outcome.result is Result.RETRY:
            retry_in = next_delay(
                self._schedule, delivery.failures + 1, self._jitter, outcome.retry_after
            )
        _log(delivery, sent)
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
            pause=outcome.retry_after,
            doubt=outcome.doubt,
        )


def _log(delivery: Delivery, sent: Sent) -> None:
    level = logging.DEBUG if sent.outcome.result is Result.DELIVERED else logging.INFO
    if not logger.isEnabledFor(level):
        return
    logger.log(
        level,
        "attempt",
        extra={
            "delivery": delivery.id,
            "event": delivery.event_id,
            "subscription": delivery.subscription.id,
            "attempt": delivery.attempt,
            "result": sent.outcome.result,
            "reason": sent.outcome.reason,
            "milliseconds": int(sent.duration.total_seconds() * 1000),
        },
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
        attempt=delivery.failures + 1,
    )
