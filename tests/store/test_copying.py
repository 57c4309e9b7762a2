"""A copy has every row, whatever it was made of and on whichever database."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from store.clock import ManualClock
from store.copying import back_up, copy, original, restore
from store.database import Database, open_database
from store.errors import SchemaError, StoreError
from store.events import Kind, Output, Status
from store.schema import HEAD, migrate
from store.sqlite_file import lock_file
from store.store import Store
from store.tables import events, metadata, tasks
from tests.databases import copy_sqlite
from tests.making import catch, push, registered, rows, subscribe, tell
from tests.newer import newer_schema

ALL = metadata.sorted_tables
ODD = '{"seed":1180591620717411303424,"ratio":1e-7}'
"""JSON that comes out as another text when it is read and written."""


@contextmanager
def opened(url: str) -> Iterator[Database]:
    database = open_database(url)
    yield database
    database.dispose()


def fill(url: str, clock: ManualClock) -> None:
    """Every kind of row that a working server leaves, and the newest event deleted."""
    store = Store(open_database(url), clock)
    subscribe(store, filter={"path": "data.task.model"}, metadata={"team": "狮子"})
    for n in range(5):
        tell(store, registered(f"t{n}", metadata={"n": n}))
    output = Output(url="https://cdn.example/é.mp4", kind=Kind.VIDEO)
    tell(store, push("t1", Status.SUCCEEDED, outputs=(output,), raw=b'{"a":"\xff\x00"}'))
    tell(store, push("t2", Status.PROCESSING, progress=0.1))
    catch(store)
    store.close()
    with opened(url) as database, database.writer.begin() as connection:
        connection.execute(tasks.update().where(tasks.c.provider_task_id == "t3").values(hint=None))
        connection.exec_driver_sql(f"UPDATE tasks SET usage = '{ODD}'")
        newest = select(func.max(events.c.cursor)).scalar_subquery()
        connection.execute(events.delete().where(events.c.cursor == newest))


def content(url: str) -> dict[str, list[Any]]:
    store = Store(open_database(url))
    found = {each.name: list(rows(store, each)) for each in ALL}
    store.close()
    return found


def usage_text(url: str) -> str:
    with opened(url) as database, database.reader.begin() as connection:
        return str(connection.exec_driver_sql("SELECT usage FROM tasks").scalar())


def next_cursor(url: str, clock: ManualClock) -> int:
    store = Store(open_database(url), clock)
    tell(store, push("new"))
    found = rows(store, events)[-1]
    store.close()
    cursor: int = found["cursor"]
    return cursor


@pytest.mark.parametrize("to", ["sqlite", "postgresql"])
def test_a_backup_is_restored_to_the_last_row_on_either_database(
    database_url: str, to: str, request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path
) -> None:
    target_url = f"sqlite:///{tmp_path / 'restored.db'}"
    if to == "postgresql":
        target_url = request.getfixturevalue("other_postgresql_url")
    fill(database_url, clock)
    file = tmp_path / "backup.db"

    with opened(database_url) as database:
        written = back_up(database, file)
    with original(file) as source, opened(target_url) as target:
        read = restore(source, target)

    assert content(target_url) == content(database_url)
    assert usage_text(target_url) == ODD
    assert read == written
    assert read["tasks"] == 5
    assert read["subscriptions"] == 1
    assert next_cursor(target_url, clock) == next_cursor(database_url, clock)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not list(tmp_path.glob("*.part*"))


def test_the_tools_of_postgresql_do_as_well(
    postgresql_url: str, other_postgresql_url: str, clock: ManualClock, tmp_path: Path
) -> None:
    fill(postgresql_url, clock)
    file = tmp_path / "taskbell.dump"
    with opened(postgresql_url) as database, database.reader.begin() as connection:
        query = "SELECT setting FROM pg_config WHERE name = 'BINDIR'"
        tools = Path(str(connection.exec_driver_sql(query).scalar()))

    subprocess.run([tools / "pg_dump", "-Fc", "-f", file, "-d", postgresql_url], check=True)
    subprocess.run([tools / "pg_restore", "-d", other_postgresql_url, file], check=True)

    assert content(other_postgresql_url) == content(postgresql_url)
    assert next_cursor(other_postgresql_url, clock) == next_cursor(postgresql_url, clock)


@pytest.fixture
def other_postgresql_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with request.getfixturevalue("postgresql").database(migrated=False) as url:
        yield url


def test_a_backup_may_lie_where_nothing_can_be_written(
    sqlite_url: str, clock: ManualClock, tmp_path: Path
) -> None:
    fill(sqlite_url, clock)
    file = tmp_path / "backup 100%?.db"
    with opened(sqlite_url) as database:
        back_up(database, file)
    before = file.read_bytes()

    with original(file) as source, opened(f"sqlite:///{tmp_path / 'new.db'}") as target:
        restore(source, target)

    assert file.read_bytes() == before
    assert not list(tmp_path.glob("backup*lock"))


def test_a_server_may_write_during_a_backup(
    database_url: str, clock: ManualClock, tmp_path: Path
) -> None:
    store = Store(open_database(database_url), clock)
    tell(store, push("before"))

    with opened(database_url) as database:
        back_up(database, tmp_path / "backup.db")
        tell(store, push("after"))
    store.close()

    assert [row["provider_task_id"] for row in content(f"sqlite:///{tmp_path}/backup.db")["tasks"]]


def test_no_backup_takes_the_place_of_another(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "backup.db").write_text("the one of Friday")

    with opened(sqlite_url) as database, pytest.raises(StoreError, match="there already"):
        back_up(database, tmp_path / "backup.db")

    assert (tmp_path / "backup.db").read_text() == "the one of Friday"


def test_a_backup_that_fails_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "taskbell.db").write_bytes(b"no database, but long enough to be one" * 100)

    with (
        opened(f"sqlite:///{tmp_path / 'taskbell.db'}") as database,
        pytest.raises(StoreError),
    ):
        back_up(database, tmp_path / "backup.db")

    assert os.listdir(tmp_path) == ["taskbell.db"]


def test_a_database_with_rows_is_not_overwritten(
    database_url: str, sqlite_template: Path, clock: ManualClock, tmp_path: Path
) -> None:
    fill(database_url, clock)
    before = content(database_url)
    file = tmp_path / "backup.db"
    copy_sqlite(sqlite_template, file)

    with (
        original(file) as source,
        opened(database_url) as target,
        pytest.raises(StoreError, match="is not empty: there are"),
    ):
        restore(source, target)

    assert content(database_url) == before


def test_the_database_of_a_running_server_is_not_moved(sqlite_url: str, tmp_path: Path) -> None:
    store = Store(open_database(sqlite_url))
    file = Path(str(store.database.address.database))

    with pytest.raises(StoreError, match="running server: stop it"), original(file):
        pass
    store.close()

    with original(file) as source:
        assert lock_file(source.file) == Path(f"{file}.lock")


def test_other_schemas_are_refused_by_name(sqlite_url: str, tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/newer.db") as newer, opened(sqlite_url) as target:
        migrate(newer)
        newer_schema(newer, oldest=int(HEAD))

        with pytest.raises(SchemaError, match="newer schema"):
            copy(newer, target)
    with (
        opened(f"sqlite:///{tmp_path}/none.db") as none,
        opened(sqlite_url) as target,
        pytest.raises(SchemaError, match="no tables"),
    ):
        copy(none, target)


def test_a_file_that_is_no_database_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not one" * 1000)
    (tmp_path / "empty.db").touch()

    with pytest.raises(StoreError, match=r"notes.txt cannot be read: file is not a database"):
        original(tmp_path / "notes.txt").__enter__()
    with pytest.raises(SchemaError, match=r"empty.db holds no tables of taskbell"):
        original(tmp_path / "empty.db").__enter__()


def test_a_database_is_backed_up_before_it_is_upgraded(
    sqlite_url: str, clock: ManualClock, tmp_path: Path
) -> None:
    fill(sqlite_url, clock)
    with opened(sqlite_url) as older:
        with older.writer.begin() as connection:
            connection.exec_driver_sql("DROP TABLE audit")
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0002'")

        counts = back_up(older, tmp_path / "before.db")

    assert counts["tasks"] == 5
    with pytest.raises(SchemaError, match=r"older schema \(0002\): run `taskbell migrate` on it"):
        original(tmp_path / "before.db").__enter__()


def test_a_row_that_cannot_be_read_is_told_and_nothing_is_copied(
    sqlite_url: str, clock: ManualClock, tmp_path: Path
) -> None:
    fill(sqlite_url, clock)
    new = f"sqlite:///{tmp_path}/new.db"
    with opened(sqlite_url) as source, opened(new) as target:
        with source.writer.begin() as connection:
            connection.exec_driver_sql("UPDATE events SET created_at = 'yesterday'")

        with pytest.raises(StoreError, match="a row of events cannot be read"):
            restore(source, target)

    assert not any(content(new)[name] for name in ("tasks", "events", "subscriptions"))
