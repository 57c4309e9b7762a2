"""The database as commands are told of it: each reads the same, and what cannot be is one line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from typer.testing import CliRunner, Result

from deploy import serving
from deploy.cli import build_app
from deploy.cli.checkup import local
from deploy.secrets import with_secret_keys
from deploy.settings import load
from store.clock import system_clock
from store.database import open_database
from store.errors import ReadOnlyError
from store.store import Store
from store.writer import check_writable
from tests.app import loggers_as_before
from tests.databases import PostgreSQL


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to be in, and no settings but a test's own."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if "TASKBELL" in name or name.endswith("_API_KEY")]:  # noqa: TID251
        monkeypatch.delenv(name)
    with loggers_as_before():
        yield tmp_path


def invoke(*words: str, **environ: str) -> Result:
    return CliRunner().invoke(build_app(), words, env=environ)


def one_line(text: str) -> str:
    assert text.count("\n") == 1, text
    assert text.startswith("taskbell: ")
    return text


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("migrate",)])
@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("sqlite:///no/such/taskbell.db", 1, "there is no folder"),
        ("sqlite:///folder", 1, "is a folder"),
        ("sqlite:///text", 1, "is not a SQLite database"),
        ("sqlite:///taskbell.db?mode=ro", 2, "TASKBELL_DATABASE_URL"),
        ("sqlite://taskbell.db", 2, "three slashes"),
        ("mysql://user:hush@host/db", 2, "'mysql'"),
        ("postgresql+psycopg2://user:hush@host/db", 2, "'postgresql+psycopg2'"),
        ("postgresql://user:hush@hush@host/db", 2, "%40"),
        ("postgresql://user:hush@127.0.0.1:1/db", 1, "127.0.0.1:1/db does not answer"),
        ("postgresql://user:hush@nowhere.invalid/db", 1, "nowhere.invalid/db does not answer"),
        ("postgresql://user:hush@host/db?sslmod=require", 2, "did you mean sslmode?"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(
    here: Path, command: tuple[str, ...], url: str, code: int, words: str
) -> None:
    (here / "folder").mkdir()
    (here / "text").write_text("a list of things to do\n" * 100)

    ended = invoke(*command, TASKBELL_DATABASE_URL=url, TASKBELL_SECRET_KEYS="k" * 32)

    said = one_line(ended.stderr)
    assert ended.exit_code == code
    assert words in said
    assert "hush" not in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("/test_", "/no_test_"), "does not exist"),
        (("postgres@", "nobody:hush@"), "nobody"),
    ],
)
def test_postgresql_says_what_it_misses_in_one_line(
    here: Path, postgresql_url: str, change: tuple[str, str], words: str
) -> None:
    url = postgresql_url.replace(*change)

    ended = invoke("migrate", TASKBELL_DATABASE_URL=url)

    assert ended.exit_code == 1
    assert words in one_line(ended.stderr)
    assert "TASKBELL_DATABASE_URL" in ended.stderr
    assert "hush" not in ended.stderr


def test_tables_that_may_not_be_made_are_one_line(here: Path, postgresql: PostgreSQL) -> None:
    with postgresql.database(migrated=False) as url:
        postgresql.run("CREATE ROLE reader LOGIN")
        name = url.partition("@/")[2].partition("?")[0]
        postgresql.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC", name)
        ended = invoke("migrate", TASKBELL_DATABASE_URL=url.replace("postgres@", "reader@"))
        postgresql.run("DROP ROLE reader")

    assert ended.exit_code == 1
    assert "permission denied" in one_line(ended.stderr)


def test_a_schema_is_not_changed_under_another_name_than_the_server_has(
    here: Path, sqlite_url: str
) -> None:
    Path("hard.db").hardlink_to(sqlite_url.removeprefix("sqlite:///"))
    with contextlib.closing(Store(open_database(sqlite_url))):
        ended = [
            invoke("migrate", TASKBELL_DATABASE_URL=url)
            for url in (sqlite_url, f"sqlite:///{here}/hard.db")
        ]

    assert [each.exit_code for each in ended] == [0, 1]
    assert "in use by a running server under another name" in one_line(ended[1].stderr)


@pytest.mark.parametrize("kept", ["", "INSERT", "SELECT, INSERT, UPDATE"])
def test_a_role_that_may_not_write_is_refused_by_name(
    here: Path, postgresql: PostgreSQL, postgresql_url: str, kept: str
) -> None:
    name = postgresql_url.partition("@/")[2].partition("?")[0]
    postgresql.run("CREATE ROLE reader LOGIN")
    postgresql.run("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", name)
    if kept:
        postgresql.run(f"GRANT {kept} ON tasks TO reader", name)
    url = postgresql_url.replace("postgres@", "reader@")
    try:
        ended = invoke("migrate", TASKBELL_DATABASE_URL=url)
        with (
            contextlib.closing(Store(open_database(url))) as store,
            pytest.raises(ReadOnlyError, match="permission denied"),
        ):
            store.write_now(check_writable, None)
    finally:
        postgresql.run("DROP OWNED BY reader; DROP ROLE reader", name)

    assert ended.exit_code == 1
    assert "the role reader takes no writes" in one_line(ended.stderr)


def test_a_direct_address_needs_a_pooled_one(here: Path) -> None:
    ended = invoke("migrate", TASKBELL_DIRECT_DATABASE_URL="postgresql://user:hush@host/db")
    file = invoke(
        "migrate",
        TASKBELL_DATABASE_URL="postgresql://host/db",
        TASKBELL_DIRECT_DATABASE_URL="sqlite:///taskbell.db",
    )

    assert (ended.exit_code, file.exit_code) == (2, 2)
    assert "TASKBELL_DIRECT_DATABASE_URL" in one_line(ended.stderr)
    assert "TASKBELL_DIRECT_DATABASE_URL" in one_line(file.stderr)
    assert "hush" not in ended.stderr


@pytest.mark.parametrize("name", ["my%20tasks.db", "100%25.db", "任务.db", "a b.db", "what%3F.db"])
def test_every_command_reads_the_same_file(here: Path, name: str) -> None:
    """The server, its secret keys, backup, restore, rotation and doctor."""
    url = f"sqlite:///{here}/{name}"
    settings = load({"TASKBELL_DATABASE_URL": url})

    invoke("migrate", TASKBELL_DATABASE_URL=url)
    with_secret_keys(settings)
    backed = invoke("backup", "backup.db", TASKBELL_DATABASE_URL=url)
    rotated = invoke("keys", "rotate", TASKBELL_DATABASE_URL=url)
    [found, *_] = local.database(settings, system_clock)

    made = unquote(name)
    assert {each.name for each in here.iterdir()} >= {made, f"{made}.secret-keys", "backup.db"}
    assert not [each for each in here.iterdir() if each.name == name != made]
    assert (backed.exit_code, rotated.exit_code, found.level) == (0, 0, "ok")


def test_a_file_called_by_a_link_has_one_set_of_keys(here: Path) -> None:
    (here / "data").mkdir()
    (here / "link.db").symlink_to(here / "data" / "taskbell.db")
    named, real = (
        load({"TASKBELL_DATABASE_URL": f"sqlite:///{here}/{path}"})
        for path in ("link.db", "data/taskbell.db")
    )

    assert with_secret_keys(named).secret_keys == with_secret_keys(real).secret_keys


def test_keys_beside_a_link_as_they_were_kept_before_are_found(here: Path) -> None:
    (here / "data").mkdir()
    (here / "link.db").symlink_to(here / "data" / "taskbell.db")
    (here / "link.db.secret-keys").write_text("k" * 40)

    settings = load({"TASKBELL_DATABASE_URL": f"sqlite:///{here}/link.db"})

    assert with_secret_keys(settings).secret_keys == ("k" * 40,)


def test_a_file_that_others_can_read_is_warned_of_at_the_start(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    invoke("migrate")
    (here / "taskbell.db").chmod(0o644)

    serving._warn(load({}))

    [told] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert str(here / "taskbell.db") in told
    assert "0644" in told
    assert "chmod 600" in told
