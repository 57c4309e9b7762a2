"""The one place that reads the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Aware UTC wall time. Pass one in; tests pass a ManualClock."""


def system_clock() -> datetime:
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds that never step back: for measuring how long something took."""
    return time.monotonic()


class ManualClock:
    """A clock that moves only when told to.

    >>> clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    >>> clock.advance(seconds=5)
    >>> clock()
    datetime.datetime(2026, 1, 1, 0, 0, 5, tzinfo=datetime.timezone.utc)
    """

    def __init__(self, start: datetime) -> None:
        self._now = start

    def __call__(self) -> datetime:
        return self._now

    def advance(self, **step: float) -> None:
        """Move on, told in the words of timedelta: `minutes=5`."""
        self._now += timedelta(**step)
