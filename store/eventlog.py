"""Reading the events: in commit order, each with its cursor."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from store.tables import events


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
