"""How fast a provider is asked: its rate and concurrency, how often in vain, when not at all."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

SOON_SECONDS = 0.5  # longer than it takes to look for work, also when the machine is busy
_GRAIN_SECONDS = 0.01
_FIRST_DELAY = timedelta(seconds=1)
LONGEST_DELAY = timedelta(seconds=60)
LONGEST_RETRY_AFTER = timedelta(minutes=10)


class ShiftOver(Exception):
    """This question may not start now: another process asks the provider, or it was stopped."""


class RateLimiter:
    """Spaces the starts of questions evenly, and holds down how many run at once.

    Any second sees at most the given number of starts (a fraction counts as one more), even when
    the event loop was held up. A start that came late by up to 10 ms, as timers do, is made up
    for by the next ones; the spacing is a hundredth wider, so that the second still holds.
    """

    def __init__(
        self,
        requests_per_second: float,
        concurrency: int,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not 0 < requests_per_second < math.inf or concurrency < 1:
            raise ValueError("a budget needs a rate above 0 and room for one question")
        # n + 1 starts take at least n spacings less one grain: see to it that with n + 1 above the
        # rate this is more than a second, by a hair, because floats are rounded
        self._spacing = (1 + _GRAIN_SECONDS) * (1 + 1e-6) / requests_per_second
        self.concurrency = concurrency
        self.monotonic = monotonic
        self._sleep = sleep
        self._places = asyncio.Semaphore(concurrency)
        self._turnstile = asyncio.Lock()
        self._next_start = -math.inf
        self._quiet_until = -math.inf
        self._shift_ends = math.inf
        self._ends = _Counted()
        self._waiting = 0
        self._running = 0

    def free(self) -> int:
        """How many more questions could start within the next half second.

        Places count that are free, and as many more as became free in the last half second. Counts
        questions from the moment they enter slot(): enter first, then ask again.
        """
        now = self.monotonic()
        start = self._first_start(now)
        if start > now + SOON_SECONDS:
            return 0
        starts = math.floor((now + SOON_SECONDS - start) / self._spacing) + 1
        places = self.concurrency - self._running + self._ends.lately(now)
        return max(0, min(starts, places) - self._waiting)

    def room_in(self) -> float:
        """Seconds until the rate lets a question start within half a second."""
        now = self.monotonic()
        return max(0.0, self._first_start(now) - SOON_SECONDS - now)

    @asynccontextmanager
    async def slot(self, allowed: Callable[[], bool] = lambda: True) -> AsyncIterator[None]:
        """Wait for a place and a start time, hold the place while the question runs.

        allowed: asked when the wait is over; when it is not, raises ShiftOver and uses up nothing.
        """
        await self._enter(allowed)
        try:
            yield
        finally:
            self._running -= 1
            self._ends.add(self.monotonic())
            self._places.release()

    async def turn(self) -> None:
        """Wait for one more start time: a question in its slot makes another request."""
        await self._start(lambda: True)

    def slow_down(self, delay: timedelta) -> None:
        """Start nothing before the delay is over, whoever waits already included."""
        self._quiet_until = max(self._quiet_until, self.monotonic() + delay.total_seconds())

    def delay_left(self) -> float:
        """Seconds until slow_down lets questions start again."""
        return max(0.0, self._quiet_until - self.monotonic())

    def work_until(self, moment: float, *, taken_over: bool) -> None:
        """Start nothing from that moment on: slot() and turn() then raise ShiftOver.

        taken_over: another process asked until now; its last start is to be a spacing ago.
        """
        self._shift_ends = moment
        if taken_over:
            self._next_start = max(self._next_start, self.monotonic() + self._spacing)

    def shift_left(self) -> float:
        """Seconds until work_until's moment."""
        return max(0.0, self._shift_ends - self.monotonic())

    def busy(self) -> bool:
        """Whether questions run, or wait to start."""
        return self._running + self._waiting > 0

    async def _enter(self, allowed: Callable[[], bool]) -> None:
        self._waiting += 1
        try:
            await self._places.acquire()
            try:
                await self._start(allowed)
            except BaseException:
                self._places.release()
                raise
            self._running += 1
        finally:
            self._waiting -= 1

    async def _start(self, allowed: Callable[[], bool]) -> None:
        async with self._turnstile:
            # asked anew after each sleep: slow_down may have come, and sleeps may end early
            while (wait := self._first_start(now := self.monotonic()) - now) > 0:
                await self._sleep(wait)
            if now >= self._shift_ends or not allowed():
                raise ShiftOver
            self._next_start = max(self._next_start, now - _GRAIN_SECONDS) + self._spacing

    def _first_start(self, now: float) -> float:
        return max(now, self._next_start, self._quiet_until)


@dataclass(slots=True)
class Inquiry:
    """A question about a task that may not exist. reserved: how many requests it may still make.

    exists: set when the provider turns out to know the task.
    """

    reserved: int
    exists: bool = False
    made: list[float] = field(default_factory=list)


class Quota:
    """At most so many requests in any minute about tasks that only a stranger has named.

    Those do not count that turned out to be about tasks which exist. A question needs room for the
    most requests that it may make; what it did not need is free again at its end.
    """

    def __init__(self, per_minute: int, per_question: int, monotonic: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._per_question = per_question
        self._monotonic = monotonic
        self._open: list[Inquiry] = []
        self._in_vain: list[float] = []

    def room(self) -> int:
        """How many more questions may begin now."""
        minute_ago = self._monotonic() - 60
        self._in_vain = [at for at in self._in_vain if at >= minute_ago]
        used = len(self._in_vain)
        for inquiry in self._open:
            used += inquiry.reserved + sum(at >= minute_ago for at in inquiry.made)
        return max(0, self._per_minute - used) // self._per_question

    def begin(self) -> Inquiry:
        inquiry = Inquiry(self._per_question)
        self._open.append(inquiry)
        return inquiry

    def count(self, inquiry: Inquiry) -> None:
        """It makes a request now."""
        inquiry.made.append(self._monotonic())
        inquiry.reserved = max(0, inquiry.reserved - 1)

    def end(self, inquiry: Inquiry) -> None:
        self._open = [each for each in self._open if each is not inquiry]
        if not inquiry.exists:
            self._in_vain += inquiry.made


class _Counted:
    """How often something happened lately, by the half second."""

    def __init__(self) -> None:
        self._step = 0
        self._now = self._before = 0

    def add(self, now: float) -> None:
        self._move_to(now)
        self._now += 1

    def lately(self, now: float) -> int:
        self._move_to(now)
        return max(self._now, self._before)

    def _move_to(self, now: float) -> None:
        step = int(now / SOON_SECONDS)
        if step != self._step:
            self._before = self._now if step == self._step + 1 else 0
            self._now, self._step = 0, step


@dataclass(frozen=True, slots=True)
class Slowdown:
    """How long to ask a provider nothing. changed: its state word is new, so log it.

    The first stop changes no word: a provider that answers one question in ten with 429 is not in
    trouble.
    """

    delay: timedelta
    changed: bool


class Health:
    """Whether a provider is to be left alone for a while, by the failures that are not a task's own.

    One task that fails says little of its provider, however often it does. The provider is stopped
    when different tasks fail in a row with nothing good between; it is then tried with one question
    (`stopped`), and not with the task that failed last.

    jitter returns 0.0 to 1.0 and moves a delay by at most a fifth either way. Questions in flight
    may all fail of one cause: report the first (RateLimiter.delay_left tells), or one incident
    counts as many.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._stops = 0
        self._several = False
        self.last_failed = ""  # the id of a task
        self.state = "ok"

    @property
    def stopped(self) -> bool:
        """True from a stop to the next sign that the provider is there."""
        return self._stops > 0

    def failed(self, task_id: str, code: str, retry_after: timedelta | None) -> Slowdown | None:
        """Count a failure: wait 1, 2, 4 … 60 s, or as long as was asked for, up to 10 minutes.

        None: no other task has failed since the last good sign, so ask about the others.
        """
        self._several = self._several or self.last_failed not in ("", task_id)
        self.last_failed = task_id
        if not self._several:
            return None
        delay = min(_FIRST_DELAY * 2 ** min(self._stops, 6), LONGEST_DELAY)
        delay *= 0.8 + 0.4 * self._jitter()
        if retry_after is not None:
            delay = max(delay, min(retry_after, LONGEST_RETRY_AFTER))
        self._stops += 1
        changed = self._stops > 1 and code != self.state
        if changed:
            self.state = code
        return Slowdown(delay, changed)

    def is_there(self) -> bool:
        """Note a sign that the provider is there; True when it ends a trouble that was told."""
        changed = self.state != "ok"
        self._stops, self._several, self.last_failed = 0, False, ""
        self.state = "ok"
        return changed
