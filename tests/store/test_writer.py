"""The writer: shared commits, honest answers, and what happens when the database is away."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event, exc, func, select

from store.clock import ManualClock
from store.database import open_database
from store.errors import NotFoundError, StoreUnavailableError
from store.events import Status
from store.records import record
from store.store import Store
from store.tables import counters, tasks
from store.writer import Operation, Tx
from tests.databases import PostgreSQL, on_sqlite
from tests.making import ping, push, registered, rows, subscribe, tell, together, told, writer_busy
from tests.patience import PATIENCE_SECONDS

OURS = 12_345
"""The value of the counters that these tests write."""


class Deadlock(Exception):
    def __init__(self, sqlstate: str = "40P01") -> None:
        super().__init__("in the way")
        self.sqlstate = sqlstate


def serializable(driver: psycopg.Connection[Any], *_: object) -> None:
    driver.isolation_level = psycopg.IsolationLevel.SERIALIZABLE


def commits(store: Store) -> list[None]:
    """Grows by one with each commit of the writer."""
    counted: list[None] = []
    event.listen(store.database.writer, "commit", lambda _: counted.append(None))
    return counted


def doing(what: Callable[[Tx, str], Any], name: str = "do", order: int = 0) -> Operation[str, Any]:
    """An operation that does something for each item."""

    def run(tx: Tx, items: Sequence[str]) -> list[Any]:
        return [what(tx, item) for item in items]

    return Operation(name, run, order)


def insert_counter(tx: Tx, name: str) -> str:
    tx.connection.execute(counters.insert().values(name=name, value=OURS))
    return name


insert = doing(insert_counter, "insert")


def count(store: Store) -> int:
    return len(rows(store, counters, counters.c.value == OURS))


class TestGroupCommit:
    async def test_what_waits_together_is_committed_together(self, store: Store) -> None:
        counted = commits(store)

        await together(store, insert, [f"c{number}" for number in range(300)])

        assert len(counted) == 2  # one for the operation that kept the writer busy
        assert count(store) == 300

    async def test_many_concurrent_writers_share_few_commits(self, store: Store) -> None:
        counted = commits(store)

        recorded = await asyncio.gather(
            *(store.write(record, push(f"t{number}")) for number in range(400))
        )

        assert len({r.task.id for r in recorded if r.task}) == 400
        assert len(counted) < 40

    async def test_a_batch_is_bounded(self, store: Store) -> None:
        counted = commits(store)

        await together(store, insert, [f"c{number}" for number in range(1_100)])

        assert len(counted) == 1 + 3

    def test_what_takes_the_last_lock_goes_last(self, store: Store) -> None:
        done: list[str] = []

        with writer_busy(store):
            writes = [
                store._writer.submit(doing(lambda _, item: done.append(item), name, order), name)
                for name, order in (("last", 9), ("first", 0), ("middle", 2), ("first", 0))
            ]
        for write in writes:
            write.result(PATIENCE_SECONDS)

        assert done == ["first", "first", "middle", "last"]

    def test_threads_without_a_loop_may_write(self, store: Store) -> None:
        names = [f"c{number}" for number in range(50)]

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda name: store.write_now(insert, name), names))

        assert answers == names
        assert count(store) == 50


class TestAnswers:
    async def test_an_answer_comes_after_the_commit(self, store: Store, database_url: str) -> None:
        seen_at_answer: list[int] = []
        other = open_database(database_url)

        def look(_: object) -> None:
            with other.reader.begin() as connection:
                ours = select(func.count()).where(counters.c.value == OURS)
                seen_at_answer.append(connection.execute(ours).scalar_one())

        written = store._writer.submit(insert, "c1")
        written.add_done_callback(look)  # runs in the writer's thread, at once
        await asyncio.wrap_future(written)
        await store.write(insert, "c2")
        other.dispose()

        assert seen_at_answer == [1]

    async def test_an_error_among_the_answers_fails_that_item_alone(self, store: Store) -> None:
        def judge(tx: Tx, item: str) -> str | NotFoundError:
            return NotFoundError("no c2") if item == "c2" else insert_counter(tx, item)

        answers = await together(store, doing(judge), ["c1", "c2", "c3"])

        assert isinstance(answers[1], NotFoundError)
        assert [answers[0], answers[2]] == ["c1", "c3"]
        assert count(store) == 2

    async def test_a_bad_row_fails_alone(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            answers = await together(store, insert, ["c1", "c2", "c1", "c3"])

        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        assert len(failed) == 1
        assert answers[2] is failed[0]
        assert count(store) == 3
        assert "a batch of 4 writes failed" in caplog.text

    def test_a_bug_in_one_operation_does_not_undo_the_others(self, store: Store) -> None:
        def stumble(tx: Tx, item: str) -> str:
            insert_counter(tx, item)
            raise ZeroDivisionError

        with writer_busy(store):
            good = [store._writer.submit(insert, name) for name in ("c1", "c2")]
            bad = store._writer.submit(doing(stumble, "stumble"), "c3")

        assert isinstance(bad.exception(10), ZeroDivisionError)
        assert [write.result(PATIENCE_SECONDS) for write in good] == ["c1", "c2"]
        assert count(store) == 2

    async def test_a_caller_who_gave_up_stops_nobody_else(self, store: Store) -> None:
        with writer_busy(store):
            given_up = asyncio.create_task(store.write(insert, "given up"))
            kept = asyncio.create_task(store.write(insert, "kept"))
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.wait([given_up])

        assert await asyncio.wait_for(kept, PATIENCE_SECONDS) == "kept"
        assert await asyncio.wait_for(store.write(insert, "later"), PATIENCE_SECONDS) == "later"
        assert count(store) == 2

    async def test_a_listener_that_fails_stops_nobody(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        heard: list[str] = []

        def closed() -> None:
            raise RuntimeError("Event loop is closed")

        store.listen("topic", closed)
        store.listen("topic", lambda: heard.append("second"))
        wake = doing(lambda tx, item: tx.wake(item))

        await store.write(wake, "topic")

        assert await asyncio.wait_for(store.write(insert, "after"), PATIENCE_SECONDS) == "after"
        assert heard == ["second"]
        assert "Event loop is closed" in caplog.text

    def test_listeners_hear_only_of_what_was_committed(self, store: Store) -> None:
        heard: list[str] = []
        store.listen("topic", lambda: heard.append("topic"))

        def fail(tx: Tx, item: str) -> None:
            tx.wake(item)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store.write_now(doing(fail), "topic")

        assert heard == []


class TestClosing:
    def test_a_closed_store_refuses(self, store: Store) -> None:
        store.close()

        with pytest.raises(StoreUnavailableError, match="closed"):
            tell(store, push())

    def test_closing_finishes_what_is_waiting(self, database_url: str) -> None:
        store = Store(open_database(database_url))
        writes = [store._writer.submit(insert, f"c{number}") for number in range(700)]

        store.close()

        assert all(write.done() and write.exception() is None for write in writes)

    def test_closing_while_others_write_leaves_nobody_waiting(self, database_url: str) -> None:
        for _ in range(5):
            store = Store(open_database(database_url))
            nothing = doing(lambda *_: None, "nothing")

            def write_until_closed(store: Store = store, item: Any = nothing) -> None:
                while True:
                    try:
                        store._writer.submit(item, "").result(PATIENCE_SECONDS)
                    except StoreUnavailableError:
                        return

            with ThreadPoolExecutor(4) as threads:
                writing = [threads.submit(write_until_closed) for _ in range(4)]
                store.close()
                for thread in writing:
                    thread.result(PATIENCE_SECONDS)

    def test_closing_twice_is_harmless(self, store: Store) -> None:
        store.close()
        store.close()


@pytest.fixture
def unreachable_port() -> Iterator[int]:
    """A port that refuses: bound and not listening."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


class TestTheDatabaseIsAway:
    async def test_a_server_that_cannot_be_reached_is_said_to_be_away(
        self, unreachable_port: int
    ) -> None:
        url = f"postgresql://user:hunter2@127.0.0.1:{unreachable_port}/taskbell"
        store = Store(open_database(url))

        with pytest.raises(StoreUnavailableError) as writing:
            await store.write(record, push())
        with pytest.raises(StoreUnavailableError) as reading:
            await store.read(ping)
        store.close()

        for error in (writing.value, reading.value):
            assert "hunter2" not in str(error)
            assert "\n" not in str(error)

    async def test_postgresql_goes_away_and_comes_back(
        self, postgresql: PostgreSQL, postgresql_url: str
    ) -> None:
        store = Store(open_database(postgresql_url))
        name = str(store.database.address.database)
        await store.write(record, push("t1"))

        postgresql.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        disconnect_all(postgresql, name)
        answers = await together_away(store, 3)
        with pytest.raises(StoreUnavailableError):
            await store.read(ping)
        postgresql.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

        assert all(isinstance(answer, StoreUnavailableError) for answer in answers)
        assert (await store.write(record, push("t2"))).created
        assert await store.read(ping)
        assert len(rows(store, tasks)) == 2
        store.close()

    async def test_a_connection_lost_between_writes_is_not_noticed(
        self, postgresql: PostgreSQL, postgresql_url: str
    ) -> None:
        store = Store(open_database(postgresql_url))
        await store.write(record, push("t1"))
        await store.read(ping)

        disconnect_all(postgresql, str(store.database.address.database))

        assert (await store.write(record, push("t2"))).created
        assert await store.read(ping)
        store.close()

    async def test_a_connection_lost_within_a_write_fails_it_and_no_later_one(
        self, postgresql: PostgreSQL, postgresql_url: str
    ) -> None:
        store = Store(open_database(postgresql_url))
        name = str(store.database.address.database)

        def lose(tx: Tx, item: str) -> str:
            insert_counter(tx, item)
            disconnect_all(postgresql, name)
            return insert_counter(tx, f"{item} again")

        with pytest.raises(StoreUnavailableError):
            await store.write(doing(lose), "c1")

        assert await store.write(insert, "c2") == "c2"
        assert count(store) == 1
        store.close()

    async def test_a_locked_sqlite_file_is_away_until_it_is_free(
        self, sqlite_url: str, clock: ManualClock
    ) -> None:
        database = open_database(sqlite_url)
        event.listen(database.writer, "connect", lambda c, _: c.execute("PRAGMA busy_timeout = 20"))
        store = Store(database, clock)
        with closing(sqlite3.connect(str(database.address.database))) as other:
            other.execute("BEGIN IMMEDIATE")

            with pytest.raises(StoreUnavailableError, match="locked"):
                await store.write(record, push())
            other.rollback()

        assert (await store.write(record, push())).created
        store.close()

    async def test_a_sqlite_folder_that_is_missing_is_said_to_be_away(
        self, tmp_path: Path, sqlite_url: str
    ) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        store = Store(open_database(f"sqlite:///{folder / 'taskbell.db'}"))
        shutil.rmtree(folder)

        with pytest.raises(StoreUnavailableError):
            await store.write(record, push())
        with pytest.raises(StoreUnavailableError):
            await store.read(ping)
        store.close()

    @on_sqlite  # PostgreSQL ends a transaction that stands still for four seconds
    def test_too_much_waiting_is_refused_at_once(self, store: Store) -> None:
        nothing = doing(lambda *_: None, "nothing")

        with writer_busy(store):
            writes = [store._writer.submit(nothing, "") for _ in range(20_000)]
            with pytest.raises(StoreUnavailableError, match="waiting"):
                store._writer.submit(nothing, "")

        assert writes[-1].result(PATIENCE_SECONDS) is None


def disconnect_all(postgresql: PostgreSQL, database: str) -> None:
    postgresql.run(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        f" WHERE datname = '{database}' AND pid <> pg_backend_pid()"
    )


async def together_away(store: Store, number: int) -> list[Any]:
    writes = [store.write(record, push(f"away{n}")) for n in range(number)]
    return await asyncio.gather(*writes, return_exceptions=True)


class TestTwoProcesses:
    """Two stores on one PostgreSQL, as two processes have them."""

    @pytest.fixture
    def pair(self, postgresql_url: str, clock: ManualClock) -> Iterator[tuple[Store, Store]]:
        one, other = (Store(open_database(postgresql_url), clock) for _ in range(2))
        yield one, other
        one.close()
        other.close()

    def test_a_task_that_another_process_registers_meanwhile_is_the_same_task(
        self, pair: tuple[Store, Store]
    ) -> None:
        one, other = pair
        theirs_written, go_on = threading.Event(), threading.Event()

        def register_slowly(tx: Tx, item: str) -> Any:
            answers = record.run(tx, [registered(item)])
            assert isinstance(tx.connection, Connection)  # asking for it sends what was written
            theirs_written.set()
            go_on.wait(PATIENCE_SECONDS)
            return answers[0]

        with ThreadPoolExecutor(2) as threads:
            theirs = threads.submit(one.write_now, doing(register_slowly), "t1")
            theirs_written.wait(PATIENCE_SECONDS)
            ours = threads.submit(tell, other, push("t1", Status.PROCESSING))
            wait_for_a_lock(one)
            go_on.set()
            registration, pushed = theirs.result(PATIENCE_SECONDS), ours.result(PATIENCE_SECONDS)

        assert pushed.task is not None
        assert pushed.task.id == registration.task.id
        assert (pushed.created, pushed.task.version) == (False, 2)
        assert len(rows(one, tasks)) == 1

    def test_a_change_of_subscriptions_that_was_undone_leaves_no_trace(
        self, pair: tuple[Store, Store]
    ) -> None:
        one, other = pair

        def subscribe_and_fail(tx: Tx, item: str) -> None:
            tx.subscriptions_changed()
            assert tx.subscriptions == {}
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            one.write_now(doing(subscribe_and_fail), "")
        subscription = subscribe(other)
        tell(one, push())

        owed = one.read_now(lambda c: c.exec_driver_sql("SELECT subscription_id FROM deliveries"))
        assert [row[0] for row in owed] == [subscription.id]

    def test_processes_that_wait_for_each_other_both_come_through(
        self, pair: tuple[Store, Store]
    ) -> None:
        """PostgreSQL ends a deadlock by failing one of the two: it is tried again."""
        for store in pair:
            told(store, registered("t1"))
            told(store, registered("t2"))
        both = threading.Barrier(2, timeout=10)
        waited: set[int] = set()

        def lock_both(tx: Tx, item: str) -> str:
            for task in item.split():
                query = select(tasks.c.id).where(tasks.c.provider_task_id == task)
                tx.connection.execute(tx.database.locked(query))
                if id(threading.current_thread()) not in waited:
                    waited.add(id(threading.current_thread()))
                    both.wait()
            return item

        with ThreadPoolExecutor(2) as threads:
            one = threads.submit(pair[0].write_now, doing(lock_both), "t1 t2")
            other = threads.submit(pair[1].write_now, doing(lock_both), "t2 t1")

            assert (one.result(PATIENCE_SECONDS), other.result(PATIENCE_SECONDS)) == (
                "t1 t2",
                "t2 t1",
            )

    def test_what_goes_on_conflicting_is_not_tried_for_ever(self, store: Store) -> None:
        tries: list[str] = []

        def conflict(_: Tx, item: str) -> None:
            tries.append(item)
            raise exc.OperationalError("", {}, Deadlock())

        with pytest.raises(StoreUnavailableError, match="in the way"):
            store.write_now(doing(conflict), "c1")

        assert 1 < len(tries) < 10

    @pytest.mark.parametrize("code", ["40001", "40P01"])
    def test_a_question_that_others_got_in_the_way_of_is_asked_again(
        self, store: Store, code: str
    ) -> None:
        asked: list[int] = []

        def ask(_: Connection, conflicts: int) -> str:
            asked.append(conflicts)
            if len(asked) <= conflicts:
                raise exc.OperationalError("", {}, Deadlock(code))
            return "found"

        assert store.read_now(ask, 2) == "found"
        asked.clear()
        with pytest.raises(StoreUnavailableError, match="in the way"):
            store.read_now(ask, 100)
        assert 1 < len(asked) < 10

    def test_a_write_is_run_again_whole_when_its_commit_conflicts(
        self, postgresql_url: str
    ) -> None:
        """Both read before either commits: PostgreSQL lets one of them end with 40001."""
        both = threading.Barrier(2)
        runs: list[str] = []

        def read_then_write(tx: Tx, item: str) -> int:
            question = select(func.count()).select_from(counters)
            found = tx.connection.execute(question).scalar()
            runs.append(item)
            if runs.count(item) == 1:
                both.wait(PATIENCE_SECONDS)
            insert_counter(tx, item)
            return int(found or 0)

        stores = [Store(open_database(postgresql_url)) for _ in range(2)]
        for each in stores:
            event.listen(each.database.writer, "checkout", serializable)
        writes = [
            each._writer.submit(doing(read_then_write), f"c{n}") for n, each in enumerate(stores)
        ]
        found = [write.result(PATIENCE_SECONDS) for write in writes]
        for each in stores:
            each.close()

        assert len(runs) == 3
        assert abs(found[0] - found[1]) == 1


def wait_for_a_lock(store: Store) -> None:
    """Until some connection to this database waits for another one's lock."""
    question = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    for _ in range(2_000):
        if store.read_now(lambda c: c.exec_driver_sql(question).scalar()):
            return
    raise AssertionError("nobody waits for a lock")


def test_a_reader_sees_nothing_of_a_write_before_its_commit(store: Store) -> None:
    written, go_on = threading.Event(), threading.Event()

    def wait(tx: Tx, item: str) -> None:
        insert_counter(tx, item)
        written.set()
        go_on.wait(PATIENCE_SECONDS)

    writing = store._writer.submit(doing(wait), "c1")
    written.wait(PATIENCE_SECONDS)

    assert count(store) == 0
    go_on.set()
    writing.result(PATIENCE_SECONDS)
    assert count(store) == 1


async def test_an_operations_time_is_the_clock_it_was_given(
    store: Store, clock: ManualClock
) -> None:
    times = [await store.write(doing(lambda tx, _: tx.now), "")]
    clock.advance(hours=3)
    times.append(await store.write(doing(lambda tx, _: tx.now), ""))

    assert (times[1] - times[0]).total_seconds() == 3 * 3600
