"""A clock that runs fast, so that minutes of waiting pass in seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from store.clock import monotonic as real_monotonic


class QuickClock:
    """UTC wall time that starts at `start` and runs `factor` times as fast as real time."""

    def __init__(
        self,
        start: datetime,
        factor: float,
        monotonic: Callable[[], float] = real_monotonic,
    ) -> None:
        self.factor = factor
        self._start = start.astimezone(UTC)
        self._monotonic = monotonic
        self._began = monotonic()

    def __call__(self) -> datetime:
        return self._start + timedelta(seconds=self.elapsed())

    def elapsed(self) -> float:
        """Seconds of this clock since its start."""
        return (self._monotonic() - self._began) * self.factor

    async def sleep(self, seconds: float) -> None:
        """Sleep so many seconds of this clock."""
        await asyncio.sleep(seconds / self.factor)
