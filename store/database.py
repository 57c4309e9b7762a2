"""The database: how SQLite and PostgreSQL are opened. The only file that knows one from the other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    Table,
    create_engine,
    event,
    exc,
    func,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.sql.dml import ReturningInsert

from store.clock import Clock, system_clock
from store.errors import ConflictError, StoreError, StoreUnavailableError

BUSY_TIMEOUT_SECONDS = 2.5
CONNECT_TIMEOUT_SECONDS = 2
STATEMENT_TIMEOUT_SECONDS = 10

# PostgreSQL advisory locks: any two numbers nobody else uses in this database
EVENTS_LOCK = 7_305_001  # held from the first event's insert to the commit: cursors follow commits
CLAIM_LOCK = 7_305_002  # held while deliveries are claimed: limits are exact across processes
MIGRATION_LOCK = 7_305_003


@dataclass(frozen=True, slots=True)
class Database:
    """One database: `writer` for the one writing thread, `reader` for the readers' pool."""

    url: URL
    writer: Engine
    reader: Engine

    @property
    def postgresql(self) -> bool:
        return self.url.get_backend_name() == "postgresql"

    @property
    def name(self) -> str:
        """The address without its password, for logs."""
        return self.url.render_as_string(hide_password=True)

    def now(self, connection: Connection, clock: Clock) -> datetime:
        """The time that leases and due times go by.

        Many hosts share one PostgreSQL, so its clock counts there; a clock that a test injected
        counts everywhere.
        """
        if self.postgresql and clock is system_clock:
            moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
            return moment
        return clock()

    def lock(self, connection: Connection, number: int) -> None:
        """Wait for an advisory lock and hold it to the end of the transaction.

        SQLite has one writer at a time anyway.
        """
        if self.postgresql:
            connection.execute(select(func.pg_advisory_xact_lock(number)))

    def insert_missing(
        self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], key: str
    ) -> set[str]:
        """Insert the rows that break no unique key; the `key` values of those that went in."""
        statement: ReturningInsert[Any]
        if self.postgresql:
            statement = postgresql.insert(table).on_conflict_do_nothing().returning(table.c[key])
        else:
            statement = sqlite.insert(table).on_conflict_do_nothing().returning(table.c[key])
        return {row[0] for row in connection.execute(statement, list(rows))}

    def locked(self, query: Select[Any], *, skip: bool = False) -> Select[Any]:
        """Lock the rows a query reads (SQLite's transactions are exclusive already)."""
        return query.with_for_update(skip_locked=skip) if self.postgresql else query

    def dispose(self) -> None:
        self.writer.dispose()
        self.reader.dispose()


# errors and their tracebacks would otherwise show bound values: bodies, digests, locked secrets
_QUIET: dict[str, Any] = {"hide_parameters": True}


def open_database(url: str) -> Database:
    """Open sqlite:///path or postgresql://…; nothing is asked of the server yet.

    Raises ValueError for any other address.
    """
    parsed = make_url(url)
    match parsed.drivername:
        case "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise ValueError("SQLite needs a file: sqlite:///taskbell.db")
            return _open_sqlite(parsed)
        case "postgresql" | "postgres" | "postgresql+psycopg":
            return _open_postgresql(parsed.set(drivername="postgresql+psycopg"))
        case other:
            raise ValueError(f"'{other}' is not a database Taskbell knows: sqlite or postgresql")


def _open_sqlite(url: URL) -> Database:
    connect: dict[str, Any] = {"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
    shared: dict[str, Any] = {"connect_args": connect, "max_overflow": 0, **_QUIET}
    writer = create_engine(url, pool_size=1, **shared)
    reader = create_engine(url, pool_size=8, **shared)
    event.listen(writer, "connect", _sqlite_pragmas)
    event.listen(reader, "connect", _sqlite_pragmas)
    # the driver's own transactions lose updates silently; IMMEDIATE takes the write lock at once
    event.listen(writer, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
    event.listen(reader, "begin", lambda c: c.exec_driver_sql("BEGIN"))
    return Database(url, writer, reader)


def _sqlite_pragmas(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",  # NORMAL would lose acknowledged pushes on a power cut
        "foreign_keys = ON",
        "cache_size = -65536",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _open_postgresql(url: URL) -> Database:
    options = (
        f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s"
        " -c idle_in_transaction_session_timeout=30s -c lock_timeout=5s -c timezone=UTC"
    )
    connect = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "options": options,
        "application_name": "taskbell",
    }
    shared: dict[str, Any] = {"connect_args": connect, "pool_pre_ping": True, "pool_timeout": 3}
    shared |= _QUIET
    writer = create_engine(url, pool_size=1, max_overflow=0, **shared)
    reader = create_engine(url, pool_size=4, max_overflow=4, **shared)
    return Database(url, writer, reader)


_DEADLOCK_OR_SERIALIZATION = {"40P01", "40001"}


def unavailable(error: exc.SQLAlchemyError) -> bool:
    """Whether an error is about the database itself, not about the statement or its values."""
    if isinstance(error, exc.TimeoutError):
        return True
    if not isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError):
        return False
    return getattr(error.orig, "sqlstate", None) not in _DEADLOCK_OR_SERIALIZATION


def overtaken(error: Exception) -> bool:
    """Whether another process got in the way, so that the same may work a moment later."""
    if isinstance(error, ConflictError):
        return True
    cause = error.orig if isinstance(error, exc.DBAPIError) else None
    return getattr(cause, "sqlstate", None) in _DEADLOCK_OR_SERIALIZATION


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors about the database itself into StoreUnavailableError."""
    try:
        yield
    except exc.SQLAlchemyError as error:
        if not unavailable(error):
            raise
        raise StoreUnavailableError(_reason(error)) from None


def _reason(error: exc.SQLAlchemyError) -> str:
    # the driver's first line only: later ones may repeat statement and values
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().split("\n")[0][:200] or type(cause).__name__


def hold_sqlite_file(database: Database) -> IO[str] | None:
    """Make sure this is the only Taskbell process on a SQLite file; keep what it returns open.

    Raises StoreError when another process has it. (Two writing processes would also meet SQLite's
    WAL-reset bug, fixed in 3.51.3 only.) PostgreSQL takes any number of processes.
    """
    if database.postgresql:
        return None
    path = Path(f"{database.url.database}.lock")
    handle = path.open("a+", encoding="ascii")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.seek(0)
        owner = handle.read(20).strip() or "unknown"
        handle.close()
        raise StoreError(
            f"{database.url.database} is in use by another taskbell process (pid {owner});"
            " several processes need PostgreSQL: set TASKBELL_DATABASE_URL"
        ) from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle
