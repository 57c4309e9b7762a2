"""Behind a real PgBouncer: what works does, and what cannot is refused at the start."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest

import store.fitness
from store.database import Database, open_database
from store.errors import StoreError, UnfitError
from store.fitness import check
from store.schema import migrate
from store.store import Store
from store.writer import Operation, Tx
from tests.making import ping, push, tell
from tests.services.pgbouncer import PgBouncer, pgbouncer

SECONDS = 10


@pytest.fixture
def session_pool(postgresql_url: str) -> Iterator[PgBouncer]:
    with pgbouncer(postgresql_url, "session") as made:
        yield made


@pytest.fixture
def transaction_pool(postgresql_url: str) -> Iterator[PgBouncer]:
    with pgbouncer(postgresql_url, "transaction", {"default_pool_size": "3"}) as made:
        yield made


@contextlib.contextmanager
def opened(url: str, direct: str | None = None) -> Iterator[Database]:
    database = open_database(url, direct)
    try:
        yield database
    finally:
        database.dispose()


def _settings(database: Database, engine: str) -> dict[str, str]:
    with getattr(database, engine).begin() as connection:
        names = ("statement_timeout", "lock_timeout", "TimeZone", "search_path", "enable_seqscan")
        return {name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names}


def _say(tx: Tx, topics: Sequence[str]) -> list[None]:
    for topic in topics:
        tx.wake(topic)
    return [None] * len(topics)


say: Operation[str, None] = Operation("say", _say)


def test_a_session_pool_needs_no_more_than_its_url(
    session_pool: PgBouncer, postgresql_url: str
) -> None:
    url = session_pool.url(postgresql_url)
    with opened(url) as database:
        check(database)
        migrate(database)
        assert _settings(database, "writer")["enable_seqscan"] == "off"

    works(url, None)


@pytest.mark.parametrize(
    "more", [{}, {"server_reset_query_always": "1"}, {"server_round_robin": "1"}]
)
def test_a_transaction_pool_works_with_the_direct_url(
    postgresql_url: str, more: dict[str, str]
) -> None:
    with pgbouncer(postgresql_url, "transaction", {"default_pool_size": "3", **more}) as pool:
        works(pool.url(postgresql_url), postgresql_url)


def works(url: str, direct: str | None) -> None:
    """Many pushes at once from two processes' stores, each heard of by the other."""
    stores = [Store(open_database(url, direct)) for _ in range(2)]
    heard: queue.Queue[str] = queue.Queue()
    try:
        check(stores[0].database)
        stores[1].listen("news", partial(heard.put, "news"))
        with ThreadPoolExecutor(16) as threads:
            jobs = [threads.submit(tell, stores[n % 2], push(f"t{n}")) for n in range(200)]
            jobs_read = [threads.submit(stores[n % 2].read_now, ping) for n in range(200)]
            assert all(job.result().created for job in jobs)
            assert all(job.result() for job in jobs_read)
        for _ in range(SECONDS * 10):  # until the other one listens
            stores[0].write_now(say, "news")
            with contextlib.suppress(queue.Empty):
                assert heard.get(timeout=0.1) == "news"
                break
        else:
            pytest.fail("no notice came")
    finally:
        for each in stores:
            each.close()


def test_each_transaction_of_a_transaction_pool_has_our_settings(
    transaction_pool: PgBouncer, postgresql_url: str
) -> None:
    """Another client's session settings stay on the server's connection that is lent to us next."""
    url = transaction_pool.url(postgresql_url)
    found = {}
    with psycopg.connect(url, autocommit=True) as other, opened(url, postgresql_url) as database:
        for _ in range(5):
            other.execute("SET statement_timeout = 3000")
            other.execute("SET search_path = nowhere")
            other.execute("SET TimeZone = 'Asia/Shanghai'")
            found = {engine: _settings(database, engine) for engine in ("writer", "reader")}

    common = {"statement_timeout": "10s", "lock_timeout": "5s", "TimeZone": "UTC",
              "search_path": "public"}  # fmt: skip
    assert found == {
        "writer": {**common, "enable_seqscan": "off"},
        "reader": {**common, "enable_seqscan": "on"},
    }


def test_tables_are_made_past_the_pooler(empty: str) -> None:
    with (
        pgbouncer(empty, "transaction") as pool,
        opened(pool.url(empty), empty) as database,
    ):
        check(database)
        assert migrate(database) is None
        with database.reader.begin() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM tasks").scalar() == 0


@pytest.fixture
def empty(postgresql: object) -> Iterator[str]:
    with postgresql.database(migrated=False) as url:  # type: ignore[attr-defined]
        yield url


def test_names_that_another_client_left_prepared_are_in_nobodys_way(postgresql_url: str) -> None:
    more = {"server_reset_query": "", "default_pool_size": "1"}
    with pgbouncer(postgresql_url, "session", more) as pool:
        url = pool.url(postgresql_url)
        with psycopg.connect(url, autocommit=True, prepare_threshold=0) as other:
            other.execute("SELECT 1 + %s", [1])
            other.execute("SET TimeZone = 'Asia/Shanghai'")
        with opened(url) as database:
            for _ in range(8):
                with database.writer.begin() as connection:
                    assert connection.exec_driver_sql("SHOW TimeZone").scalar() == "UTC"


@pytest.mark.parametrize(
    ("mode", "direct", "words"),
    [
        ("transaction", "", "TASKBELL_DATABASE_URL leads through a pooler in transaction mode"),
        ("transaction", "pool", "TASKBELL_DIRECT_DATABASE_URL leads through a pooler"),
        ("transaction", "other", "lead to two databases"),
        ("statement", "", "statement mode"),
        ("statement", "server", "statement mode"),
    ],
)
@pytest.mark.parametrize("robin", ["0", "1"])
def test_a_pool_that_cannot_work_is_refused(
    postgresql_url: str, empty: str, mode: str, direct: str, words: str, robin: str
) -> None:
    more = {"server_round_robin": robin, "ignore_startup_parameters": "options"}
    with pgbouncer(postgresql_url, mode, more) as pool:
        url = pool.url(postgresql_url)
        other = {"": None, "pool": url + "&application_name=direct", "other": empty,
                 "server": postgresql_url}[direct]  # fmt: skip
        with opened(url, other) as database, pytest.raises(UnfitError, match=words) as caught:
            check(database)

    assert "\n" not in str(caught.value)
    assert "pool_mode" in str(caught.value) or "same database" in str(caught.value)


def test_a_pool_that_is_too_small_is_refused(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.fitness, "PROBE_SECONDS", 1.0)
    with (
        pgbouncer(
            postgresql_url, "session", {"default_pool_size": "1", "query_wait_timeout": "5"}
        ) as pool,
        opened(pool.url(postgresql_url)) as database,
        pytest.raises(StoreError, match="default_pool_size"),
    ):
        check(database)
