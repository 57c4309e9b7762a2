"""A database with a month of work in it: the scene of tests/seed, thousands of times over.

The copies lie one before the other, the last one just before the scene's end. Each squeezes the scene's day
into its part of the month, so that its ids, cursors and times run the same way. What waits in the
scene is copied into the newest copies only, for that is where it would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Connection, Table, Text, func, select, text, type_coerce

from store.database import Database, open_database
from store.events import rfc3339
from store.tables import JsonText, UtcTime, attempts, deliveries, events, receipts, tasks
from tests.bench.stock import settle
from tests.bench.taskbell import SECRET_KEYS
from tests.seed.scene import LENGTH, Scene, seed

_SPAN = timedelta(days=29)
_WAITS_IN = 20
"""One in so many copies, the newest ones, has what waits in the scene."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_IDS = {
    tasks: ("id",),
    events: ("id", "task_id", "subject"),
    deliveries: ("id", "event_id", "task_id"),
    attempts: ("id", "delivery_id"),
    receipts: ("id", "task_id"),
}


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many rows there are, and the scene among them."""

    scene: Scene
    tasks: int
    deliveries: int


class _Copy(NamedTuple):
    """number: from 1, the newest. end: the last moment in it; end_ms: the same since 1970."""

    number: int
    end: datetime
    end_ms: int


_Change = Callable[[_Copy], Any]


def make_crowd(database_url: str, end: datetime, number: int) -> Crowd:
    """Fill a new database with so many tasks, and more than ten deliveries for each."""
    scene = seed(database_url, SECRET_KEYS, end)
    database = open_database(database_url)
    try:
        with database.writer.begin() as connection:
            database.lift_time_limits(connection)
            _multiply(connection, database, scene, number)
        if database.postgresql:
            settle(database.writer)
        with database.reader.begin() as connection:
            return Crowd(scene, _count(connection, tasks), _count(connection, deliveries))
    finally:
        database.dispose()


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _multiply(connection: Connection, database: Database, scene: Scene, number: int) -> None:
    originals = _originals(connection, scene)
    copies = -(-number // len(originals[tasks]))
    step = _SPAN / copies
    _make_room(connection, database, copies * len(originals[events]))
    for table, rows in originals.items():
        templates = [_Template(table, row, scene.end, step / LENGTH) for row in rows]
        _insert(
            connection,
            database,
            table,
            (
                template.copy(_Copy(each, at, int(at.timestamp() * 1000)))
                for each in range(copies, 0, -1)
                for at in [scene.end - each * step]
                for template in templates
                if each <= copies // _WAITS_IN or not template.waits
            ),
        )


def _originals(connection: Connection, scene: Scene) -> dict[Table, list[Mapping[str, Any]]]:
    """The scene's rows worth copying: all about tasks that ended, and about no task.

    The hostile one is left out: it is a hundred times as long as the others.
    """
    rows = {table: _read(connection, table) for table in _IDS}
    ended = {row["id"] for row in rows[tasks] if row["finished_at"]} - {scene.tasks["hostile"]}
    rows[tasks] = [row for row in rows[tasks] if row["id"] in ended]
    for table in (events, deliveries, receipts):
        rows[table] = [row for row in rows[table] if row["task_id"] in {*ended, None}]
    rows[deliveries] = [row for row in rows[deliveries] if row["status"] != "in_flight"]
    waiting = {row["id"]: row["due_at"] for row in rows[deliveries]}
    rows[attempts] = [
        {**row, "due_at": waiting[row["delivery_id"]]}
        for row in rows[attempts]
        if row["delivery_id"] in waiting
    ]
    return rows


def _read(connection: Connection, table: Table) -> list[Mapping[str, Any]]:
    """Values as the driver takes them, but for times."""
    columns = [
        type_coerce(column, Text).label(column.name)
        if isinstance(column.type, JsonText)
        else column
        for column in table.columns
        if column.name != "cursor"
    ]
    query = select(*columns).order_by(table.c.get("cursor", table.c.id))
    return [dict(row) for row in connection.execute(query).mappings()]


class _Template:
    """A row of the scene: what every copy of it has, and what each has of its own.

    waits: it is there only in the newest copies.
    """

    def __init__(
        self, table: Table, row: Mapping[str, Any], end: datetime, squeezed: float
    ) -> None:
        columns = [column for column in table.columns if column.name != "cursor"]
        self.waits = row.get("due_at") is not None
        self._values = [row[column.name] for column in columns]
        self._changes = list[tuple[int, _Change]]()
        for place, column in enumerate(columns):
            value = row[column.name]
            if value is None:
                continue
            if column.name in _IDS[table]:
                self._changes.append((place, _moved(value, end, squeezed)))
            elif column.name == "provider_task_id":
                self._changes.append((place, _numbered(value)))
            elif column.name == "due_at":
                self._values[place] = rfc3339(value)
            elif isinstance(column.type, UtcTime):
                self._changes.append((place, _shifted(value, end, squeezed)))

    def copy(self, copy: _Copy) -> list[Any]:
        row = self._values.copy()
        for place, change in self._changes:
            row[place] = change(copy)
        return row


def _moved(text_id: str, end: datetime, squeezed: float) -> _Change:
    """An id that says the copy's time; see store/ids.py."""
    prefix, _, value = text_id.partition("_")
    made_ms = 0
    for character in value[:10]:
        made_ms = made_ms << 5 | _ALPHABET.index(character)
    before, rest = int((end.timestamp() * 1000 - made_ms) * squeezed), value[10:]

    def change(copy: _Copy) -> str:
        at = copy.end_ms - before
        first, second = _PAIRS[at >> 40], _PAIRS[at >> 30 & 1023]
        third, fourth = _PAIRS[at >> 20 & 1023], _PAIRS[at >> 10 & 1023]
        return f"{prefix}_{first}{second}{third}{fourth}{_PAIRS[at & 1023]}{rest}"

    return change


def _shifted(moment: datetime, end: datetime, squeezed: float) -> _Change:
    before = (end - moment) * squeezed
    return lambda copy: f"{(copy.end - before).isoformat(timespec='microseconds')[:-6]}Z"


def _numbered(value: str) -> _Change:
    return lambda copy: f"{value}-{copy.number}"


def _make_room(connection: Connection, database: Database, cursors: int) -> None:
    """Let what is inserted now come before the scene's own events."""
    connection.execute(events.update().values(cursor=events.c.cursor + 1_000_000_000))
    connection.execute(events.update().values(cursor=events.c.cursor - 1_000_000_000 + cursors))
    if database.postgresql:
        connection.execute(text("ALTER SEQUENCE events_cursor_seq RESTART"))


def _insert(
    connection: Connection, database: Database, table: Table, rows: Iterator[list[Any]]
) -> None:
    """The quick way of each driver."""
    names = [column.name for column in table.columns if column.name != "cursor"]
    listed = ", ".join(f'"{name}"' for name in names)
    driver: Any = connection.connection.driver_connection
    if database.postgresql:
        assert isinstance(driver, psycopg.Connection)
        with (
            driver.cursor() as cursor,
            cursor.copy(f'COPY "{table.name}" ({listed}) FROM STDIN'.encode()) as copy,
        ):
            for row in rows:
                copy.write_row(row)
    else:
        marks = ", ".join("?" * len(names))
        driver.executemany(f'INSERT INTO "{table.name}" ({listed}) VALUES ({marks})', rows)
