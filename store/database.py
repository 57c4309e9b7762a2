"""The database: how SQLite and PostgreSQL are opened. The only file that knows one from the other."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from select import POLLIN, poll
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import (
    Connection,
    Dialect,
    Engine,
    Select,
    create_engine,
    event,
    exc,
)
from sqlalchemy.engine import URL, ExceptionContext

from store import sqlite_file
from store.address import Address, read_address
from store.clock import Clock, system_clock
from store.errors import ReadOnlyError, StoreUnavailableError
from store.sessions import BY_INDEX, Sessions, Statement

if TYPE_CHECKING:
    import psycopg

BUSY_TIMEOUT_SECONDS = 2.5

# PostgreSQL advisory locks: any two numbers nobody else uses in this database
EVENTS_LOCK = 7_305_001  # held from the first event's insert to the commit: cursors follow commits
CLAIM_LOCK = 7_305_002  # held while deliveries are claimed: limits are exact across processes
MIGRATION_LOCK = 7_305_003
FIRST_KEY_LOCK = 7_305_004  # held while it is looked whether there is an API key yet


_COMMIT: Statement = ("COMMIT", None)


def lock_statement(number: int) -> Statement:
    """What takes an advisory lock of PostgreSQL, until the transaction's end."""
    return f"SELECT pg_advisory_xact_lock({number})", None


class Generation:
    """Which pooled connections are still used: those made since the last one that proved useless.

    After a failover all of a process's connections lead to a server that takes no writes, or to none.
    """

    def __init__(self) -> None:
        self._number = 0

    def note(self, _connection: object, record: Any) -> None:
        """Called for each new connection of a pool."""
        record.info[Generation] = self._number

    def check(self, _connection: object, record: Any, _proxy: object) -> None:
        """Called when a connection leaves a pool. Raises for an old one, and the pool makes another."""
        if record.info.get(Generation) != self._number:
            raise exc.InvalidatePoolError

    def end(self, connection: Connection) -> None:
        """Use no connection that is as old as this one, in any pool of the database."""
        if connection.info.get(Generation) == self._number:
            self._number += 1


@dataclass(frozen=True, slots=True)
class Database:
    """One database: `writer` for the one writing thread, `reader` for the readers' pool.

    sessions: PostgreSQL's. place: SQLite's file by its one name, wherever the process goes later.
    """

    address: Address
    writer: Engine
    reader: Engine
    generation: Generation = field(default_factory=Generation)
    sessions: Sessions | None = None
    place: Path | None = None

    @property
    def postgresql(self) -> bool:
        return self.sessions is not None

    @property
    def name(self) -> str:
        """The address without its password, for logs."""
        return self.address.name

    @property
    def file(self) -> Path:
        """Only SQLite's."""
        assert self.place is not None  # noqa: S101 - the caller asked before
        return self.place

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
            statements = (*self.first(connection), *statements)
            with driver.pipeline():
                return [driver.execute(sql, values) for sql, values in statements][-1]
        except connection.dialect.loaded_dbapi.Error as error:
            if useless(error):
                self.generation.end(connection)
            base, dialect = connection.dialect.loaded_dbapi.Error, connection.dialect
            raise exc.DBAPIError.instance(
                None, None, error, base, hide_parameters=True, dialect=dialect
            ) from error

    def first(self, connection: Connection) -> list[Statement]:
        """What a transaction behind a pooler must be told before anything else; once told, nothing."""
        if self.sessions is None or not self.sessions.pooled:
            return []
        driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        if driver.info.transaction_status != _IDLE:
            return []
        more = BY_INDEX if connection.engine is self.writer else _NO_MORE
        return [self.sessions.first(driver, more)]

    def lift_time_limits(self, connection: Connection) -> None:
        """Let a transaction take as long as it takes; waiting for locks stays limited."""
        if self.postgresql:
            connection.exec_driver_sql(
                "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
            )

    def locked(self, query: Select[Any], *, skip: bool = False) -> Select[Any]:
        """Lock the rows a query reads (SQLite's transactions are exclusive already)."""
        return query.with_for_update(skip_locked=skip) if self.postgresql else query

    def close(self) -> None:
        """The same as dispose(), for who closes things."""
        self.dispose()

    def dispose(self) -> None:
        self.writer.dispose()
        self.reader.dispose()


def connect_alone(database: Database) -> psycopg.Connection[Any]:
    """A connection to PostgreSQL beside the pools; each statement is a transaction of its own."""
    assert database.sessions is not None  # noqa: S101 - the caller asked before
    return database.sessions.alone()


# errors and their tracebacks would otherwise show bound values: bodies, digests, locked secrets
_QUIET: dict[str, Any] = {"hide_parameters": True}


def open_database(url: str, direct_url: str | None = None) -> Database:
    """Open sqlite:///path or postgresql://…; nothing is asked of the server yet.

    direct_url: where PostgreSQL is reached without a pooler, when `url` leads through one in
    transaction mode. Raises ValueError for an address that cannot be used.
    """
    address = read_address(url)
    if address.file is not None:
        return open_file(address.file)
    direct = read_address(direct_url) if direct_url else address
    if direct.file is not None:
        raise ValueError("the direct address of a PostgreSQL database must be PostgreSQL's, too")
    return _open_postgresql(Sessions(address, direct))


def open_directly(url: str, direct_url: str | None = None) -> Database:
    """Open it for one long piece of work, never through a pooler in transaction mode."""
    return direct_database(open_database(url, direct_url))


def direct_database(database: Database) -> Database:
    """The same database without the pooler in between, opened anew; or this one if there is none."""
    if database.sessions is None or not database.sessions.pooled:
        return database
    return _open_postgresql(database.sessions.without_pooler())


def open_file(path: Path) -> Database:
    """Open a SQLite file, which is made by the first connection when it is not there."""
    generation = Generation()
    place = sqlite_file.real(path)
    url = _file_url(place, "rw")
    connect: dict[str, Any] = {"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
    shared: dict[str, Any] = {"connect_args": connect, "max_overflow": 0, **_QUIET}
    writer = create_engine(url, pool_size=1, **shared)
    reader = create_engine(url, pool_size=8, **shared)
    make = _Once(place)
    for engine in (writer, reader):
        event.listen(engine, "do_connect", make)
        event.listen(engine, "connect", _sqlite_pragmas)
        _watch(engine, generation)
    # the driver's own transactions lose updates silently; IMMEDIATE takes the write lock at once
    event.listen(writer, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
    event.listen(reader, "begin", lambda c: c.exec_driver_sql("BEGIN"))
    return Database(Address(file=path), writer, reader, generation, place=place)


def open_to_read(path: Path) -> Database:
    """A SQLite file that stays as it is; it may lie where nothing can be written."""
    place = sqlite_file.real(path)
    engine = create_engine(_file_url(place, "ro"), **_QUIET)
    event.listen(engine, "connect", _without_driver_transactions)
    event.listen(engine, "begin", lambda c: c.exec_driver_sql("BEGIN"))
    return Database(Address(file=path), writer=engine, reader=engine, place=place)


def _file_url(place: Path, mode: str) -> URL:
    file = quote(os.fsencode(place))
    return URL.create("sqlite", database=f"file:{file}", query={"mode": mode, "uri": "true"})


class _Once:
    """Makes the file before the first connection, and not again.

    One that is gone later must be missed, not made anew and empty.
    """

    def __init__(self, path: Path) -> None:
        self._path: Path | None = path

    def __call__(self, *_: object) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):  # SQLite will say so
                sqlite_file.create(self._path)
                self._path = None


def _watch(engine: Engine, generation: Generation) -> None:
    """Have no connection used that is no better than one which proved useless."""

    def note(context: ExceptionContext) -> None:
        if context.connection is not None and useless(context.original_exception):
            generation.end(context.connection)

    event.listen(engine, "handle_error", note)
    event.listen(engine, "connect", generation.note)
    event.listen(engine, "checkout", generation.check)


def _without_driver_transactions(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None


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


def _open_postgresql(sessions: Sessions) -> Database:
    generation = Generation()
    shared: dict[str, Any] = {"pool_timeout": 3, **_QUIET}
    writer = create_engine(_DRIVER, pool_size=1, max_overflow=0, **shared)
    reader = create_engine(_DRIVER, pool_size=4, max_overflow=4, **shared)
    for engine, more in ((writer, BY_INDEX), (reader, _NO_MORE)):
        event.listen(engine, "do_connect", partial(_connect, sessions, more))
        _watch(engine, generation)
        event.listen(engine, "checkout", partial(_replace_closed, engine.dialect))
    database = Database(sessions.address, writer, reader, generation, sessions)
    if sessions.pooled:
        for engine in (writer, reader):
            event.listen(engine, "before_cursor_execute", partial(_tell_first, database))
    return database


_DRIVER = URL.create("postgresql+psycopg")
_NO_MORE: Mapping[str, str] = {}
_IDLE = 0
"""libpq's number for a connection in no transaction; its driver is imported only when needed."""


def _connect(
    sessions: Sessions,
    more: Mapping[str, str],
    _dialect: Dialect,
    _record: object,
    _arguments: object,
    named: Mapping[str, Any],
) -> psycopg.Connection[Any]:
    return sessions.open(named, more)


def _tell_first(database: Database, connection: Connection, *_: object) -> None:
    """Begin a pooled transaction before a statement that goes alone, as the driver would."""
    if database.first(connection):
        database.send(connection, ())


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
_READ_ONLY = "25006"
_NOT_ALLOWED = "42501"
_USELESS = ("08", "57P")
"""Classes of SQLSTATE: the connection broke, or the server is going away."""


def useless(error: BaseException) -> bool:
    """Return whether a driver's error says that its connection, and all as old, can do no more."""
    state = getattr(error, "sqlstate", None) or ""
    return state.startswith(_USELESS) or takes_no_writes(error)


def takes_no_writes(error: BaseException) -> bool:
    """Return whether a driver's error says that the connection is good for reading only."""
    if getattr(error, "sqlstate", None) == _READ_ONLY:
        return True
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_READONLY


def not_allowed(error: BaseException | None) -> bool:
    """Return whether a driver's error says that the role lacks a right, as a reader's role does."""
    return getattr(error, "sqlstate", None) == _NOT_ALLOWED


def unavailable(error: exc.SQLAlchemyError) -> bool:
    """Whether an error is about the database itself, not about the statement or its values."""
    if isinstance(error, exc.TimeoutError):
        return True
    if unreadable(error):
        return False
    if not_allowed(error.orig if isinstance(error, exc.DBAPIError) else None):
        return True
    if not isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError):
        return False
    return getattr(error.orig, "sqlstate", None) not in _DEADLOCK_OR_SERIALIZATION


def contended(error: Exception) -> bool:
    """Return whether the same may work a moment later because others' transactions are then over."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else None
    return getattr(cause, "sqlstate", None) in _DEADLOCK_OR_SERIALIZATION


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
        cause = error.orig if isinstance(error, exc.DBAPIError) else None
        if cause is not None and (takes_no_writes(cause) or not_allowed(cause)):
            raise ReadOnlyError(f"the database takes no writes: {_reason(error)}") from None
        raise StoreUnavailableError(_reason(error)) from None


def _reason(error: exc.SQLAlchemyError) -> str:
    # the driver's first line only: later ones may repeat statement and values
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().split("\n")[0][:200] or type(cause).__name__


def hold_sqlite_file(database: Database, *, touch: bool = True) -> sqlite_file.Held | None:
    """Make sure this is the only Taskbell process on a SQLite file; keep what it returns open.

    Raises StoreError when another process has it. (Two writing processes would also meet SQLite's
    WAL-reset bug, fixed in 3.51.3 only.) PostgreSQL takes any number of processes.
    """
    return None if database.postgresql else sqlite_file.hold(database.file, touch=touch)
