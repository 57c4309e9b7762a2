"""Reading the events: in commit order, each with its cursor."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from store.tables import events

_STRIDE = 10_000
"""Cursors that one reading goes over, however few of the events there it wants."""


@dataclass(frozen=True, slots=True)
class EventView:
    """An event as the API shows it: the body every subscriber gets, and its cursor."""

    cursor: int
    body: dict[str, Any]


def list_events(
    connection: Connection,
    *,
    limit: int,
    after: int = 0,
    event_type: str | None = None,
    task_id: str | None = None,
) -> list[EventView]:
    """Events behind a cursor. Cursors follow the commits: a reader that goes on never misses one."""
    query = select(events).where(events.c.cursor > after).order_by(events.c.cursor).limit(limit)
    if event_type:
        query = query.where(events.c.type == event_type)
    if task_id:
        query = query.where(events.c.task_id == task_id)
    return [_view(row) for row in connection.execute(query)]


def get_event(connection: Connection, event_id: str) -> EventView | None:
    row = connection.execute(select(events).where(events.c.id == event_id)).first()
    return _view(row) if row else None


def _view(row: Row[Any]) -> EventView:
    return EventView(row.cursor, json.loads(row.body))


@dataclass(frozen=True, slots=True)
class Entry:
    """An event in the log: body is the exact JSON that every subscriber gets."""

    cursor: int
    type: str
    provider: str | None
    task_id: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a reader of the log wants: all that fit every condition. None: no condition.

    >>> Wanted(types=frozenset({"task.failed"})).fits(Entry(1, "task.failed", "minimax", "t", b""))
    True
    """

    types: frozenset[str] | None = None
    providers: frozenset[str] | None = None
    task_ids: frozenset[str] | None = None

    def fits(self, entry: Entry) -> bool:
        return (
            (self.types is None or entry.type in self.types)
            and (self.providers is None or entry.provider in self.providers)
            and (self.task_ids is None or entry.task_id in self.task_ids)
        )


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a reader wants of a part of the log, and the cursor that the part goes up to.

    at_end: nothing was committed behind it when it was read.
    """

    entries: list[Entry]
    upto: int
    at_end: bool

    def first(self, most_bytes: int) -> Stretch:
        """Its beginning, up to the event with which its bodies come to so much."""
        size = 0
        for number, entry in enumerate(self.entries[:-1], start=1):
            size += len(entry.body)
            if size >= most_bytes:
                return Stretch(self.entries[:number], entry.cursor, at_end=False)
        return self


def last_cursor(connection: Connection) -> int:
    """Of the newest event; 0 when there is none."""
    return connection.execute(select(func.max(events.c.cursor))).scalar() or 0


def read_on(connection: Connection, after: int, wanted: Wanted, *, limit: int) -> Stretch:
    """The next part of the log behind a cursor, with at most so many events."""
    end = last_cursor(connection)  # first: all that is before it is committed, and will be found
    if after >= end:
        return Stretch([], after, at_end=True)
    upto = min(end, after + _STRIDE)
    query = _wanted(wanted).where(events.c.cursor > after, events.c.cursor <= upto)
    rows = connection.execute(query.order_by(events.c.cursor).limit(limit))
    entries = [Entry(*row) for row in rows]
    if len(entries) == limit:
        upto = entries[-1].cursor
    return Stretch(entries, upto, at_end=upto == end)


def _wanted(wanted: Wanted) -> Select[Any]:
    query = select(
        events.c.cursor, events.c.type, events.c.provider, events.c.task_id, events.c.body
    )
    for column, values in (
        (events.c.type, wanted.types),
        (events.c.provider, wanted.providers),
        (events.c.task_id, wanted.task_ids),
    ):
        if values is not None:
            query = query.where(column.in_(sorted(values)))
    return query
