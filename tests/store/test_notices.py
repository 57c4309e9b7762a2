"""Notices between processes: what one commits wakes the others, and nothing depends on it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest

import store.notices
from store.clock import monotonic
from store.database import Database, connect_alone, open_database
from store.notices import EVENTS
from store.store import Store
from store.writer import Operation, Tx
from tests.app import AWAY
from tests.databases import PostgreSQL, migrate_and_close
from tests.patience import PATIENCE_SECONDS

"""How long anything may take on a machine that is busy."""


def _say(tx: Tx, topics: Sequence[str]) -> list[None]:
    for topic in topics:
        tx.wake(topic)
    return [None] * len(topics)


def _whisper(tx: Tx, topics: Sequence[str]) -> list[None]:
    for topic in topics:
        tx.wake(topic, here_only=True)
    return [None] * len(topics)


def _fail(tx: Tx, topics: Sequence[str]) -> list[None]:
    _say(tx, topics)
    raise ValueError(topics)


say: Operation[str, None] = Operation("say", _say)
whisper: Operation[str, None] = Operation("whisper", _whisper)
fail: Operation[str, None] = Operation("fail", _fail)


class Process:
    """A store as another process would have it; heard: the topics it was woken for."""

    def __init__(self, url: str) -> None:
        self.store = Store(open_database(url))
        self.heard: queue.Queue[str] = queue.Queue()

    def listen(self, *topics: str) -> None:
        for topic in topics:
            self.store.listen(topic, partial(self.heard.put, topic))


@contextmanager
def processes(*urls: str) -> Iterator[list[Process]]:
    made = [Process(url) for url in urls]
    try:
        yield made
    finally:
        for process in made:
            process.store.close()


def listeners(url: str, count: int, *, but: Sequence[int] = ()) -> list[int]:
    """The server's processes behind the listening connections, once there are that many others."""
    found = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE %s"
    give_up = monotonic() + PATIENCE_SECONDS
    with psycopg.connect(url, autocommit=True) as connection:
        while monotonic() < give_up:
            pids = [pid for (pid,) in connection.execute(found, ["LISTEN%"])]
            if len(pids) == count and not set(pids) & set(but):
                return pids
    raise AssertionError(f"no {count} listeners")


def cut(url: str, pids: list[int]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", [pids])


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage().partition(",")[0] for r in caplog.records if "notices" in r.getMessage()]


def test_a_commit_wakes_the_other_processes_that_listen(postgresql_url: str) -> None:
    with processes(*3 * [postgresql_url]) as (writer, first, second):
        first.listen("news")
        second.listen("news", "other")
        listeners(postgresql_url, 2)

        writer.store.write_now(say, "news")

        assert first.heard.get(timeout=PATIENCE_SECONDS) == "news"
        assert second.heard.get(timeout=PATIENCE_SECONDS) == "news"


def test_a_process_hears_its_own_commits_once_and_without_a_notice(postgresql_url: str) -> None:
    with processes(*2 * [postgresql_url]) as (one, other):
        one.listen("news", "end")
        listeners(postgresql_url, 1)

        one.store.write_now(say, "news")
        other.store.write_now(say, "end")  # notices come in the order of the commits

        assert one.heard.get(timeout=PATIENCE_SECONDS) == "news"
        assert one.heard.get(timeout=PATIENCE_SECONDS) == "end"


@pytest.mark.parametrize("operation", [whisper, fail], ids=["here only", "rolled back"])
def test_what_concerns_nobody_else_is_not_announced(
    postgresql_url: str, operation: Operation[str, None]
) -> None:
    with processes(*2 * [postgresql_url]) as (writer, listener):
        listener.listen("news", "end")
        writer.listen("news")
        listeners(postgresql_url, 2)

        if operation is fail:
            with pytest.raises(ValueError, match="news"):
                writer.store.write_now(operation, "news")
        else:
            writer.store.write_now(operation, "news")
            assert writer.heard.get(timeout=PATIENCE_SECONDS) == "news"
        writer.store.write_now(say, "end")

        assert listener.heard.get(timeout=PATIENCE_SECONDS) == "end"


def test_a_log_that_grows_fast_is_announced_now_and_then(postgresql_url: str) -> None:
    with processes(*2 * [postgresql_url]) as (writer, listener):
        listener.listen(EVENTS, "news")
        listeners(postgresql_url, 1)

        writer.store._notices._events_at = monotonic() + 60  # as if it had just been said
        writer.store.write_now(say, EVENTS)
        writer.store.write_now(say, "news")
        first = listener.heard.get(timeout=PATIENCE_SECONDS)
        writer.store._notices._events_at = monotonic() - 1
        writer.store.write_now(say, EVENTS)
        second = listener.heard.get(timeout=PATIENCE_SECONDS)
    assert (first, second) == ("news", EVENTS)


def test_a_lost_connection_is_made_again_without_a_word(
    postgresql_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.notices, "_STEADY_SECONDS", 0.0)
    with processes(*2 * [postgresql_url]) as (writer, listener):
        listener.listen("news")

        before = listeners(postgresql_url, 1)
        cut(postgresql_url, before)
        listeners(postgresql_url, 1, but=before)
        writer.store.write_now(say, "news")

        assert listener.heard.get(timeout=PATIENCE_SECONDS) == "news"
    assert logged(caplog) == []


def test_connections_that_are_cut_again_and_again_are_told_once(
    postgresql_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a firewall, or a pooler's client_idle_timeout, does for ever."""
    monkeypatch.setattr(store.notices, "_WAIT_SECONDS", 0.01)
    with processes(postgresql_url) as (listener,):
        listener.listen("news")
        seen: list[int] = []
        for _ in range(3):
            seen += listeners(postgresql_url, 1, but=seen)
            cut(postgresql_url, seen)
        listeners(postgresql_url, 1, but=seen)
    assert logged(caplog) == ["no notices from other processes"]


def test_a_database_that_was_away_is_told_once_each_way(
    postgresql: PostgreSQL,
    postgresql_url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store.notices, "_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(store.notices, "_STEADY_SECONDS", 0.01)
    with processes(postgresql_url) as (listener,):
        name = listener.store.database.address.database
        postgresql.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        listener.listen("news")
        wait_for(lambda: len(logged(caplog)) == 1)
        postgresql.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        wait_for(lambda: len(logged(caplog)) == 2)
    assert logged(caplog) == [
        "no notices from other processes",
        "notices from other processes are back",
    ]


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = monotonic() + PATIENCE_SECONDS
    pause = threading.Event()
    while not condition():
        assert monotonic() < give_up
        pause.wait(0.01)


def test_a_database_that_is_away_holds_up_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = threading.Semaphore(0)

    def counted(database: Database) -> psycopg.Connection[Any]:
        tries.release()
        return connect_alone(database)

    monkeypatch.setattr(store.notices, "_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(store.notices, "connect_alone", counted)
    opened = Store(open_database(AWAY))

    opened.listen("news", print)
    for _ in range(4):
        assert tries.acquire(timeout=PATIENCE_SECONDS)
    opened.close()

    assert threads() == []
    [record] = caplog.records
    assert "connection" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_closed_store_listens_no_more(postgresql_url: str) -> None:
    with processes(postgresql_url) as (process,):
        process.listen("news")
        listeners(postgresql_url, 1)
        assert len(threads()) == 1

    assert threads() == []
    listeners(postgresql_url, 0)


def test_who_waits_for_nothing_has_no_connection_for_it(postgresql_url: str) -> None:
    with processes(postgresql_url):
        assert threads() == []


def test_sqlite_has_nobody_to_listen_to(sqlite_url: str) -> None:
    with processes(sqlite_url) as (process,):
        process.listen("news")
        assert threads() == []

        process.store.write_now(say, "news")

        assert process.heard.get(timeout=PATIENCE_SECONDS) == "news"


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "taskbell-notices"]


def test_two_installations_in_one_database_do_not_hear_each_other(postgresql: PostgreSQL) -> None:
    with (
        postgresql.database() as url,
        processes(url, another_schema(postgresql, url), url) as (one, other, listener),
    ):
        listener.listen("news", "end")
        listeners(url, 1)

        other.store.write_now(say, "news")
        one.store.write_now(say, "end")

        assert listener.heard.get(timeout=PATIENCE_SECONDS) == "end"


def another_schema(postgresql: PostgreSQL, url: str) -> str:
    """Somebody whose tables lie in another schema of the same database."""
    name = url.partition("@/")[2].partition("?")[0]
    postgresql.run("CREATE ROLE neighbour SUPERUSER LOGIN")
    postgresql.run(f"ALTER ROLE neighbour IN DATABASE {name} SET search_path = next_door")
    postgresql.run("CREATE SCHEMA next_door", name)
    other = url.replace("//postgres@", "//neighbour@")
    migrate_and_close(other)
    return other
