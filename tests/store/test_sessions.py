"""What sessions of PostgreSQL are told, whatever the database has for a default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from store.clock import system_clock
from store.database import Database, connect_alone, open_database
from store.errors import UnfitError
from store.fitness import check
from store.schema import migrate
from store.store import Store
from tests.databases import PostgreSQL
from tests.making import push, tell

HOSTILE = {
    "default_transaction_isolation": "serializable",
    "DateStyle": "German",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Shanghai",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "client_encoding": "LATIN1",
    "extra_float_digits": "-10",
    "statement_timeout": "2h",
    "lock_timeout": "2h",
    "idle_in_transaction_session_timeout": "2h",
    "idle_session_timeout": "2h",
    "synchronous_commit": "off",
    "enable_seqscan": "on",
}

TOLD = {
    "transaction_isolation": "read committed",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "client_encoding": "UTF8",
    "extra_float_digits": "1",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "4s",
    "idle_session_timeout": "0",
    "synchronous_commit": "on",
}


@pytest.fixture(params=["one address", "a pooler's and the direct one"])
def database(request: pytest.FixtureRequest, postgresql_url: str) -> Iterator[Database]:
    """Opened as without and as behind a pooler in transaction mode; the server is the same."""
    pooled = request.param != "one address"
    address = f"{postgresql_url}&application_name=pooled" if pooled else postgresql_url
    opened = open_database(address, postgresql_url if pooled else None)
    yield opened
    opened.dispose()


def told(database: Database, engine: str, names: dict[str, str]) -> dict[str, str]:
    with getattr(database, engine).begin() as connection:
        return {name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names}


def defaults(postgresql: PostgreSQL, database: Database, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        postgresql.run(f"ALTER DATABASE {database.address.database} SET {name} = '{value}'")


def test_defaults_of_the_database_change_nothing(
    postgresql: PostgreSQL, database: Database
) -> None:
    defaults(postgresql, database, HOSTILE)

    check(database)
    assert told(database, "reader", TOLD) == TOLD
    assert told(database, "writer", {**TOLD, "enable_seqscan": ""}) == {
        **TOLD,
        "enable_seqscan": "off",
    }
    with closing(connect_alone(database)) as alone:
        found = {name: alone.execute(f"SHOW {name}".encode()).fetchone() for name in TOLD}
    assert found == {name: (value,) for name, value in TOLD.items()}


def test_work_is_done_whatever_the_defaults_are(postgresql: PostgreSQL, database: Database) -> None:
    defaults(postgresql, database, HOSTILE)
    store = Store(database)

    assert tell(store, push("中文")).created
    now, _ = store.read_now(lambda c: database.now(c, system_clock, "SELECT 1"))
    assert abs((now - system_clock()).total_seconds()) < 60
    store.close()


def test_a_search_path_that_changes_later_leads_nowhere_else(
    postgresql: PostgreSQL, database: Database
) -> None:
    """Or half of the pool would write to one schema, half to the other."""
    before = told(database, "reader", {"search_path": ""})
    name = database.address.database
    postgresql.run("CREATE SCHEMA elsewhere", name)
    postgresql.run(f"ALTER DATABASE {name} SET search_path = elsewhere")
    database.dispose()  # new connections

    for engine in ("writer", "reader"):
        assert told(database, engine, {"search_path": ""}) == before == {"search_path": "public"}


def test_two_instances_in_two_schemas_share_nothing(postgresql: PostgreSQL) -> None:
    with postgresql.database(migrated=False) as url:
        name = open_database(url).address.database
        stores = []
        for tenant in ("tenant_a", "tenant_b"):
            postgresql.run(f"CREATE SCHEMA {tenant}", name)
            database = open_database(f"{url}&options=-csearch_path%3D{tenant}")
            check(database)
            assert migrate(database) is None
            stores.append(Store(database))

        assert [tell(store, push("t1")).created for store in stores] == [True, True]
        for store in stores:
            store.close()


@pytest.mark.parametrize("path", ["missing", "missing,public", '"Missing"', "''"])
def test_a_schema_that_is_not_there_is_refused(postgresql_url: str, path: str) -> None:
    database = open_database(f"{postgresql_url}&options=-csearch_path%3D{path}")

    with pytest.raises(UnfitError, match="CREATE SCHEMA") as caught:
        check(database)
    database.dispose()

    assert "\n" not in str(caught.value)


def test_parameters_of_the_url_are_kept(postgresql_url: str) -> None:
    options = "-c%20work_mem%3D9MB%20-cstatement_timeout%3D7s%20--lock-timeout%3D3s"
    database = open_database(f"{postgresql_url}&application_name=bell&options={options}")
    asked = {"application_name": "bell", "work_mem": "9MB", "statement_timeout": "7s",
             "lock_timeout": "3s", "TimeZone": "UTC"}  # fmt: skip

    assert told(database, "writer", asked) == told(database, "reader", asked) == asked
    database.dispose()


def test_options_of_the_environment_change_nothing(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=3h -c search_path=elsewhere")
    database = open_database(postgresql_url)

    asked = {"statement_timeout": "10s", "search_path": "public"}
    assert told(database, "writer", asked) == asked
    database.dispose()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_CN"])
def test_a_database_that_is_not_utf8_is_refused(postgresql: PostgreSQL, encoding: str) -> None:
    name = f"of_{encoding.lower()}"
    postgresql.run(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0")
    database = open_database(postgresql.url(name))
    try:
        with pytest.raises(UnfitError, match=encoding) as caught:
            check(database)
    finally:
        database.dispose()
        postgresql.run(f"DROP DATABASE {name} WITH (FORCE)")

    assert "UTF8" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pooled_transaction_is_told_with_its_first_statement(postgresql_url: str) -> None:
    """As few round trips as without: BEGIN, settings and question go together."""
    database = open_database(f"{postgresql_url}&application_name=pooled", postgresql_url)
    with database.writer.connect() as connection:
        connection.rollback()
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        assert driver.prepare_threshold is None
        with connection.begin():
            assert database.first(connection) != []
            found = database.ask(connection, [("SHOW statement_timeout", None)])
            assert database.first(connection) == []
    database.dispose()

    assert found == [("10s",)]
