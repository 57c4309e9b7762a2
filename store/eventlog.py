"""Reading the events: in commit order, each with its cursor."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, select, text

from store.counting import EVENTS_DELETED, read_counter
from store.errors import CursorAheadError, CursorExpiredError
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
    """Events after a cursor. Cursors follow the commits: a reader that goes on never misses one.

    Raises CursorError.
    """
    check_cursor(connection, after)
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


def check_cursor(connection: Connection, after: int) -> None:
    """Raise CursorError unless a reader can go on from there and misses nothing; 0 is the beginning.

    Retention goes by tasks: older events of a task that ended late may be there when newer ones are
    gone. Who holds the cursor of an event that is there may always go on.
    """
    if after == 0:
        return
    oldest, newest = connection.execute(_ENDS).one()
    deleted = read_counter(connection, EVENTS_DELETED)
    if after > (newest or 0) and _is_ahead(connection, after):
        raise CursorAheadError(after, max(newest or 0, deleted))
    # what lies before the oldest is gone, also where nobody has counted yet
    gone = max(deleted, (oldest or 1) - 1)
    if after < gone and not connection.execute(_IS_THERE, {"cursor": after}).first():
        raise CursorExpiredError(after, deleted if oldest is None else oldest)


_ENDS = select(  # two looks into the index; together in one they would be a walk through the table
    select(func.min(events.c.cursor)).scalar_subquery(),
    select(func.max(events.c.cursor)).scalar_subquery(),
)
_IS_THERE = select(events.c.cursor).where(events.c.cursor == bindparam("cursor"))


def _is_ahead(connection: Connection, cursor: int) -> bool:
    """True for a cursor that no event ever had, whatever was deleted."""
    if cursor <= read_counter(connection, EVENTS_DELETED):
        return False
    return cursor > _highest_given(connection)


def _highest_given(connection: Connection) -> int:
    """The highest cursor that was ever given to an event, also to one that is gone; 0: none."""
    if connection.dialect.name != "postgresql":
        query = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
        return connection.execute(text(query)).scalar() or 0
    name = connection.execute(text("SELECT pg_get_serial_sequence('events', 'cursor')")).scalar()
    # its name, from the catalogue, cannot be a parameter
    query = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {name}"  # noqa: S608
    return int(connection.execute(text(query)).scalar() or 0)


def cursor_before(connection: Connection, moment: datetime) -> int:
    """The cursor after which are the events recorded from a moment on.

    Times have no index, but follow the cursors: it halves what is left, 20 looks for a million.
    """
    oldest, newest = connection.execute(_ENDS).one()
    if oldest is None:
        return last_cursor(connection)
    low, high = oldest - 1, newest
    while low < high:
        middle = (low + high) // 2
        cursor, created_at = connection.execute(_NEXT, {"after": middle}).one()
        if created_at < moment:
            low = cursor
        else:
            high = middle
    return int(low)


_NEXT = (
    select(events.c.cursor, events.c.created_at)
    .where(events.c.cursor > bindparam("after"))
    .order_by(events.c.cursor)
    .limit(1)
)


def last_cursor(connection: Connection) -> int:
    """Of the newest event; 0 when there is none."""
    return connection.execute(select(func.max(events.c.cursor))).scalar() or 0


def read_on(connection: Connection, after: int, wanted: Wanted, *, limit: int) -> Stretch:
    """The next part of the log after a cursor, with at most so many events.

    Raises CursorAheadError when the log has become another one since that cursor was read.
    """
    end = last_cursor(connection)  # first: all that is before it is committed, and will be found
    if after > end and _is_ahead(connection, after):
        raise CursorAheadError(after, end)
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
