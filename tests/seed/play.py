"""Plays reports at their times, and has every delivery they make attempted when it is due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

from dispatch.backoff import next_delay
from dispatch.sink import Answer, Outcome, Result, sinks
from store.claims import Claim, claim, first_due
from store.clock import ManualClock
from store.deliveries import Attempt, Finished, finish
from store.outlet import Delivery
from store.provider_states import Note, note_states
from store.records import Challenge, Report, keep_challenge, record
from store.store import Store
from store.writer import Item, Operation
from tests.seed.subscribers import Subscriber

SCHEDULE = tuple(timedelta(seconds=seconds) for seconds in (5, 300, 1800))
"""Of retries: short, so that a day has deliveries that are dead."""

_LEASE = timedelta(minutes=1)


class Play:
    """Reports, challenges and notes by their times, then deliveries until the end. subscribers: by subscription id."""

    def __init__(
        self, store: Store, clock: ManualClock, end: datetime, subscribers: Mapping[str, Subscriber]
    ) -> None:
        self._store = store
        self._clock = clock
        self._end = end
        self._subscribers = subscribers
        self._told: list[tuple[datetime, Report | Challenge | Note]] = []
        self._random = Random(7)

    def at(self, ago: timedelta, told: Report | Challenge | Note) -> None:
        """ago: before the end."""
        self._told.append((self._end - ago, told))

    def run(self) -> None:
        for at, told in sorted(self._told, key=lambda each: each[0]):
            self._deliver_until(at)
            if isinstance(told, Challenge):
                self._write(keep_challenge, [told])
            elif isinstance(told, Note):
                self._write(note_states, [told])
            else:
                self._write(record, [told])
            self._deliver()
        self._deliver_until(self._end)

    def leave_in_flight(self, report: Report) -> None:
        """At the end: attempts that were begun and are not over."""
        self._write(record, [report])
        self._store.write_now(claim, Claim("seed", 200, _LEASE))

    def _deliver_until(self, moment: datetime) -> None:
        while (due := self._store.read_now(first_due)) is not None and due <= moment:
            self._move_to(due)
            self._deliver()
        self._move_to(moment)

    def _move_to(self, moment: datetime) -> None:
        self._clock.advance(seconds=max(0.0, (moment - self._clock()).total_seconds()))

    def _deliver(self) -> None:
        while caught := self._store.write_now(claim, Claim("seed", 200, _LEASE)).deliveries:
            self._write(finish, [self._attempted(delivery) for delivery in caught])

    def _write(self, operation: Operation[Item, Any], items: Sequence[Item]) -> None:
        # together: they share transactions
        for written in [self._store._writer.submit(operation, item) for item in items]:
            written.result()

    def _attempted(self, delivery: Delivery) -> Finished:
        subscriber = self._subscribers[delivery.subscription.id]
        said = subscriber.answers(self._end - self._clock(), delivery.attempt)
        if isinstance(said, str):
            outcome = Outcome(Result.RETRY, said)
        else:
            outcome = sinks()[delivery.subscription.format].judge(said, self._clock())
        return Finished(
            delivery,
            self._attempt(said, outcome),
            delivered=outcome.result is Result.DELIVERED,
            retry_in=self._retry_in(delivery, outcome),
            refused=outcome.reason if outcome.result is Result.REFUSED else None,
        )

    def _attempt(self, said: Answer | str, outcome: Outcome) -> Attempt:
        answered = isinstance(said, Answer)
        milliseconds = self._random.lognormvariate(4.4, 0.7) if answered else 15_000
        return Attempt(
            started_at=self._clock(),
            duration=timedelta(milliseconds=milliseconds),
            result=outcome.result,
            status_code=said.status if isinstance(said, Answer) else None,
            error=outcome.reason or None,
            answer=said.body if isinstance(said, Answer) else b"",
        )

    def _retry_in(self, delivery: Delivery, outcome: Outcome) -> timedelta | None:
        if outcome.result is not Result.RETRY:
            return None
        failures = delivery.failures + 1
        return next_delay(SCHEDULE, failures, self._random.random, outcome.retry_after)
