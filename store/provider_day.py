"""How a provider's last day went: pushes taken, endings missed, what is open, how long models take.

No index serves a day of one provider: a bounded stretch of the newest rows is read, and whether it
reaches back a whole day is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, Integer, Select, Table, case, cast, func, select

from store.durations import Durations, Model, known_durations
from store.events import Verdict
from store.ids import first_id
from store.tables import receipts, tasks, word

STRETCH = 10_000
"""Rows of a kind that are read, the newest ones; of open tasks, the oldest ones."""

MODELS = 12
"""Models of a provider that are told, those heard of most."""

_DAY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Taking:
    """How long tasks of a model take, in seconds, and how many endings that was learned from."""

    model: Model
    median: float
    p90: float
    endings: float


@dataclass(frozen=True, slots=True)
class Ends:
    """began: tasks that became known. by_push, by_poll: how many of those ended so.

    rescued: of by_poll, those whose push was expected and never came. polls: about all of them.
    """

    began: int = 0
    by_push: int = 0
    by_poll: int = 0
    rescued: int = 0
    polls: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    """Tasks that have not ended, and the oldest of them."""

    count: int = 0
    oldest: datetime | None = None
    oldest_id: str | None = None

    def joined(self, other: Open) -> Open:
        """Both together."""
        oldest = min((self, other), key=lambda each: each.oldest_id or "~")
        return Open(self.count + other.count, oldest.oldest, oldest.oldest_id)


@dataclass(frozen=True, slots=True)
class ProviderDay:
    """verdicts: how often pushes were taken with each. takings: the models heard of most first.

    challenges: how often an address was tried out.
    """

    verdicts: Counter[str]
    challenges: int
    ends: Ends
    open: Open
    takings: tuple[Taking, ...]

    @property
    def pushes(self) -> int:
        return self.verdicts.total()


@dataclass(frozen=True, slots=True)
class Days:
    """of: by provider. pushes_since, tasks_since: how far back what was counted reaches.

    open_cut: more tasks are open than were counted.
    """

    of: Mapping[str, ProviderDay]
    pushes_since: datetime
    tasks_since: datetime
    open_cut: bool


def read_days(connection: Connection, providers: Iterable[str], now: datetime) -> Days:
    """The last day of each provider."""
    since = now - _DAY
    verdicts, pushes_since = _verdicts(connection, since)
    ends, tasks_since = _ends(connection, since)
    opened, open_cut = _open(connection)
    takings = _takings(known_durations(connection))
    of = {
        name: ProviderDay(
            (kept := verdicts.get(name, Counter())),
            kept.pop(Verdict.CHALLENGE, 0),
            ends.get(name, Ends()),
            opened.get(name, Open()),
            takings.get(name, ()),
        )
        for name in providers
    }
    return Days(of, pushes_since, tasks_since, open_cut)


def _verdicts(connection: Connection, since: datetime) -> tuple[dict[str, Counter[str]], datetime]:
    found, reaches = _newest(connection, receipts, receipts.c.received_at, since)
    recent = found.add_columns(receipts.c.provider, receipts.c.verdict).subquery()
    counts = select(recent.c.provider, recent.c.verdict, func.count())
    verdicts: dict[str, Counter[str]] = {}
    for provider, verdict, count in connection.execute(
        counts.group_by(recent.c.provider, recent.c.verdict)
    ):
        verdicts.setdefault(provider, Counter())[verdict] = count
    return verdicts, reaches


def _ends(connection: Connection, since: datetime) -> tuple[dict[str, Ends], datetime]:
    found, reaches = _newest(connection, tasks, tasks.c.created_at, since)
    recent = (
        found.add_columns(
            *(
                tasks.c.provider,
                tasks.c.source,
                tasks.c.finished_at,
                tasks.c.rescued_by_poll,
                tasks.c.polls,
            )
        )
        .where(tasks.c.version > 0)
        .subquery()
    )
    ended = recent.c.finished_at.is_not(None)
    by_push, by_poll = (
        func.sum(case((ended & (recent.c.source == way), 1), else_=0)) for way in ("push", "poll")
    )
    rescued = func.sum(cast(recent.c.rescued_by_poll, Integer))
    polls = func.sum(recent.c.polls)
    counts = select(recent.c.provider, func.count(), by_push, by_poll, rescued, polls)
    rows = connection.execute(counts.group_by(recent.c.provider))
    return {provider: Ends(*counted) for provider, *counted in rows}, reaches


def _newest(
    connection: Connection, table: Table, at: Column[Any], since: datetime
) -> tuple[Select[Any], datetime]:
    """What selects the newest rows of a day, and how far back it reaches. Ids sort by their time."""
    ids = table.c.id
    first = first_id(_PREFIXES[table.name], since)
    newest = select(ids).where(ids >= first).order_by(ids.desc())
    cut = connection.execute(newest.with_only_columns(at).limit(1).offset(STRETCH)).scalar()
    # a clock that stepped back leaves ids that are ahead of their times
    return newest.where(at >= since).limit(STRETCH), cut or since


def _open(connection: Connection) -> tuple[dict[str, Open], bool]:
    opened: dict[str, Open] = {}
    cut = False
    for status in ("queued", "processing"):
        rows = connection.execute(_oldest(status)).all()
        cut = cut or sum(row[1] for row in rows) == STRETCH
        for provider, *counted in rows:
            opened[provider] = opened.get(provider, Open()).joined(Open(*counted))
    return opened, cut


def _oldest(status: str) -> Select[Any]:
    oldest = (
        select(tasks.c.id, tasks.c.provider, tasks.c.created_at)
        .where(tasks.c.status == word(status), tasks.c.version > 0)
        .order_by(tasks.c.id)
        .limit(STRETCH)
        .subquery()
    )
    first = (func.min(oldest.c.created_at), func.min(oldest.c.id))
    return select(oldest.c.provider, func.count(), *first).group_by(oldest.c.provider)


def _takings(known: Mapping[Model, Durations]) -> dict[str, tuple[Taking, ...]]:
    most_first = sorted(known, key=lambda model: (-known[model].total, model))
    by_provider: dict[str, list[Model]] = {}
    for model in most_first:
        by_provider.setdefault(model.provider, []).append(model)
    return {
        name: tuple(_taking(model, known[model]) for model in models[:MODELS])
        for name, models in by_provider.items()
    }


def _taking(model: Model, learned: Durations) -> Taking:
    median, p90 = learned.quantile(0.5) or 0.0, learned.quantile(0.9) or 0.0
    return Taking(model, median, p90, learned.total)


_PREFIXES = {"tasks": "task", "receipts": "rcp"}
