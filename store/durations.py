"""How long models take, learned from tasks that succeeded: the poller asks when it is worth it.

One row for each provider, model and kind holds a histogram. It forgets: what was learned counts
half once enough has been added, so that it follows a model that became faster or slower.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, tuple_

from store.events import Task
from store.tables import durations
from store.writer import Tx

EDGES = (0.0, *(0.5 * 1.1**step for step in range(102)))
"""Seconds. The buckets lie between these; the last one takes what is longer, too."""

KEPT = 150.0
"""Endings; with more than these, all count half."""

MODELS = 500
"""Names of models are foreign text: beyond these, the one not heard of for longest is forgotten."""


@dataclass(frozen=True, slots=True, order=True)
class Model:
    """What durations are learned of. An unknown name or kind is ''."""

    provider: str
    name: str
    kind: str


def model_of(task: Task) -> Model:
    """What a task's duration is learned as, and asked for: as it is known at that time."""
    return Model(task.provider, task.model or "", task.kind or "")


@dataclass(frozen=True, slots=True)
class Ending:
    """A task that succeeded, between two ages in seconds.

    after: when it was last known to be open. by: when it was known to have ended. A push tells
    the moment: both are the same.
    """

    model: Model
    after: float
    by: float


@dataclass(frozen=True, slots=True)
class Durations:
    """How many endings fell into each bucket."""

    counts: tuple[float, ...] = (0.0,) * (len(EDGES) - 1)

    @property
    def total(self) -> float:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """The seconds within which so large a share of the endings came; None when there is none.

        >>> Durations().taught([Ending(Model("minimax", "m", ""), 60, 60)]).quantile(0.5)
        61.6
        """
        left = share * self.total
        for start, end, count in zip(EDGES, EDGES[1:], self.counts, strict=False):
            if count and count >= left:
                return round(start + (end - start) * left / count, 1)
            left -= count
        return None

    def taught(self, endings: Sequence[Ending]) -> Durations:
        """With these endings added, the last ones last."""
        counts = list(self.counts)
        for ending in endings:
            _credit(counts, ending.after, ending.by)
            if sum(counts) > KEPT:
                counts = [count / 2 for count in counts]
        return Durations(tuple(counts))


def _credit(counts: list[float], after: float, by: float) -> None:
    """Add one ending, shared out over the interval it lies in.

    Most of it goes where endings of that interval have fallen before, the rest evenly, as if one
    had fallen anywhere in it. So a wide interval (the first question, a rescued push) does not
    blur what is known better, and where nothing is known it teaches that something moved.
    """
    overlaps = list(_overlaps(after, by))
    known = [counts[bucket] * share for bucket, share, _ in overlaps]
    seen = sum(known) + 1
    for (bucket, _, part), count in zip(overlaps, known, strict=True):
        counts[bucket] += (count + part) / seen


def _overlaps(after: float, by: float) -> Iterator[tuple[int, float, float]]:
    """Each bucket of an interval: the share of the bucket in it, and the part of it in the bucket."""
    by = min(by, EDGES[-1])
    last = max(bisect_left(EDGES, by) - 1, 0)
    if after >= by:
        yield last, 1.0, 1.0
        return
    for bucket in range(bisect_right(EDGES, after) - 1, last + 1):
        low, high = EDGES[bucket], EDGES[bucket + 1]
        overlap = min(high, by) - max(low, after)
        yield bucket, overlap / (high - low), overlap / (by - after)


def learn(tx: Tx, endings: Sequence[Ending]) -> None:
    """Add what a batch brought: two statements, whatever its size.

    Rows are read, changed and written back: on PostgreSQL the events lock must be held.
    """
    of: dict[Model, list[Ending]] = {}
    for ending in endings:
        of.setdefault(ending.model, []).append(ending)
    if not of:
        return
    models = sorted(of)
    known = _take_out(tx.connection, models)
    rows = [
        _row(model, known.get(model, Durations()).taught(of[model]), tx.now) for model in models
    ]
    tx.connection.execute(durations.insert(), rows)
    if len(known) < len(models):
        _forget(tx.connection)


def known_durations(connection: Connection) -> dict[Model, Durations]:
    """All that was learned: a few hundred rows at most."""
    return _by_model(connection.execute(select(durations)))


def durations_of(connection: Connection, models: Collection[Model]) -> dict[Model, Durations]:
    """What was learned of these."""
    named = [(model.provider, model.name, model.kind) for model in models]
    return _by_model(connection.execute(select(durations).where(_KEY.in_(named)))) if named else {}


_KEY = tuple_(durations.c.provider, durations.c.model, durations.c.kind)


def _take_out(connection: Connection, models: Sequence[Model]) -> dict[Model, Durations]:
    named = [(model.provider, model.name, model.kind) for model in models]
    taken = delete(durations).where(_KEY.in_(named)).returning(*durations.c)
    return _by_model(connection.execute(taken))


def _by_model(rows: Iterable[Row[Any]]) -> dict[Model, Durations]:
    return {Model(row.provider, row.model, row.kind): Durations(tuple(row.counts)) for row in rows}


def _row(model: Model, taught: Durations, now: datetime) -> dict[str, Any]:
    return {
        "provider": model.provider,
        "model": model.name,
        "kind": model.kind,
        "counts": [round(count, 3) for count in taught.counts],
        "learned_at": now,
    }


def _forget(connection: Connection) -> None:
    surplus = connection.execute(select(func.count()).select_from(durations)).scalar_one() - MODELS
    if surplus > 0:
        oldest = (
            select(durations.c.provider, durations.c.model, durations.c.kind)
            .order_by(durations.c.learned_at, durations.c.model)
            .limit(surplus)
        )
        connection.execute(delete(durations).where(_KEY.in_(oldest)))
