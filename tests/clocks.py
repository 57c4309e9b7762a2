"""A clock that catches the store in the middle of a write."""

from __future__ import annotations

import threading
from datetime import datetime

from tests.patience import PATIENCE_SECONDS


class HeldClock:
    """Stands still. After hold() the next transaction stops at its start, until go_on is set.

    reached: set when a transaction has stopped.
    """

    def __init__(self, now: datetime) -> None:
        self._now = now
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def hold(self) -> None:
        self.go_on.clear()

    def __call__(self) -> datetime:
        if not self.go_on.is_set():
            self.reached.set()
            self.go_on.wait(PATIENCE_SECONDS)
        return self._now


class Seconds:
    """A monotonic clock that the test moves."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
