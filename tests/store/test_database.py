"""How databases are opened, and what an error of theirs means."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import exc

from store.clock import ManualClock, system_clock
from store.database import hold_sqlite_file, open_database, overtaken, unavailable
from store.errors import StoreError
from store.store import Store
from tests.making import ping, push, tell


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("sqlite://", "needs a file", id="memory, unnamed"),
        pytest.param("sqlite:///:memory:", "needs a file", id="memory, named"),
        pytest.param("mysql://user@host/db", "'mysql' is not a database", id="another database"),
        pytest.param("postgresql+asyncpg://host/db", "is not a database", id="another driver"),
    ],
)
def test_an_address_that_cannot_work_is_refused(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_database(url)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgresql_goes_by_several_names(scheme: str) -> None:
    database = open_database(f"{scheme}://user:hunter2@db.example/taskbell")

    assert database.postgresql
    assert database.name == "postgresql://user:***@db.example/taskbell"
    database.dispose()


@pytest.mark.parametrize("engine", ["writer", "reader"])
def test_sqlite_keeps_what_it_acknowledged(sqlite_url: str, engine: str) -> None:
    database = open_database(sqlite_url)

    with getattr(database, engine).begin() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    database.dispose()

    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 2500,
    }


@pytest.mark.parametrize("engine", ["writer", "reader"])
def test_postgresql_never_waits_for_ever(postgresql_url: str, engine: str) -> None:
    database = open_database(postgresql_url)

    with getattr(database, engine).begin() as connection:
        settings = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in (
                *("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"),
                *("TimeZone", "application_name"),
            )
        }
    database.dispose()

    assert settings == {
        "statement_timeout": "10s",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "4s",
        "TimeZone": "UTC",
        "application_name": "taskbell",
    }


def test_an_injected_clock_counts_everywhere(database_url: str, clock: ManualClock) -> None:
    database = open_database(database_url)

    with database.reader.begin() as connection:
        assert database.now(connection, clock, "SELECT 7") == (clock(), 7)
    database.dispose()


def test_without_one_the_databases_clock_counts(database_url: str) -> None:
    database = open_database(database_url)

    with database.reader.begin() as connection:
        before = system_clock()
        now, found = database.now(connection, system_clock, "SELECT 7")
        after = system_clock()
    database.dispose()

    assert before <= now <= after  # one machine, one clock
    assert now.tzinfo is not None
    assert found == 7


class TestOneProcessAFile:
    def test_another_process_is_refused_with_its_pid(self, sqlite_url: str) -> None:
        database = open_database(sqlite_url)
        held = hold_sqlite_file(database)
        assert held is not None

        other = subprocess.run(
            [sys.executable, "-c", _OPEN, sqlite_url], capture_output=True, text=True, check=False
        )
        held.close()
        again = subprocess.run(
            [sys.executable, "-c", _OPEN, sqlite_url], capture_output=True, text=True, check=False
        )

        assert "in use by another taskbell process (pid " in other.stdout
        assert "TASKBELL_DATABASE_URL" in other.stdout
        assert again.stdout.strip() == "open"

    def test_what_a_dead_process_left_behind_is_in_nobodys_way(
        self, sqlite_url: str, tmp_path: Path
    ) -> None:
        (tmp_path / "taskbell.db.lock").write_text("999999999")

        store = Store(open_database(sqlite_url))

        assert store.read_now(ping)
        store.close()

    def test_a_store_that_was_refused_harms_nobody(self, sqlite_url: str) -> None:
        store = Store(open_database(sqlite_url))
        with pytest.raises(StoreError):
            Store(open_database(sqlite_url))

        assert tell(store, push()).created
        store.close()

    def test_postgresql_takes_any_number(self, postgresql_url: str) -> None:
        stores = [Store(open_database(postgresql_url)) for _ in range(3)]

        assert [tell(store, push()).created for store in stores] == [True, False, False]
        for store in stores:
            store.close()


_OPEN = """
import sys
from store.database import hold_sqlite_file, open_database
from store.errors import StoreError
try:
    held = hold_sqlite_file(open_database(sys.argv[1]))
    print("open")
except StoreError as error:
    print(error)
"""


class Fault(Exception):
    """An error of a driver, with PostgreSQL's code for it."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("trouble")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "away", "beaten"),
    [
        pytest.param(exc.OperationalError("", {}, Fault(None)), True, False, id="SQLite: locked"),
        pytest.param(exc.OperationalError("", {}, Fault("57P01")), True, False, id="shut down"),
        pytest.param(exc.OperationalError("", {}, Fault("57014")), True, False, id="time-out"),
        pytest.param(exc.OperationalError("", {}, Fault("53100")), True, False, id="disk full"),
        pytest.param(exc.OperationalError("", {}, Fault("40P01")), False, True, id="deadlock"),
        pytest.param(exc.OperationalError("", {}, Fault("40001")), False, True, id="serialization"),
        pytest.param(exc.InterfaceError("", {}, Fault(None)), True, False, id="connection closed"),
        pytest.param(exc.TimeoutError(), True, False, id="no connection free"),
        pytest.param(exc.IntegrityError("", {}, Fault("23505")), False, True, id="same task"),
        pytest.param(exc.DataError("", {}, Fault("22001")), False, False, id="too long"),
        pytest.param(exc.ProgrammingError("", {}, Fault("42P01")), False, False, id="no table"),
    ],
)
def test_what_an_error_means(error: exc.SQLAlchemyError, away: bool, beaten: bool) -> None:
    assert (unavailable(error), overtaken(error)) == (away, beaten)


def test_a_bug_is_no_other_process_in_the_way() -> None:
    assert not overtaken(ValueError("a bug"))
