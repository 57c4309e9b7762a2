"""The list of events as people look through it: newest first, filtered, pages in both directions.

A provider has no index here: a look for one goes over a stretch of so many cursors at the most, and
says where it stopped, so that the next one goes on there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from store.tables import events, tasks

STRETCH = 20_000
"""Cursors that one look for a provider's events goes over."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events; None: no condition."""

    type: str | None = None
    provider: str | None = None
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class EventLine:
    """An event without its body. provider_task_id: None when the task is gone, or there is none."""

    cursor: int
    id: str
    type: str
    provider: str | None
    task_id: str | None
    subject: str
    version: int
    created_at: datetime
    provider_task_id: str | None


@dataclass(frozen=True, slots=True)
class EventList:
    """A page of it, newest first; older, newer: the cursors to go on from, None at an end.

    stopped: the look ended at `older` because the stretch was over, not because the page was full.
    """

    events: list[EventLine]
    older: int | None = None
    newer: int | None = None
    stopped: bool = False


def look_through(
    connection: Connection,
    wanted: Filter,
    *,
    limit: int,
    before: int | None = None,
    after: int | None = None,
) -> EventList:
    """The events older than the cursor `before`, or newer than `after`, or the newest ones."""
    if after is not None:
        return _upwards(connection, wanted, limit, after)
    bottom = _bottom(connection, wanted, before)
    query = _query(wanted, limit).order_by(events.c.cursor.desc())
    if before is not None:
        query = query.where(events.c.cursor < before)
    if bottom is not None:
        query = query.where(events.c.cursor >= bottom)
    found = [EventLine(*row) for row in connection.execute(query)]
    page, more = found[:limit], len(found) > limit
    newer = page[0].cursor if page else before
    return EventList(
        page,
        older=page[-1].cursor if more else bottom,
        newer=newer if before is not None else None,
        stopped=not more and bottom is not None,
    )


def _upwards(connection: Connection, wanted: Filter, limit: int, after: int) -> EventList:
    query = _query(wanted, limit).where(events.c.cursor > after).order_by(events.c.cursor)
    top = after + STRETCH if _slow(wanted) else None
    newest = connection.execute(select(func.max(events.c.cursor))).scalar() or 0
    if top is not None and top < newest:
        query = query.where(events.c.cursor <= top)
    else:
        top = None
    found = [EventLine(*row) for row in connection.execute(query)]
    page, more = found[:limit], len(found) > limit
    newer = page[-1].cursor if more else top
    page.reverse()
    older = page[-1].cursor if page else after + 1
    return EventList(page, older=older, newer=newer, stopped=not more and top is not None)


def _slow(wanted: Filter) -> bool:
    """Whether no index leads to what is wanted."""
    return wanted.provider is not None and wanted.task_id is None


def _bottom(connection: Connection, wanted: Filter, before: int | None) -> int | None:
    """The lowest cursor that one look reaches; None when it reaches them all."""
    if not _slow(wanted):
        return None
    oldest, newest = connection.execute(_ENDS).one()
    bottom = (before if before is not None else (newest or 0) + 1) - STRETCH
    return bottom if oldest is not None and bottom > oldest else None


_ENDS = select(
    select(func.min(events.c.cursor)).scalar_subquery(),
    select(func.max(events.c.cursor)).scalar_subquery(),
)


def _query(wanted: Filter, limit: int) -> Select[Any]:
    columns = (
        *(events.c.cursor, events.c.id, events.c.type, events.c.provider),
        *(events.c.task_id, events.c.subject, events.c.version, events.c.created_at),
        tasks.c.provider_task_id,
    )
    joined = events.outerjoin(tasks, tasks.c.id == events.c.task_id)
    return select(*columns).select_from(joined).where(*_conditions(wanted)).limit(limit + 1)


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    given = (
        (events.c.type, wanted.type),
        (events.c.provider, wanted.provider),
        (events.c.task_id, wanted.task_id),
    )
    return [column == value for column, value in given if value is not None]
