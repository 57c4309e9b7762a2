"""The database: how SQLite and PostgreSQL are opened. The only file that knows one from the other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from select import POLLIN, poll
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import (
    Connection,
    Dialect,
    Engine,
    Select,
    create_engine,
    event,
    exc,
    make_url,
)
from sqlalchemy.engine import URL

from store.clock import Clock, system_clock
from store.errors import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    import psycopg

BUSY_TIMEOUT_SECONDS = 2.5
CONNECT_TIMEOUT_SECONDS = 2
STATEMENT_TIMEOUT_SECONDS = 10

# PostgreSQL advisory locks: any two numbers nobody else uses in this database
EVENTS_LOCK = 7_305_001  # held from the first event's insert to the commit: cursors follow commits
CLAIM_LOCK = 7_305_002  # held while deliveries are claimed: limits are exact across processes
MIGRATION_LOCK = 7_305_003
FIRST_KEY_LOCK = 7_305_004  # held while it is looked whether there is an API key yet


Statement = tuple[str, Mapping[str, Any] | None]
"""SQL as the driver takes it, and its parameters."""

_COMMIT: Statement = ("COMMIT", None)


def lock_statement(number: int) -> Statement:
    """What takes an advisory lock of PostgreSQL, until the transaction's end."""
    return f"SELECT pg_advisory_xact_lock({number})", None


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

    def now(self, connection: Connection, clock: Clock, value: str) -> tuple[datetime, Any]:
        """The time that leases and due times go by, and what a query of one value finds.

        Many hosts share one PostgreSQL, so its clock counts there; a clock that a test injected
        counts everywhere.
        """
        if self.postgresql and clock is system_clock:
            asked = (f"SELECT clock_timestamp(), ({value})", None)
            moment, found = self.ask(connection, [asked])[0]
            return moment, found
        return clock(), connection.exec_driver_sql(value).scalar()

    def lock(self, connection: Connection, number: int) -> None:
        """Wait for an advisory lock and hold it to the end of the transaction.

        SQLite has one writer at a time anyway.
        """
        if self.postgresql:
            connection.exec_driver_sql(*lock_statement(number))

    def send(
        self, connection: Connection, statements: Sequence[Statement], *, commit: bool = False
    ) -> None:
        """Run PostgreSQL statements whose answers nobody reads, for the price of one round trip."""
        self._together(connection, [*statements, _COMMIT] if commit else statements)

    def ask(self, connection: Connection, statements: Sequence[Statement]) -> list[tuple[Any, ...]]:
        """The same, and what the last one finds, as the driver has it."""
        return self._together(connection, statements).fetchall()

    def _together(
        self, connection: Connection, statements: Sequence[Statement]
    ) -> psycopg.Cursor[Any]:
        driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        try:
            with driver.pipeline():
                return [driver.execute(sql, values) for sql, values in statements][-1]
        except connection.dialect.loaded_dbapi.Error as error:
            base, dialect = connection.dialect.loaded_dbapi.Error, connection.dialect
            raise exc.DBAPIError.instance(
                None, None, error, base, hide_parameters=True, dialect=dialect
            ) from error

    def lift_time_limits(self, connection: Connection) -> None:
        """Let a transaction take as long as it takes; waiting for locks stays limited."""
        if self.postgresql:
            connection.exec_driver_sql(
                "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
            )

    def locked(self, query: Select[Any], *, skip: bool = False) -> Select[Any]:
        """Lock the rows a query reads (SQLite's transactions are exclusive already)."""
        return query.with_for_update(skip_locked=skip) if self.postgresql else query

    def dispose(self) -> None:
        self.writer.dispose()
        self.reader.dispose()


def connect_alone(database: Database) -> psycopg.Connection[Any]:
    """A connection to PostgreSQL beside the pools; each statement is a transaction of its own."""
    import psycopg  # SQLAlchemy, too, imports it only when it is needed

    _, arguments = database.writer.dialect.create_connect_args(database.url)
    return psycopg.connect(**{**arguments, **_CONNECT}, autocommit=True)


# errors and their tracebacks would otherwise show bound values: bodies, digests, locked secrets
_QUIET: dict[str, Any] = {"hide_parameters": True}


def open_database(url: str | URL) -> Database:
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


def open_to_read(path: Path) -> Database:
    """A SQLite file that stays as it is; it may lie where nothing can be written."""
    read_only = URL.create("sqlite", database=f"file:{quote(str(path))}", query=_READ_ONLY)
    engine = create_engine(read_only, **_QUIET)
    event.listen(engine, "connect", _without_driver_transactions)
    event.listen(engine, "begin", lambda c: c.exec_driver_sql("BEGIN"))
    return Database(URL.create("sqlite", database=str(path)), writer=engine, reader=engine)


_READ_ONLY = {"mode": "ro", "uri": "true"}


def _without_driver_transactions(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None


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
    _use_wal(connection)
    for pragma in (
        "synchronous = FULL",  # NORMAL would lose acknowledged pushes on a power cut
        "foreign_keys = ON",
        "cache_size = -65536",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn WAL on. On a new file SQLite does not wait for others who do just that: this does."""
    for wait in _WAL_WAITS:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            time.sleep(wait)  # in a thread of the store, or before anything is served
        else:
            return
    connection.execute("PRAGMA journal_mode = WAL")


_WAL_WAITS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

_CONNECT: dict[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "application_name": "taskbell",
    # a host that vanished says no goodbye: either side hangs up after ten seconds of silence; what a
    # transaction of its holds locked is free after four, before others give up waiting for it
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "options": f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s"
    " -c idle_in_transaction_session_timeout=4s -c lock_timeout=5s -c timezone=UTC"
    " -c tcp_keepalives_idle=4 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3",
}


# all that is written is found through an index; a plan that was made while the tables were small,
# and is kept, must not walk them when they have grown
_BY_INDEX = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"


def _open_postgresql(url: URL) -> Database:
    shared: dict[str, Any] = {"connect_args": _CONNECT, "pool_timeout": 3, **_QUIET}
    by_index = {**_CONNECT, "options": f"{_CONNECT['options']} {_BY_INDEX}"}
    writer = create_engine(url, pool_size=1, max_overflow=0, **{**shared, "connect_args": by_index})
    reader = create_engine(url, pool_size=4, max_overflow=4, **shared)
    for engine in (writer, reader):
        event.listen(engine, "checkout", partial(_replace_closed, engine.dialect))
    return Database(url, writer, reader)


def _replace_closed(dialect: Dialect, connection: Any, _record: object, _proxy: object) -> None:
    """Find a connection that the server closed while it lay in the pool.

    The pool's own way, pool_pre_ping, costs every transaction a round trip. A server that hangs up
    has something to say, and only a connection with something to read is asked.
    """
    try:
        line = poll()
        line.register(connection.fileno(), POLLIN)
        if line.poll(0):
            dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as error:
        raise exc.InvalidatePoolError from error


_DEADLOCK_OR_SERIALIZATION = {"40P01", "40001"}
_UNIQUE_VIOLATION = "23505"


def unavailable(error: exc.SQLAlchemyError) -> bool:
    """Whether an error is about the database itself, not about the statement or its values."""
    if isinstance(error, exc.TimeoutError):
        return True
    if unreadable(error):
        return False
    if not isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError):
        return False
    return getattr(error.orig, "sqlstate", None) not in _DEADLOCK_OR_SERIALIZATION


def overtaken(error: Exception) -> bool:
    """Whether another process got in the way, so that the same may work a moment later."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else None
    return getattr(cause, "sqlstate", None) in {*_DEADLOCK_OR_SERIALIZATION, _UNIQUE_VIOLATION}


def unreadable(error: Exception) -> bool:
    """Whether a row holds what its columns cannot."""
    if isinstance(error, exc.DBAPIError):
        # text that is no UTF-8 is the driver's own complaint: SQLite's have a code
        driver = isinstance(error.orig, sqlite3.OperationalError)
        return driver and not hasattr(error.orig, "sqlite_errorcode")
    return isinstance(error, ValueError | TypeError | LookupError)


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


def lock_file(database: Database) -> Path:
    """What a process holds while it works on a SQLite file."""
    return Path(f"{database.url.database}.lock")


def hold_sqlite_file(database: Database) -> IO[str] | None:
    """Make sure this is the only Taskbell process on a SQLite file; keep what it returns open.

    Raises StoreError when another process has it. (Two writing processes would also meet SQLite's
    WAL-reset bug, fixed in 3.51.3 only.) PostgreSQL takes any number of processes.
    """
    if database.postgresql:
        return None
    handle = lock_file(database).open("a+", encoding="ascii")
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
