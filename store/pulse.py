"""Attempts counted by the hour: how a subscription's last day went, without reading each attempt.

A row holds those of one subscription that began in one hour and took about as long as each other:
the buckets of time are a quarter apart. So a day of a busy subscription is a few hundred rows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Insert, Select, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from store.bulk import Bulk
from store.tables import attempt_hours
from store.writer import Tx

HOURS = 24
"""Hours that are looked at, the present one included."""

EDGES = (0.0, *(15.5 * 1.25**step for step in range(-43, 15)))
"""Seconds, from 1 ms to 352: an attempt may take 300. The buckets lie between these.

One ends just behind the 15 seconds at which attempts are given up, unless another limit is set.
"""

_HOUR = timedelta(hours=1)
_KEPT = timedelta(hours=2 * HOURS)  # hosts' clocks differ, and nobody needs to hurry


@dataclass(frozen=True, slots=True)
class Beat:
    """One attempt."""

    subscription_id: str
    started_at: datetime
    duration: timedelta
    delivered: bool


@dataclass(frozen=True, slots=True)
class Hour:
    """What attempts of an hour came to."""

    start: datetime
    delivered: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Pulse:
    """A day of a subscription: its hours, oldest first, each there even when nothing was tried.

    p95: seconds within which 95 of 100 attempts were over; None when there was none.
    """

    hours: tuple[Hour, ...]
    p95: float | None = None

    @property
    def delivered(self) -> int:
        return sum(hour.delivered for hour in self.hours)

    @property
    def failed(self) -> int:
        return sum(hour.failed for hour in self.hours)

    @property
    def most(self) -> int:
        """Attempts of the busiest hour."""
        return max(hour.delivered + hour.failed for hour in self.hours)


def count_attempts(tx: Tx, beats: Sequence[Beat]) -> None:
    """Add what a batch came to: one statement, whatever its size."""
    delivered: Counter[tuple[str, datetime, int]] = Counter()
    failed: Counter[tuple[str, datetime, int]] = Counter()
    for beat in beats:
        key = (beat.subscription_id, _hour_of(beat.started_at), bucket_of(beat.duration))
        (delivered if beat.delivered else failed)[key] += 1
    # in one order in every process, or two could wait for each other's rows crosswise
    keys = sorted(delivered.keys() | failed.keys())
    add = _ADD_POSTGRESQL if tx.database.postgresql else _ADD_SQLITE
    tx.write(
        add, [dict(zip(_COLUMNS, (*key, delivered[key], failed[key]), strict=True)) for key in keys]
    )


def read_pulses(
    connection: Connection, subscription_ids: Collection[str], now: datetime
) -> dict[str, Pulse]:
    """The last day of each."""
    first = _hour_of(now) - (HOURS - 1) * _HOUR
    counted = {
        (row[0], row[1]): Hour(row[1], *row[2:])
        for row in connection.execute(_sums("hour", subscription_ids, first))
    }
    buckets: dict[str, Counter[int]] = {each: Counter() for each in subscription_ids}
    for owner, bucket, *counts in connection.execute(_sums("bucket", subscription_ids, first)):
        buckets[owner][bucket] += sum(counts)
    starts = [first + number * _HOUR for number in range(HOURS)]
    return {
        each: Pulse(
            tuple(counted.get((each, start), Hour(start)) for start in starts),
            quantile(buckets[each], 0.95),
        )
        for each in subscription_ids
    }


def forget_hour(tx: Tx) -> None:
    """Delete the oldest hour when nobody will look at it again: one a step is soon all of them."""
    oldest = tx.connection.execute(select(func.min(attempt_hours.c.hour))).scalar()
    if oldest is not None and oldest < tx.now - _KEPT:
        tx.connection.execute(delete(attempt_hours).where(attempt_hours.c.hour == oldest))


def bucket_of(duration: timedelta) -> int:
    """The bucket of a time, from 1 for up to a millisecond; the last one takes what is longer, too.

    >>> bucket_of(timedelta(microseconds=3)), bucket_of(timedelta(milliseconds=100))
    (1, 22)
    """
    return min(bisect_left(EDGES, duration.total_seconds()) or 1, len(EDGES) - 1)


def quantile(counts: Counter[int], share: float) -> float | None:
    """The seconds within which so large a share of them lies; None when there is none.

    >>> quantile(Counter({22: 10}), 0.5)
    0.103
    """
    left = share * counts.total()
    for bucket, count in sorted(counts.items()):
        if count >= left:
            start, end = EDGES[bucket - 1 : bucket + 1]
            return round(start + (end - start) * left / count, 3)
        left -= count
    return None


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _sums(by: str, subscription_ids: Collection[str], first: datetime) -> Select[Any]:
    owner, group = attempt_hours.c.subscription_id, attempt_hours.c[by]
    return (
        select(owner, group, func.sum(attempt_hours.c.delivered), func.sum(attempt_hours.c.failed))
        .where(owner.in_(subscription_ids), attempt_hours.c.hour >= first)
        .group_by(owner, group)
    )


_COLUMNS = tuple(column.name for column in attempt_hours.c)


def _adding(insert: sqlite.Insert | postgresql.Insert) -> Insert:
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=["subscription_id", "hour", "bucket"],
        set_={
            "delivered": attempt_hours.c.delivered + new.delivered,
            "failed": attempt_hours.c.failed + new.failed,
        },
    )


_ADD_SQLITE = Bulk(_adding(sqlite.insert(attempt_hours)), *_COLUMNS)
_ADD_POSTGRESQL = Bulk(_adding(postgresql.insert(attempt_hours)), *_COLUMNS)
