"""What `taskbell backup` and `taskbell restore` say, and which keys they want."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy.cli import build_app
from store import subscriptions
from store.clock import ManualClock
from store.database import open_database
from store.store import Store
from store.subscriptions import NewSubscription
from store.vault import Vault
from tests.making import push, tell

KEY, OTHER = "the-key-" + "k" * 32, "another-" + "k" * 32


def subscribe(url: str, clock: ManualClock, key: str = KEY) -> None:
    store = Store(open_database(url), clock)
    locked = Vault([key]).lock("whsec_hidden")
    new = NewSubscription(
        url="https://a.example/hook", format="webhook", secret_locked=locked, headers_locked=None
    )
    store.write_now(subscriptions.create, new)
    tell(store, push())
    store.close()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def command(*words: str, url: str, **more: str) -> Result:
    environ = {"TASKBELL_DATABASE_URL": url, **more}
    return CliRunner().invoke(build_app(), list(words), env=environ)


def test_a_backup_says_what_it_holds_and_what_it_does_not(
    sqlite_url: str, clock: ManualClock, tmp_path: Path
) -> None:
    subscribe(sqlite_url, clock)

    done = command("backup", "friday.db", url=sqlite_url)

    assert done.exit_code == 0
    assert done.stdout == "friday.db: tasks 1, events 1, subscriptions 1, deliveries 1\n"
    assert f"keep {tmp_path}/taskbell.db.secret-keys too" in done.stderr


def test_it_is_restored_with_the_same_keys_only(sqlite_url: str, clock: ManualClock) -> None:
    subscribe(sqlite_url, clock)
    command("backup", "friday.db", url=sqlite_url)
    new = "sqlite:///new.db"

    without = command("restore", "friday.db", url=new)
    wrong = command("restore", "friday.db", url=new, TASKBELL_SECRET_KEYS=OTHER)
    right = command("restore", "friday.db", url=new, TASKBELL_SECRET_KEYS=KEY)
    again = command("restore", "friday.db", url=new, TASKBELL_SECRET_KEYS=KEY)

    assert (without.exit_code, wrong.exit_code, right.exit_code, again.exit_code) == (2, 2, 0, 1)
    assert "TASKBELL_SECRET_KEYS is not set" in without.stderr
    assert "secret keys at new.db.secret-keys" in without.stderr
    assert "opens none of the secrets" in wrong.stderr
    assert right.stdout.startswith("restored from friday.db: tasks 1")
    assert "is not empty" in again.stderr


def test_a_secret_that_was_lost_before_is_named_and_the_rest_is_restored(
    sqlite_url: str, clock: ManualClock
) -> None:
    subscribe(sqlite_url, clock)
    subscribe(sqlite_url, clock, key=OTHER)
    command("backup", "friday.db", url=sqlite_url)

    done = command("restore", "friday.db", url="sqlite:///new.db", TASKBELL_SECRET_KEYS=KEY)

    assert done.exit_code == 1
    assert "subscriptions 2" in done.stdout
    assert "no key opens sub_" in done.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("backup", "new.db"), "there is no database at gone.db"),
        (("restore", "nothing.db"), "there is no file nothing.db"),
    ],
)
def test_what_is_not_there_is_said(words: tuple[str, str], complaint: str) -> None:
    done = command(*words, url="sqlite:///gone.db", TASKBELL_SECRET_KEYS=KEY)

    assert done.exit_code == 1
    assert complaint in done.stderr


def test_a_folder_that_is_not_there_is_named(sqlite_url: str) -> None:
    done = command("backup", "no/where/friday.db", url=sqlite_url)

    assert done.exit_code == 1
    assert "no/where/friday.db.part: No such file or directory" in done.stderr
