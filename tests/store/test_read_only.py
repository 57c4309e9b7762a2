"""A database that takes no writes any more, as after a failover, and one that does again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import text

from store.database import open_database, takes_no_writes, useless
from store.errors import ReadOnlyError, StoreUnavailableError, UnfitError
from store.fitness import check
from store.store import Store
from store.writer import check_writable
from tests.databases import PostgreSQL
from tests.making import ping, push, tell


@pytest.fixture
def postgresql_store(postgresql_url: str) -> Iterator[Store]:
    opened = Store(open_database(postgresql_url))
    assert tell(opened, push("before")).created
    assert opened.read_now(ping)
    yield opened
    opened.close()


def read_only(postgresql: PostgreSQL, store: Store, word: str) -> None:
    name = store.database.address.database
    postgresql.run(f"ALTER DATABASE {name} SET default_transaction_read_only = {word}")


def cut(postgresql: PostgreSQL, store: Store) -> None:
    name = store.database.address.database
    postgresql.run(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        f" WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )


def test_a_write_that_meets_a_read_only_connection_is_done_on_a_new_one(
    postgresql: PostgreSQL, postgresql_store: Store
) -> None:
    """The pools still lead to the server that was demoted; the address leads to the new one."""
    read_only(postgresql, postgresql_store, "on")
    cut(postgresql, postgresql_store)
    assert postgresql_store.read_now(ping)  # a pooled connection that is good for reading only
    with pytest.raises(ReadOnlyError, match="takes no writes"):
        tell(postgresql_store, push("during"))
    read_only(postgresql, postgresql_store, "off")

    # nothing is restarted
    assert tell(postgresql_store, push("after")).created


def test_every_pool_drops_its_connections_when_one_takes_no_writes(
    postgresql: PostgreSQL, postgresql_store: Store
) -> None:
    read_only(postgresql, postgresql_store, "on")
    cut(postgresql, postgresql_store)
    before = postgresql_store.read_now(_served_by)
    with pytest.raises(ReadOnlyError):
        tell(postgresql_store, push("during"))

    assert postgresql_store.read_now(_served_by) != before


def _served_by(connection: object) -> int:
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar())  # type: ignore[attr-defined]


def test_a_healthy_pool_keeps_its_connections(postgresql_store: Store) -> None:
    before = postgresql_store.read_now(_served_by)
    with pytest.raises(Exception, match="no_such_table"):
        postgresql_store.read_now(lambda c: c.execute(text("SELECT * FROM no_such_table")))

    assert postgresql_store.read_now(_served_by) == before


@pytest.mark.parametrize("scope", ["SYSTEM", "DATABASE", "ROLE"])
def test_a_server_that_takes_no_writes_is_found_out_and_refused(
    postgresql: PostgreSQL, postgresql_store: Store, scope: str
) -> None:
    named = {"SYSTEM": "SYSTEM", "ROLE": "ROLE postgres",
             "DATABASE": f"DATABASE {postgresql_store.database.address.database}"}[scope]  # fmt: skip
    setting = "default_transaction_read_only"
    undo = (
        f"ALTER SYSTEM RESET {setting}" if scope == "SYSTEM" else f"ALTER {named} RESET {setting}"
    )
    postgresql.run(f"ALTER {named} SET {setting} = on")
    try:
        postgresql.run("SELECT pg_reload_conf()")
        cut(postgresql, postgresql_store)
        with pytest.raises(StoreUnavailableError):
            postgresql_store.write_now(check_writable, None)
        with pytest.raises(UnfitError, match=setting) as caught:
            check(postgresql_store.database)
    finally:
        with psycopg.connect(postgresql.url("postgres"), autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(undo.encode())
            connection.execute("SELECT pg_reload_conf()")

    assert "\n" not in str(caught.value)


def test_a_writable_database_is_said_to_be_one(store: Store) -> None:
    store.write_now(check_writable, None)
    check(store.database)


def test_a_cut_connection_takes_all_as_old_with_it(
    postgresql: PostgreSQL, postgresql_store: Store
) -> None:
    cut(postgresql, postgresql_store)

    assert tell(postgresql_store, push("after")).created
    assert postgresql_store.read_now(ping)


def test_a_sqlite_connection_that_was_opened_read_only_is_replaced(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the file system was mounted read-only for a while."""
    connect = sqlite3.dbapi2.connect
    monkeypatch.setattr(
        sqlite3.dbapi2,
        "connect",
        lambda name, **more: connect(name.replace("mode=rw", "mode=ro"), **more),
    )
    store = Store(open_database(sqlite_url))
    with pytest.raises(ReadOnlyError):
        tell(store, push("during"))
    with pytest.raises(UnfitError, match="takes no writes"):
        check(store.database)
    monkeypatch.undo()

    assert tell(store, push("after")).created
    store.close()


class Fault(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__("trouble")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("state", "no_more", "reads"),
    [
        ("25006", True, True),
        ("57P01", True, False),
        ("57P02", True, False),
        ("57P03", True, False),
        ("08006", True, False),
        ("08003", True, False),
        ("57014", False, False),  # one statement took too long
        ("40001", False, False),
        ("23505", False, False),
        ("53100", False, False),
    ],
)
def test_a_code_says_whether_a_connection_is_of_use(state: str, no_more: bool, reads: bool) -> None:
    assert (useless(Fault(state)), takes_no_writes(Fault(state))) == (no_more, reads)
