"""The dispatcher: claims deliveries, sends them side by side, writes down how each went."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from dispatch.backoff import next_delay
from dispatch.sending import Sender, Sent
from dispatch.sink import Event, Result
from store.claims import Catch, Claim, claim
from store.clock import Clock
from store.deliveries import Attempt, Delivery, Finished, finish
from store.errors import StoreError
from store.records import DELIVERIES
from store.retention import cancel_leftovers
from store.store import Store

logger = logging.getLogger("taskbell.dispatch")

IN_FLIGHT = 256
LEASE_MARGIN = timedelta(seconds=15)
"""How much longer than an attempt a lease is: a lease that runs out early doubles deliveries."""

_LOOK_SECONDS = 1.0
_BREATH_SECONDS = 0.02
_LEFTOVERS = 500


class Worker:
    """Runs until canceled. Any number of processes may run one on the same PostgreSQL."""

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
        self._most = in_flight
        self._flying: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[Catch | None] | None = None
        self._news = asyncio.Event()
        self._store_away = False

    async def run(self) -> None:
        """Claim and send, until canceled."""
        loop = asyncio.get_running_loop()
        self._store.listen(DELIVERIES, lambda: loop.call_soon_threadsafe(self._news.set))
        while True:
            self._news.clear()
            # a claim that is cut off may be committed all the same: drain() sees to what it took
            self._looking = asyncio.create_task(self._round())
            await self._rest(await asyncio.shield(self._looking))

    async def drain(self, seconds: float) -> None:
        """Wait for the attempts under way; what is cut off is sent again when its lease ends."""
        if self._looking:
            await asyncio.wait([self._looking], timeout=seconds)
        if self._flying:
            _, unfinished = await asyncio.wait(self._flying, timeout=seconds)
            for attempt in unfinished:
                attempt.cancel()

    async def _round(self) -> Catch | None:
        room = self._most - len(self._flying)
        try:
            if room == 0:
                return None
            catch = await self._store.write(claim, Claim(self._owner, room, self._lease))
            if catch.leftovers:
                await self._store.write(cancel_leftovers, _LEFTOVERS)
        except StoreError as error:
            self._note_store(error)
            return None
        except Exception:  # a bug must not end all dispatching
            logger.exception("the dispatcher stumbled")
            return None
        self._note_store(None)
        for delivery in catch.deliveries:
            attempt = asyncio.create_task(self._deliver(delivery))
            self._flying.add(attempt)
            attempt.add_done_callback(self._landed)
        return catch

    def _landed(self, attempt: asyncio.Task[None]) -> None:
        full = len(self._flying) >= self._most
        self._flying.discard(attempt)
        if full:
            self._news.set()  # the wake-up from its commit came while the place was still taken

    async def _rest(self, catch: Catch | None) -> None:
        """Until something may be due: at most a second, which also covers a lost wake-up."""
        seconds = _LOOK_SECONDS
        if catch and catch.next_due:
            seconds = min(seconds, self._until(catch.next_due))
        if catch and catch.leftovers:
            seconds = 0
        try:
            async with asyncio.timeout(max(seconds, _BREATH_SECONDS)):
                await self._news.wait()
        except TimeoutError:
            return

    def _until(self, due: datetime) -> float:
        return (due - self._clock()).total_seconds()

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            sent = await self._sender.send(_event(delivery), delivery.subscription)
            await self._store.write(finish, self._judged(delivery, sent))
        except StoreError as error:
            self._note_store(error)  # the lease runs out, and it is sent again
        except Exception:  # one delivery must not end the others; its claims are counted
            logger.exception("a delivery failed", extra={"delivery": delivery.id})

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

    def _note_store(self, error: StoreError | None) -> None:
        if (error is not None) != self._store_away:
            self._store_away = error is not None
            logger.warning("the dispatcher's store is %s", f"away: {error}" if error else "back")


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
