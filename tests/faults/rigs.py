"""A rig for each run of a fault: a folder and a migrated database, gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.databases import PostgreSQL, migrate_and_close
from tests.faults.fault import Rig
from tests.faults.servers import Nursery


@contextmanager
def new_rig(
    engine: str, nursery: Nursery, postgresql: PostgreSQL | None, *, short: bool
) -> Iterator[Rig]:
    """postgresql: the run's server, which only that engine needs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="taskbell-faults-")))
        if engine == "postgresql":
            assert postgresql is not None
            url = stack.enter_context(postgresql.database())
        else:
            url = f"sqlite:///{folder}/taskbell.db"
            migrate_and_close(url)
        yield Rig(engine, short, folder, url, nursery, postgresql)
