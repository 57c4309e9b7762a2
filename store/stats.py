"""How much is open and how much waits: counted in the indexes of just that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from store.among import among
from store.tables import deliveries, tasks, word


@dataclass(frozen=True, slots=True)
class OpenTasks:
    count: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """Open tasks by status; deliveries that wait, or are being sent; when the first was due."""

    tasks: Mapping[str, OpenTasks]
    waiting: int
    in_flight: int
    first_due: datetime | None


def read_backlog(connection: Connection) -> Backlog:
    unfinished, first_due = connection.execute(_UNFINISHED).one()
    in_flight = connection.execute(_IN_FLIGHT).scalar_one()
    return Backlog(_open_tasks(connection), max(0, unfinished - in_flight), in_flight, first_due)


def _open_tasks(connection: Connection) -> dict[str, OpenTasks]:
    counted = connection.execute(_OPEN_TASKS).all()
    ids = [oldest for _, _, oldest in counted]
    created = {row.id: row.created_at for row in connection.execute(_CREATED, {"ids": ids})}
    return {
        status: OpenTasks(count, created[oldest])
        for status, count, oldest in counted
        if oldest in created
    }


# ids sort by the time they were made, so the index on status and id knows the oldest, too
_OPEN_TASKS = (
    select(tasks.c.status, func.count(), func.min(tasks.c.id))
    .where(tasks.c.status.in_((word("queued"), word("processing"))))
    .group_by(tasks.c.status)
)
_CREATED = select(tasks.c.id, tasks.c.created_at).where(among(tasks.c.id, "ids"))
_UNFINISHED = select(func.count(), func.min(deliveries.c.due_at)).where(
    deliveries.c.finished_at.is_(None)
)
_IN_FLIGHT = select(func.count()).where(deliveries.c.status == word("in_flight"))
