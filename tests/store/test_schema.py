"""The schema: migrated once, from any number of processes, and the same as the tables say."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

import store.schema
from store.database import Database, open_database
from store.errors import SchemaError, StoreUnavailableError
from store.schema import HEAD, OLDEST, current_version, migrate
from store.store import Store
from store.tables import metadata
from tests.making import catch, push, subscribe, tell, told
from tests.newer import NEWER, newer_schema


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Database]:
    database = open_database(empty_database_url)
    yield database
    database.dispose()


def version(database: Database) -> str | None:
    with database.reader.begin() as connection:
        return current_version(connection)


def test_an_empty_database_has_no_version_and_gets_the_newest(empty: Database) -> None:
    assert version(empty) is None

    assert migrate(empty) is None

    assert version(empty) == HEAD


def test_a_fresh_database_works(empty_database_url: str) -> None:
    database = open_database(empty_database_url)
    migrate(database)
    store = Store(database)

    subscribe(store)

    assert tell(store, push()).created
    store.close()


def test_migrating_twice_is_harmless(empty: Database) -> None:
    migrate(empty)

    assert migrate(empty) == HEAD
    assert version(empty) == HEAD


def test_several_processes_may_migrate_at_once(empty_database_url: str) -> None:
    databases = [open_database(empty_database_url) for _ in range(4)]

    with ThreadPoolExecutor(4) as threads:
        before = list(threads.map(migrate, databases))

    assert before.count(None) == 1
    assert before.count(HEAD) == 3
    assert [version(database) for database in databases] == [HEAD] * 4
    for database in databases:
        database.dispose()


@pytest.mark.parametrize("oldest", [int(HEAD) + 1, None], ids=["took away", "says nothing"])
def test_a_schema_that_is_too_new_is_refused(empty: Database, oldest: int | None) -> None:
    migrate(empty)
    newer_schema(empty, oldest=oldest)

    with pytest.raises(SchemaError, match=rf"\({NEWER}\) is newer than this taskbell \({HEAD}\)"):
        migrate(empty)

    assert version(empty) == NEWER


def test_a_newer_schema_that_only_added_is_worked_on(empty: Database) -> None:
    migrate(empty)
    newer_schema(empty, oldest=int(HEAD))

    assert migrate(empty) == NEWER

    assert version(empty) == NEWER
    store = Store(empty)
    subscribe(store)
    recorded = told(store, push())
    assert [each.subject for each in catch(store).deliveries] == [recorded.id]
    store.close()


@pytest.mark.parametrize(("oldest", "works"), [("0000", True), (HEAD, False)])
def test_a_migration_writes_down_which_older_code_works_on_it(
    empty: Database, monkeypatch: pytest.MonkeyPatch, oldest: str, works: bool
) -> None:
    monkeypatch.setattr(store.schema, "OLDEST", oldest)
    migrate(empty)

    monkeypatch.setattr(store.schema, "HEAD", "0000")
    if works:
        assert migrate(empty) == HEAD
    else:
        with pytest.raises(SchemaError, match="newer than this taskbell"):
            migrate(empty)


def test_a_migration_that_fails_leaves_nothing_behind(empty: Database) -> None:
    with empty.writer.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE tasks (something_else INTEGER)")

    with pytest.raises(Exception, match="tasks"):
        migrate(empty)

    assert version(empty) is None
    with empty.reader.begin() as connection:
        assert inspect(connection).get_table_names() == ["tasks"]


def test_a_database_that_is_away_is_said_to_be_away(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'missing' / 'taskbell.db'}")

    with pytest.raises(StoreUnavailableError):
        migrate(database)


def test_the_newest_script_is_the_version_the_code_needs() -> None:
    config = Config()
    migrations = Path(store.schema.__file__).parent / "migrations"
    config.set_main_option("script_location", str(migrations))

    scripts = ScriptDirectory.from_config(config)

    assert scripts.get_heads() == [HEAD]
    assert OLDEST <= HEAD
    # four digits in their order: versions are compared as they are
    numbers = [script.revision for script in scripts.walk_revisions()]
    assert numbers == [f"{number:04}" for number in range(len(numbers), 0, -1)]


def test_the_migrations_make_the_tables_of_the_code(empty: Database) -> None:
    migrate(empty)

    with empty.reader.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_migrations_make_the_indexes_of_the_code_with_their_conditions(
    empty: Database,
) -> None:
    """Alembic does not compare what an index is partial by."""
    migrate(empty)
    with empty.reader.begin() as connection:
        migrated = indexes(connection)

    with empty.writer.begin() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
        metadata.drop_all(connection)
        metadata.create_all(connection)
        assert indexes(connection) == migrated
    assert any("WHERE" in definition for definition in migrated.values())


def indexes(connection: Connection) -> dict[str, str]:
    """The definitions by name, without those of alembic's own table."""
    queries = {
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
        "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    }
    rows = connection.exec_driver_sql(queries[connection.dialect.name])
    return {row[0]: row[1] for row in rows if not row[0].startswith("alembic")}
