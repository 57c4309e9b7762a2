"""Whether a database is one that Taskbell can work on, looked at before anything is served."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc

from store import sqlite_file
from store.database import Database, takes_no_writes
from store.errors import StoreUnavailableError, UnfitError
from store.sessions import Sessions
from store.tables import metadata

if TYPE_CHECKING:
    import psycopg

PROBE_SECONDS = 5.0
"""How long a pooler may take to lend two connections."""

SESSION_POOL = 10
"""Connections that one process holds: its writer, eight readers, one that listens."""

_URL, _DIRECT = "TASKBELL_DATABASE_URL", "TASKBELL_DIRECT_DATABASE_URL"


def check(database: Database) -> None:
    """Return when the database can be worked on. It asks, and changes nothing.

    Raises UnfitError, which says what to do, or StoreUnavailableError when it does not answer.
    """
    if database.sessions is None:
        _check_file(database)
    else:
        _check_server(database.sessions)


def _check_file(database: Database) -> None:
    path = database.file
    sqlite_file.check_place(path)
    sqlite_file.check_header(path)
    try:
        with database.writer.connect() as connection, connection.begin() as transaction:
            connection.exec_driver_sql("CREATE TABLE taskbell_writes (x)")
            transaction.rollback()
    except exc.DBAPIError as error:
        cause = error.orig or error
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_BUSY:
            return  # somebody writes: it can be written
        if takes_no_writes(cause):
            raise UnfitError(
                f"{path} takes no writes ({cause})",
                "let this user write to it, its folder and its file system",
            ) from None
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise UnfitError(
                f"{path} is damaged, or no SQLite database ({cause})",
                f"restore a backup, or set {_URL} to another file",
            ) from None
        raise UnfitError(
            f"{path} cannot be opened ({cause})", f"mend it, or set {_URL} to another file"
        ) from None


def _check_server(sessions: Sessions) -> None:
    direct = _DIRECT if sessions.pooled else _URL
    with _answering(sessions.direct.name, direct), contextlib.closing(sessions.alone()) as session:
        _check_session(session, sessions)
        if _within(lambda: _lends_transactions(sessions.alone, direct), direct):
            raise UnfitError(
                f"{direct} leads through a pooler in transaction mode", _instead(direct)
            )
        if sessions.pooled:
            with _answering(sessions.address.name, _URL):
                _within(lambda: _check_pooler(sessions, session), _URL)


def _instead(setting: str) -> str:
    if setting == _DIRECT:
        return "set it to PostgreSQL's own address, or to a pool with pool_mode = session"
    return f"set {_DIRECT} to PostgreSQL's own address too, or use a pool with pool_mode = session"


@contextlib.contextmanager
def _answering(name: str, setting: str) -> Iterator[None]:
    """Turn the driver's errors into one that names who did not answer, and where that is set."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        reason = str(error).strip().split("\n")[0][:300] or type(error).__name__
        raise StoreUnavailableError(f"{name} does not answer: {reason} ({setting})") from None


_ABOUT = """
SELECT current_setting('server_encoding'), pg_is_in_recovery(),
       current_setting('transaction_read_only')::boolean, current_schema()::text,
       current_setting('search_path'), current_database()::text
"""


def _check_session(session: psycopg.Connection[Any], sessions: Sessions) -> None:
    [about] = session.execute(_ABOUT)
    encoding, standby, read_only, schema, path, name = about
    if encoding != "UTF8":
        raise UnfitError(
            f"the database {name} has the encoding {encoding}, and texts of every language need UTF8",
            f"make another one: CREATE DATABASE {name}_utf8 ENCODING 'UTF8' TEMPLATE template0",
        )
    if standby:
        raise UnfitError(
            f"{sessions.direct.name} is a standby (in recovery), which takes no writes",
            "name the primary, or all hosts with commas: the one that takes writes is used",
        )
    if read_only:
        raise UnfitError(
            f"{sessions.direct.name} takes no writes: default_transaction_read_only is on",
            "switch it off for the server, the database or the role, or name the primary",
        )
    wanted = _first_schema({**sessions.direct.session, **sessions.address.session})
    if schema is None or (wanted is not None and wanted != schema):
        missing = wanted or path or "(empty)"
        raise UnfitError(
            f"the schema that search_path names first, {missing}, does not exist or may not be used",
            "make it with CREATE SCHEMA, or name another one",
        )
    _check_rights(session, schema)


# has_table_privilege takes several as "any of them"
_RIGHTS = """
SELECT tablename::text, right_to, current_user::text
FROM pg_tables, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS right_to
WHERE schemaname = current_schema() AND tablename = ANY(%s)
  AND NOT has_table_privilege(format('%%I.%%I', schemaname, tablename), right_to)
LIMIT 1
"""


def _check_rights(session: psycopg.Connection[Any], schema: str) -> None:
    """Raise UnfitError when there are tables that the role may not work with."""
    for table, right, role in session.execute(_RIGHTS, [list(metadata.tables)]):
        raise UnfitError(
            f"the role {role} takes no writes: it has no right to {right} on the table {table}",
            f"use the role that owns the tables, or GRANT ALL ON ALL TABLES IN SCHEMA {schema} and"
            f" ALL SEQUENCES to {role}",
        )


def _first_schema(settings: dict[str, str]) -> str | None:
    """Return the schema that the URL's own search_path names first; None: it leaves that open."""
    first = settings.get("search_path", "").partition(",")[0].strip()
    if not first or first.strip('"') == "$user":
        return None
    if first.startswith('"') and first.endswith('"') and len(first) > 1:
        return first[1:-1].replace('""', '"')
    return first.lower()


def _lends_transactions(open_session: Callable[[], psycopg.Connection[Any]], setting: str) -> bool:
    """Return whether two sessions are served by one connection of the server, one after the other."""
    with contextlib.closing(open_session()) as one, contextlib.closing(open_session()) as other:
        before = _served_by(one)
        _begin(other, setting)
        if _served_by(other) == before:
            return True
        return _served_by(one) != before


def _served_by(session: psycopg.Connection[Any]) -> int:
    [(pid,)] = session.execute("SELECT pg_backend_pid()")
    return int(pid)


def _begin(session: psycopg.Connection[Any], setting: str) -> None:
    """Begin a transaction on a session that has answered before. Raises UnfitError."""
    import psycopg

    try:
        session.execute("BEGIN")
    except psycopg.Error:
        raise UnfitError(
            f"{setting} leads through a pooler in statement mode, which has no transactions",
            f"use a pool with pool_mode = session, or transaction and {_DIRECT}",
        ) from None


def _check_pooler(sessions: Sessions, direct: psycopg.Connection[Any]) -> bool:
    with contextlib.closing(sessions.untold({})) as pooled:
        pooled.execute("SELECT 1")
        _begin(pooled, _URL)
        pooled.execute(*sessions.first(pooled, {}))
        # a lock is known within one database only
        number = secrets.randbits(62)
        direct.execute("SELECT pg_advisory_lock(%s)", [number])
        [(free,)] = pooled.execute("SELECT pg_try_advisory_xact_lock(%s)", [number])
        direct.execute("SELECT pg_advisory_unlock(%s)", [number])
    if free:
        raise UnfitError(
            f"{_URL} and {_DIRECT} lead to two databases", "set both to the same database"
        )
    return True


def _within(look: Callable[[], bool], setting: str) -> bool:
    """Return what `look` finds. A pooler may let it wait for minutes: raises UnfitError then."""
    found: list[bool] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            found.append(look())
        except Exception as error:  # noqa: BLE001 - raised below, where somebody waits
            failed.append(error)

    thread = threading.Thread(target=run, name="taskbell-probe", daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if failed:
        raise failed[0]
    if not found:
        raise UnfitError(
            f"the pooler of {setting} lends no further connection within {PROBE_SECONDS:g} s",
            f"a process needs up to {SESSION_POOL}: raise default_pool_size, and"
            " max_connections of PostgreSQL if they are used up",
        )
    return found[0]
