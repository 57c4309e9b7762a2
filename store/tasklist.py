"""The list of tasks as people look through it: filters, a search, pages in both directions.

No filter has an index of its own but the status: a look goes over a stretch of so many tasks at the
most, and says where it stopped, so that the next one goes on there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Connection, Text, and_, cast, or_, select

from store.durations import Model, durations_of, model_of
from store.events import Kind, Status, Task
from store.rows import task_from_row
from store.tables import tasks
from store.text import json_bytes

STRETCH = 20_000
"""Tasks that one look goes over."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which tasks; None: no condition. text: part of an id or of a metadata value."""

    status: Status | None = None
    provider: str | None = None
    kind: Kind | None = None
    model: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class TaskList:
    """A page of it, newest first. usual: the median of seconds that a model's tasks take.

    older, newer: the ids to go on from, None at an end. stopped: the look ended at `older` because
    the stretch was over, not because the page was full.
    """

    tasks: list[Task]
    usual: dict[Model, float]
    older: str | None = None
    newer: str | None = None
    stopped: bool = False


def look_through(
    connection: Connection,
    wanted: Filter,
    *,
    providers: Collection[str],
    limit: int,
    before: str | None = None,
    after: str | None = None,
) -> TaskList:
    """The tasks older than `before`, or newer than `after`, or the newest ones.

    providers: the names there are; somebody's id at one of them is found at any age.
    """
    exact = (
        _exactly(connection, wanted, providers) if wanted.text and not before and not after else []
    )
    found = TaskList(exact, {}) if exact else _page(connection, wanted, limit, before, after)
    return replace(found, usual=_usual(connection, found.tasks))


def _page(
    connection: Connection, wanted: Filter, limit: int, before: str | None, after: str | None
) -> TaskList:
    upwards = after is not None
    end = _end_of_stretch(connection, before, after)
    query = select(tasks).where(*_conditions(wanted)).limit(limit + 1)
    if upwards:
        query = query.where(tasks.c.id > after).order_by(tasks.c.id)
        query = query.where(tasks.c.id <= end) if end else query
    else:
        query = query.where(tasks.c.id < before) if before else query
        query = query.where(tasks.c.id >= end) if end else query
        query = query.order_by(tasks.c.id.desc())
    found = [task_from_row(row) for row in connection.execute(query)]
    more, page = len(found) > limit, found[:limit]
    further = page[-1].id if more else end
    if upwards:
        page.reverse()
        older = page[-1].id if page else after
        return TaskList(page, {}, older=older, newer=further, stopped=not more and bool(end))
    newer = page[0].id if page else before
    return TaskList(
        page,
        {},
        older=further,
        newer=newer if before else None,
        stopped=not more and end is not None,
    )


def _end_of_stretch(connection: Connection, before: str | None, after: str | None) -> str | None:
    """The last id that one look reaches; None when it reaches them all."""
    ids = select(tasks.c.id).limit(1).offset(STRETCH - 1)
    if after is not None:
        ids = ids.where(tasks.c.id > after).order_by(tasks.c.id)
    else:
        ids = ids.order_by(tasks.c.id.desc())
        ids = ids.where(tasks.c.id < before) if before else ids
    end: str | None = connection.execute(ids).scalar()
    return end


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    # what only an unsigned push has named so far is left out, as in the API's list
    conditions: list[ColumnElement[bool]] = [tasks.c.version > 0]
    for column, value in (
        (tasks.c.status, wanted.status),
        (tasks.c.provider, wanted.provider),
        (tasks.c.kind, wanted.kind),
        (tasks.c.model, wanted.model),
    ):
        if value is not None:
            conditions.append(column == value)
    if wanted.text:
        in_json = json_bytes(wanted.text).decode()[1:-1]
        conditions.append(
            or_(
                tasks.c.provider_task_id.icontains(wanted.text, autoescape=True),
                cast(tasks.c.metadata, Text).icontains(in_json, autoescape=True),
            )
        )
    return conditions


def _exactly(connection: Connection, wanted: Filter, providers: Collection[str]) -> list[Task]:
    """The tasks that have just this id, here or at a provider, however old they are."""
    text, others = wanted.text, _conditions(replace(wanted, text=None))
    theirs = and_(tasks.c.provider.in_(providers), tasks.c.provider_task_id == text)
    rows = [
        row
        for named in (tasks.c.id == text, theirs)
        for row in connection.execute(select(tasks).where(named, *others))
    ]
    return [task_from_row(row) for row in rows]


def _usual(connection: Connection, found: Sequence[Task]) -> dict[Model, float]:
    learned = durations_of(connection, {model_of(task) for task in found})
    medians = {model: durations.quantile(0.5) for model, durations in learned.items()}
    return {model: seconds for model, seconds in medians.items() if seconds is not None}
