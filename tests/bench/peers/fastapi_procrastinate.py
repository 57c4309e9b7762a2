"""FastAPI + procrastinate on PostgreSQL + httpx. A worker for each core, 64 jobs at a time each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.peers.queue_peer import FastAPIPeer
from tests.bench.postgresql import running_postgresql
from tests.bench.system import System, Unavailable
from tests.databases import NoPostgreSQL


@contextmanager
def postgresql(folder: Path, database: str | None) -> Iterator[str]:
    """The run's own database, else one on a server of our own. Raises Unavailable."""
    if database is not None:
        yield database
        return
    try:
        with running_postgresql() as server, server.database(migrated=False) as url:
            yield url
    except NoPostgreSQL as error:
        raise Unavailable(str(error)) from None


SYSTEM: System = FastAPIPeer(
    name="FastAPI + procrastinate + httpx",
    durability="PostgreSQL, committed before the answer; a killed worker's jobs wait for a task"
    " of one's own that looks for them",
    app="procrastinate_app",
    worker=("procrastinate_app",),
    times=2,
    prepare=["procrastinate", "--app", "procrastinate_app.app", "schema", "--apply"],
    broker=postgresql,
)
