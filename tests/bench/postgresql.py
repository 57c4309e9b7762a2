"""The PostgreSQL server of a run: the one the tests use, but on a disk, and kept as people keep it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

import psycopg

from tests import databases
from tests.bench.processes import children, cpu_seconds
from tests.databases import PostgreSQL, start_postgresql

# what is measured is durable; the tests' server forgets everything when the machine stops
_SETTINGS = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on"}
_names = count(1)


@contextmanager
def running_postgresql() -> Iterator[PostgreSQL]:
    """Raises NoPostgreSQL."""
    kept = databases._SETTINGS | _SETTINGS
    with mock.patch.multiple(databases, _SETTINGS=kept, in_memory=lambda: None):
        server = start_postgresql()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def copy_of(server: PostgreSQL, url: str) -> Iterator[str]:
    """A copy of a database nobody is connected to, dropped at the end."""
    name, template = f"copy_{next(_names)}", urlsplit(url).path.strip("/")
    server.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    try:
        yield server.url(name)
    finally:
        server.run(f"DROP DATABASE {name} WITH (FORCE)")


def cpu_of(server: PostgreSQL) -> float:
    """CPU seconds that the server has used so far, all its processes together."""
    with psycopg.connect(server.url("postgres")) as connection:
        [(folder,)] = connection.execute("SHOW data_directory")
    first = int(Path(folder, "postmaster.pid").read_text().split()[0])
    return cpu_seconds([*children(first), first])
