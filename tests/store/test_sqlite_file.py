"""The SQLite file: one lock by whatever name, nobody else's eyes, and words for what cannot work."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest

from store.copying import back_up, original, restore
from store.database import open_database, open_file
from store.errors import StoreError, UnfitError
from store.fitness import check
from store.schema import migrate
from store.sqlite_file import exposed, hold
from store.store import Store
from tests.making import push, tell


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def linked(path: Path, folder: Path) -> Path:
    (folder / "link.db").symlink_to(path)
    return folder / "link.db"


def linked_twice(path: Path, folder: Path) -> Path:
    (folder / "again.db").symlink_to(linked(path, folder))
    return folder / "again.db"


def linked_hard(path: Path, folder: Path) -> Path:
    (folder / "hard.db").hardlink_to(path)
    return folder / "hard.db"


def in_a_linked_folder(path: Path, folder: Path) -> Path:
    (folder / "data").symlink_to(path.parent)
    return folder / "data" / path.name


def with_dots(path: Path, folder: Path) -> Path:
    (folder / "inner").mkdir()
    return Path(f"{folder}/inner/../{path.name}") if path.parent == folder else path


def relative(path: Path, _folder: Path) -> Path:
    return Path(os.path.relpath(path))


NAMES = [linked, linked_twice, linked_hard, in_a_linked_folder, with_dots, relative]


@pytest.mark.parametrize("naming", NAMES, ids=lambda naming: naming.__name__)
def test_one_file_has_one_lock_by_whatever_name(
    sqlite_url: str, tmp_path: Path, naming: Callable[[Path, Path], Path]
) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    folder = tmp_path / "other"
    folder.mkdir()
    other = naming(path, folder if naming is not with_dots else tmp_path)
    store = Store(open_database(sqlite_url))

    with pytest.raises(StoreError, match="in use by another taskbell process"):
        hold(other)

    store.close()
    hold(other).close()


@pytest.mark.parametrize("naming", NAMES, ids=lambda naming: naming.__name__)
def test_a_backup_under_another_name_misses_nothing(
    sqlite_url: str, tmp_path: Path, naming: Callable[[Path, Path], Path]
) -> None:
    """Under a hard link the newest rows, which lie beside the server's name, would be missing."""
    folder = tmp_path / "other"
    folder.mkdir()
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    other = naming(path, folder if naming is not with_dots else tmp_path)
    store = Store(open_database(sqlite_url))
    tell(store, push("newest"))
    refused = pytest.raises(StoreError, match="under another name")
    with refused if naming is linked_hard else nullcontext(), closing(open_file(other)) as database:
        assert back_up(database, tmp_path / "backup.db")["tasks"] == 1
    store.close()

    with closing(open_file(other)) as database:
        assert back_up(database, tmp_path / "later.db")["tasks"] == 1


def test_a_name_is_the_same_from_another_folder(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    held = hold(Path("taskbell.db"))
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")

    with pytest.raises(StoreError, match="in use"):
        hold(Path("../taskbell.db"))
    held.close()


def test_a_relative_database_stays_the_same_when_the_folder_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    database = open_database("sqlite:///taskbell.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    migrate(database)
    database.dispose()

    assert (tmp_path / "taskbell.db").is_file()


def test_a_file_that_is_gone_is_not_made_anew(sqlite_url: str) -> None:
    store = Store(open_database(sqlite_url))
    assert tell(store, push("t1")).created
    store.database.dispose()
    path = store.database.file
    path.unlink()

    with pytest.raises(StoreError):
        tell(store, push("t2"))
    store.close()
    assert not path.exists()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_what_is_made_is_its_owners_only(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        path = tmp_path / "taskbell.db"
        store = Store(open_file(path))
        migrate(store.database)
        tell(store, push("t1"))
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
        back_up(store.database, tmp_path / "backup.db")
        store.close()

    assert modes == dict.fromkeys(
        ("taskbell.db", "taskbell.db-wal", "taskbell.db-shm", "taskbell.db.lock"), 0o600
    )
    assert stat.S_IMODE((tmp_path / "backup.db").stat().st_mode) == 0o600


def test_what_is_restored_is_its_owners_only(sqlite_url: str, tmp_path: Path) -> None:
    target = open_file(tmp_path / "restored.db")
    with umask(0o000), original(Path(sqlite_url.removeprefix("sqlite:///"))) as source:
        restore(source, target)
    target.dispose()

    made = {each: each.stat().st_mode & 0o777 for each in tmp_path.glob("restored.db*")}
    assert set(made.values()) == {0o600}


def test_a_lock_of_an_earlier_version_is_closed_to_others(sqlite_url: str) -> None:
    lock = Path(f"{sqlite_url.removeprefix('sqlite:///')}.lock")
    lock.touch()
    lock.chmod(0o644)

    hold(Path(sqlite_url.removeprefix("sqlite:///"))).close()

    assert stat.S_IMODE(lock.stat().st_mode) == 0o600


@pytest.mark.parametrize(("mode", "told"), [(0o600, 0), (0o644, 1), (0o640, 1), (0o602, 1)])
def test_a_file_that_others_can_read_is_found(sqlite_url: str, mode: int, told: int) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    path.chmod(mode)

    assert list(exposed(path)) == told * [(path, mode)]


def a_folder(path: Path) -> None:
    path.mkdir()


def some_text(path: Path) -> None:
    path.write_text("no database, but a list of things to do\n" * 100)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def damaged(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    with path.open("r+b") as file:
        file.seek(16)
        file.write(b"\xff" * 84)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (a_folder, "is a folder: name a file in it"),
        (some_text, "is not a SQLite database: set TASKBELL_DATABASE_URL"),
        (a_pipe, "is not an ordinary file"),
        (a_socket, "is not an ordinary file"),
        (damaged, "TASKBELL_DATABASE_URL"),
    ],
)
def test_what_is_no_database_is_refused_by_its_name(
    tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "it.db"
    make(path)

    said = refused(path)

    assert words in said
    assert str(path) in said


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    said = refused(tmp_path / "no" / "such" / "taskbell.db")

    assert f"there is no folder {tmp_path}/no/such" in said
    assert "make it" in said


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert f"{tmp_path}/file/taskbell.db" in refused(tmp_path / "file" / "taskbell.db")


def refused(path: Path) -> str:
    database = open_file(path)
    try:
        with pytest.raises(UnfitError) as caught:
            check(database)
    finally:
        database.dispose()
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("closed", ["folder", "file"])
def test_what_may_not_be_written_is_named(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    wanted = path if closed == "file" else path.parent
    access = os.access  # root may write whatever its mode is
    monkeypatch.setattr(
        os, "access", lambda each, rights: access(each, rights) and Path(each) != wanted
    )

    assert f"{wanted} cannot be written" in refused(path)


def test_a_new_file_may_be_made_where_there_is_none(tmp_path: Path) -> None:
    database = open_file(tmp_path / "new.db")

    check(database)
    database.dispose()
