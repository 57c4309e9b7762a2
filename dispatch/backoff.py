"""How long to wait after a failed attempt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

LONGEST_RETRY_AFTER = timedelta(hours=24)
_JITTER = 0.2


def next_delay(
    schedule: Sequence[timedelta],
    failures: int,
    jitter: Callable[[], float],
    retry_after: timedelta | None = None,
) -> timedelta | None:
    """Wait before the next attempt, or None when the schedule is used up.

    failures counts failed attempts, from 1. jitter returns 0.0 to 1.0 and moves the wait by at
    most a fifth either way. retry_after, what the receiver asked for, only makes it longer, up
    to a day. Raises ValueError for failures below 1.

    >>> next_delay([timedelta(seconds=5)], 1, jitter=lambda: 0.5)
    datetime.timedelta(seconds=5)
    >>> next_delay([timedelta(seconds=5)], 2, jitter=lambda: 0.5) is None
    True
    """
    if failures < 1:
        raise ValueError(f"failures counts from 1, got {failures}")
    if failures > len(schedule):
        return None
    wait = schedule[failures - 1] * (1 - _JITTER + 2 * _JITTER * jitter())
    if retry_after is None:
        return wait
    return max(wait, min(retry_after, LONGEST_RETRY_AFTER))
