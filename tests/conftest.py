"""Fixtures for every suite: a clock that stands still, and the store on each database."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from store.clock import ManualClock
from store.database import open_database
from store.store import Store
from tests.databases import (
    ENGINES,
    NoPostgreSQL,
    PostgreSQL,
    copy_sqlite,
    in_memory,
    migrate_and_close,
    start_postgresql,
)

if TYPE_CHECKING:
    from tests.faults.servers import Nursery

pytest.register_assert_rewrite("tests.providers.conformance")  # tests of other folders use it

ON_BOTH_ENGINES = ("store", "e2e", "deploy")
_HEEDED: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGQUIT: signal.SIG_DFL,
}
START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def pytest_configure(config: pytest.Config) -> None:
    """The same examples on every run; `--hypothesis-profile=default` looks for new ones."""
    if not config.getoption("--hypothesis-profile"):
        hypothesis.settings.register_profile(
            "taskbell", max_examples=50, deadline=None, derandomize=True, database=None
        )
        hypothesis.settings.load_profile("taskbell")
    _keep_files_in_memory(config)
    gc.disable()  # collecting finds no garbage while modules are imported, and takes long
    for number, handler in _HEEDED.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            # as in a shell's background: the programs under test would inherit it, and not stop
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with whole processes: one that waits at the end would keep everybody waiting."""
    items.sort(key=lambda item: item.path.parent.name not in ("docs", "e2e"))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each engine in turn for the store and whole processes; above the store, where a test asks for it."""
    test = metafunc.definition
    marks = {(mark.name, *mark.args[:1]) for mark in test.iter_markers()}
    if "database_url" not in metafunc.fixturenames or ("parametrize", "database_url") in marks:
        return
    folder = test.path.parent.name
    if folder in ON_BOTH_ENGINES or test.get_closest_marker("on_both_engines"):
        metafunc.parametrize("database_url", ENGINES, indirect=True)


def _keep_files_in_memory(config: pytest.Config) -> None:
    """On a disk each commit of SQLite would wait for it, and each test's folder to be removed."""
    memory = in_memory()
    if memory is not None:
        environment = pytest.MonkeyPatch()
        environment.setenv("PYTEST_DEBUG_TEMPROOT", memory)
        config.add_cleanup(environment.undo)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A server of this worker's own, started by the first test that needs it."""
    try:
        server = start_postgresql()
    except NoPostgreSQL as error:
        pytest.fail(str(error), pytrace=False)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def home() -> Iterator[Nursery]:
    """Where servers are forked from."""
    from tests.faults.servers import nursery  # few tests need it

    with nursery() as made:
        yield made


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "migrated.db"
    migrate_and_close(f"sqlite:///{path}")
    return path


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL) -> Iterator[str]:
    """A migrated database of its own. Another test may have had it before."""
    with postgresql.lent() as url:
        yield url


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated database of its own."""
    return copy_sqlite(sqlite_template, tmp_path / "taskbell.db")


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of its own: SQLite, or each engine in turn (pytest_generate_tests)."""
    url: str = request.getfixturevalue(f"{getattr(request, 'param', 'sqlite')}_url")
    return url


@pytest.fixture(params=ENGINES)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The same without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    with server.database(migrated=False) as url:
        yield url


@pytest.fixture
def store(database_url: str, clock: ManualClock) -> Iterator[Store]:
    opened = Store(open_database(database_url), clock)
    yield opened
    opened.close()
