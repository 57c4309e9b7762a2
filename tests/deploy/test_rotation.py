"""Stored secrets move to a new key, offline on SQLite, beside running servers on PostgreSQL."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deploy.cli import build_app
from deploy.rotation import Rotated, rotate
from deploy.settings import Settings, SettingsError
from store import subscriptions
from store.clock import ManualClock
from store.database import open_database
from store.errors import StoreError
from store.store import Store
from store.subscriptions import NewSubscription, Rotation
from store.tables import subscriptions as table
from store.vault import Vault
from tests.making import rows

OLD, NEW, OTHER = ("old-" + "k" * 32, "new-" + "k" * 32, "other-" + "k" * 32)
LOCKED = ("secret_locked", "old_secret_locked", "headers_locked")


def fill(url: str, clock: ManualClock, number: int, keys: tuple[str, ...] = (OLD,)) -> None:
    """Subscriptions with two secrets and headers each; the last one deleted."""
    store, vault = Store(open_database(url), clock), Vault(keys)
    made = []
    for n in range(number):
        new = NewSubscription(
            url="https://a.example/hook",
            format="webhook",
            secret_locked=vault.lock(f"older {n}"),
            headers_locked=vault.lock({"x-token": f"token {n}"}),
        )
        made.append(store.write_now(subscriptions.create, new).id)
        newer = Rotation(made[-1], vault.lock(f"newer {n}"), timedelta(days=1))
        store.write_now(subscriptions.rotate, newer)
    store.write_now(subscriptions.delete, made[-1])
    store.close()


def settings(url: str, *keys: str) -> Settings:
    return Settings(database_url=url, secret_keys=keys)


def stored(url: str) -> list[dict[str, Any]]:
    store = Store(open_database(url))
    found = [dict(row) for row in rows(store, table)]
    store.close()
    return found


def test_every_secret_moves_to_the_newest_key_and_stays_there(
    database_url: str, clock: ManualClock
) -> None:
    fill(database_url, clock, 7)

    first = rotate(settings(database_url, OLD, NEW), batch=3)
    moved = stored(database_url)
    again = rotate(settings(database_url, OLD, NEW), batch=7)

    assert first == Rotated(moved=21, already=0)
    assert again == Rotated(moved=0, already=21)
    assert stored(database_url) == moved
    vault = Vault([NEW])  # the old key is needed no more
    assert {vault.open(row["secret_locked"]) for row in moved} == {f"newer {n}" for n in range(7)}
    assert vault.open(moved[0]["old_secret_locked"]) == "older 0"
    assert vault.open(moved[0]["headers_locked"]) == {"x-token": "token 0"}


def test_servers_that_know_the_new_key_go_on(postgresql_url: str, clock: ManualClock) -> None:
    """As far as a database can tell: what they remember is read again. SQLite has one process."""
    fill(postgresql_url, clock, 2)
    server = Store(open_database(postgresql_url), clock)
    before = server.read_now(subscriptions.list_subscriptions, limit=9)

    rotate(settings(postgresql_url, OLD, NEW))
    edit = subscriptions.Edit(before[0].id, {"description": "changed meanwhile"})
    after = server.write_now(subscriptions.edit, edit)
    server.close()

    assert Vault([NEW]).open(after.secret_locked) == "newer 0"
    assert after.secret_locked != before[0].secret_locked


def test_what_no_key_opens_is_named_and_the_others_move(
    database_url: str, clock: ManualClock
) -> None:
    fill(database_url, clock, 1, (OTHER,))
    fill(database_url, clock, 1)
    lost, found = (row["id"] for row in stored(database_url))

    done = rotate(settings(database_url, OLD, NEW))

    assert done.moved == 3
    assert done.lost == (f"{lost} (secret)", f"{lost} (old secret)", f"{lost} (headers)")
    kept = {row["id"]: row for row in stored(database_url)}
    assert all(Vault([OTHER]).open(kept[lost][name]) for name in LOCKED)
    assert all(Vault([NEW]).open(kept[found][name]) for name in LOCKED)


def test_beside_a_running_server_a_file_is_left_alone(sqlite_url: str, clock: ManualClock) -> None:
    fill(sqlite_url, clock, 1)
    server = Store(open_database(sqlite_url), clock)

    with pytest.raises(StoreError, match="in use by a running server: stop it"):
        rotate(settings(sqlite_url, OLD, NEW))

    server.close()
    assert Vault([OLD]).open(stored(sqlite_url)[0]["secret_locked"]) == "newer 0"


def test_no_database_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no database at"):
        rotate(settings(f"sqlite:///{tmp_path / 'none.db'}", OLD))

    assert list(tmp_path.iterdir()) == []


def test_an_older_schema_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()

    with pytest.raises(StoreError, match="taskbell migrate"):
        rotate(settings(f"sqlite:///{tmp_path / 'empty.db'}", OLD))


def test_postgresql_needs_the_keys_named() -> None:
    with pytest.raises(SettingsError, match="TASKBELL_SECRET_KEYS is not set"):
        rotate(replace(settings("postgresql://h/d"), secret_keys=()))


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if "TASKBELL" in name or name.endswith("_API_KEY")]:  # noqa: TID251
        monkeypatch.delenv(name)


def invoke(url: str, *keys: str) -> Result:
    environ = {"TASKBELL_DATABASE_URL": url, "TASKBELL_SECRET_KEYS": ",".join(keys)}
    return CliRunner().invoke(build_app(), ["keys", "rotate"], env=environ)


@pytest.mark.usefixtures("environment")
def test_the_command_tells_counts(database_url: str, clock: ManualClock) -> None:
    fill(database_url, clock, 2)

    first, again = invoke(database_url, OLD, NEW), invoke(database_url, OLD, NEW)

    assert (first.exit_code, first.stdout) == (0, "6 moved to the newest key, 0 there already\n")
    assert (again.exit_code, again.stdout) == (0, "0 moved to the newest key, 6 there already\n")
    assert first.stderr == again.stderr == ""


@pytest.mark.usefixtures("environment")
def test_the_command_fails_and_names_what_no_key_opens(sqlite_url: str, clock: ManualClock) -> None:
    fill(sqlite_url, clock, 1)
    [row] = stored(sqlite_url)

    ended = invoke(sqlite_url, NEW)

    assert ended.exit_code == 1
    assert f"no key opens {row['id']} (secret)\n" in ended.stderr
    assert "taskbell: 3 stored secrets cannot be opened with these keys" in ended.stderr
    assert NEW not in ended.stderr


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("url", "keys", "code", "said"),
    [
        ("sqlite:///none.db", (OLD,), 1, "there is no database at none.db"),
        ("sqlite:///none.db", ("short",), 2, "TASKBELL_SECRET_KEYS"),
        ("postgresql://u:hush@/d?host=/nonexistent-folder-of-taskbell", (OLD,), 1, "connection"),
    ],
)
def test_the_command_ends_with_one_line(
    url: str, keys: tuple[str, ...], code: int, said: str
) -> None:
    ended = invoke(url, *keys)

    assert ended.exit_code == code
    assert ended.stderr.count("\n") == 1
    assert said in ended.stderr
    assert "hush" not in ended.stderr
