"""All rows of one database in another, empty one: backups, restores, the move to PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    Connection,
    Select,
    TableClause,
    Text,
    column,
    exc,
    func,
    inspect,
    select,
    table,
    text,
)

from store.bulk import Bulk
from store.database import (
    Database,
    hold_sqlite_file,
    open_file,
    open_to_read,
    translated,
    unreadable,
)
from store.errors import SchemaError, StoreError
from store.schema import HEAD, current_version, migrate
from store.sqlite_file import check_name, create
from store.tables import JsonText, events, metadata

BATCH = 1000

Counts = Mapping[str, int]
"""How many rows there are, by table."""


def back_up(database: Database, path: Path) -> Counts:
    """Write all there is at one moment to a new SQLite file; servers may go on meanwhile.

    The file is its owner's only, and has its name once it is whole. Raises StoreError when
    something has that name already, OSError when the file cannot be written.
    """
    if path.exists():
        raise StoreError(f"{path} is there already: name a new file")
    if not database.postgresql:
        check_name(database.file)
    with _part_of(path) as part, translated():
        if not database.postgresql:
            _vacuum_into(database, part)
        with _opened(part) as made:
            if database.postgresql:
                migrate(made)
                copy(database, made)
            with made.reader.begin() as connection:
                found = connection.exec_driver_sql("PRAGMA quick_check").scalar()
                if found != "ok":
                    raise StoreError(f"the database is damaged: {found}")
                counts = _counts(connection)
        _make_durable(part)
    return counts


@contextlib.contextmanager
def original(path: Path) -> Iterator[Database]:
    """The SQLite file to copy from: a backup, or the database of a server that was stopped.

    Raises SchemaError when it is of another version, StoreError when it is no database or a server
    works on it: what that took from now on would be left behind.
    """
    if not path.is_file():
        raise StoreError(f"there is no file {path}")
    source = open_to_read(path)
    try:
        held = hold_sqlite_file(source, touch=False)
    except StoreError:
        raise StoreError(f"{path} is in use by a running server: stop it, then copy") from None
    try:
        _refuse_what_is_not_ours(source)
        yield source
    finally:
        source.dispose()
        if held:
            held.close()


def restore(source: Database, target: Database) -> Counts:
    """Copy into an empty database, which gets its tables first. Raises as copy does."""
    held = hold_sqlite_file(target)
    try:
        with translated(), target.reader.begin() as connection:
            new = current_version(connection) is None
        if new:
            migrate(target)
        return copy(source, target)
    finally:
        if held:
            held.close()


def copy(source: Database, target: Database) -> Counts:
    """Copy every row, in one transaction on either side. Nobody may serve on the target meanwhile.

    Raises SchemaError when either has not this version's schema, StoreError when the target is not
    empty or a row cannot be read; the target is then as it was.
    """
    with (
        translated(),
        _snapshot(source) as reading,
        target.writer.begin() as writing,
    ):
        target.lift_time_limits(writing)
        _refuse_other_schema(source, reading)
        _refuse_other_schema(target, writing)
        _make_room(target, writing)
        for each in _TABLES:
            _copy_table(reading, writing, each)
        _set_last_cursor(target, writing, _last_cursor(source, reading))
        counts = _counts(writing)
        if counts != _counts(reading):
            raise StoreError("the copy has not as many rows as the original")
    return counts


def _plain(name: str) -> TableClause:
    """A table whose JSON stays the text it is: read and written again, it could come out another."""
    columns = metadata.tables[name].columns
    kinds = {c.name: Text() if isinstance(c.type, JsonText) else c.type for c in columns}
    return table(name, *(column(each, kind) for each, kind in kinds.items()))


_TABLES = tuple(_plain(each.name) for each in metadata.sorted_tables)  # what is pointed to first


@contextlib.contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """A file to write to, which gets its name when all went well and is removed otherwise."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)  # of a backup that was cut off
    create(part)
    try:
        yield part
        part.rename(path)
    finally:
        for ending in ("", "-wal", "-shm"):
            Path(f"{part}{ending}").unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Database]:
    database = open_file(path)
    try:
        yield database
    finally:
        database.dispose()


def _vacuum_into(database: Database, path: Path) -> None:
    try:
        # in no transaction, which the engine's own connections always are
        with contextlib.closing(database.reader.raw_connection()) as connection:
            connection.cursor().execute("VACUUM INTO ?", (os.path.abspath(path),))
    except sqlite3.Error as error:
        raise StoreError(f"{database.name} cannot be backed up: {error}") from None


def _make_durable(path: Path) -> None:
    """VACUUM INTO does not wait for the disk."""
    for each, flags in ((path, os.O_RDONLY), (path.parent, os.O_RDONLY | os.O_DIRECTORY)):
        handle = os.open(each, flags)
        os.fsync(handle)
        os.close(handle)


@contextlib.contextmanager
def _snapshot(database: Database) -> Iterator[Connection]:
    """A transaction that sees one moment to its end. SQLite's do anyway."""
    with database.reader.connect() as connection:
        if database.postgresql:
            connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            database.lift_time_limits(connection)
            yield connection


def _refuse_what_is_not_ours(source: Database) -> None:
    try:
        with source.reader.begin() as connection:
            _refuse_other_schema(source, connection)
    except exc.DBAPIError as error:
        raise StoreError(f"{source.file} cannot be read: {error.orig}") from None


def _refuse_other_schema(database: Database, connection: Connection) -> None:
    version = current_version(connection)
    if version is None:
        raise SchemaError(f"{database.name} holds no tables of taskbell")
    if version < HEAD:
        raise SchemaError(
            f"{database.name} has an older schema ({version}): run `taskbell migrate` on it"
        )
    if version > HEAD:
        raise SchemaError(
            f"{database.name} has a newer schema ({version}) than this taskbell ({HEAD}): use the"
            " version that made it"
        )


def _make_room(target: Database, writing: Connection) -> None:
    """What migrations put into an empty database goes. Raises StoreError when there is more."""
    for each in _TABLES:
        if target.postgresql:
            writing.exec_driver_sql(f"LOCK TABLE {each.name} IN EXCLUSIVE MODE")
        if each.name == "counters":
            writing.execute(each.delete())
        elif writing.execute(select(each).limit(1)).first() is not None:
            raise StoreError(
                f"{target.name} is not empty: there are {each.name}. Name a new database"
            )


def _copy_table(reading: Connection, writing: Connection, each: TableClause) -> None:
    insert = Bulk(each.insert(), *each.c.keys())
    try:
        found = reading.execution_options(yield_per=BATCH).execute(_in_order(each))
        for batch in found.mappings().partitions():
            insert.run(writing, [dict(row) for row in batch])
    except Exception as error:  # what cannot be read fails in many ways; the rest goes on up
        if not unreadable(error):
            raise
        # its text would quote the row
        raise StoreError(f"a row of {each.name} cannot be read ({type(error).__name__})") from None


def _in_order(each: TableClause) -> Select[Any]:
    # as they were written, so that the copy's indexes and pages fill from the left
    return select(each).order_by(next(iter(each.c)))


def _counts(connection: Connection) -> Counts:
    there = set(inspect(connection).get_table_names())  # an older schema has not all of them
    return {
        each.name: cast(int, connection.execute(select(func.count()).select_from(each)).scalar())
        for each in _TABLES
        if each.name in there
    }


_SEQUENCE = "pg_get_serial_sequence('events', 'cursor')"


def _last_cursor(database: Database, connection: Connection) -> int:
    """The highest that was ever given to an event, also to one that is gone; 0: none."""
    if not database.postgresql:
        query = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
        return connection.execute(text(query)).scalar() or 0
    name = connection.execute(text(f"SELECT {_SEQUENCE}")).scalar()
    # its name, from the catalogue, cannot be a parameter
    query = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {name}"  # noqa: S608
    return cast(int, connection.execute(text(query)).scalar())


def _set_last_cursor(database: Database, connection: Connection, last: int) -> None:
    """So that no reader of events misses one whose cursor lies behind its own."""
    if database.postgresql:
        if last:
            connection.execute(text(f"SELECT setval({_SEQUENCE}, :last)"), {"last": last})
        return
    connection.execute(text("DELETE FROM sqlite_sequence WHERE name = 'events'"))
    values = {"name": events.name, "last": last}
    connection.execute(text("INSERT INTO sqlite_sequence VALUES (:name, :last)"), values)
