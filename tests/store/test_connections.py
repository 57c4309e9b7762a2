"""Connections to PostgreSQL that lie in the pools: what the server closed is replaced unnoticed."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from store.database import open_database
from store.store import Store
from tests.making import ping, push, tell


@pytest.fixture
def store(postgresql_url: str) -> Iterator[Store]:
    opened = Store(open_database(postgresql_url))
    yield opened
    opened.close()


def test_what_the_server_closed_is_replaced_unnoticed(store: Store, postgresql_url: str) -> None:
    assert tell(store, push("t1")).created
    assert store.read_now(ping)

    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        others = "FROM pg_stat_activity WHERE application_name = 'taskbell'"
        ended = connection.execute(f"SELECT pg_terminate_backend(pid, 5000) {others}".encode())
        assert ended.fetchall() == 2 * [(True,)]

    assert tell(store, push("t2")).created
    assert store.read_now(ping)


def test_a_healthy_connection_is_not_asked_whether_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    for engine in (store.database.writer, store.database.reader):
        monkeypatch.setattr(engine.dialect, "do_ping", asked.append)

    for number in range(3):
        assert tell(store, push(f"t{number}")).created
        assert store.read_now(ping)

    assert asked == []
