"""One reader for all that follow; each gets what it wants once, in order, without a gap."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

import receiver.feed
from receiver.feed import HEARTBEAT_SECONDS, Feed, Follower
from receiver.problems import Problem
from store.eventlog import Wanted, list_events, read_on
from store.events import Status
from store.store import Store
from store.writer import Operation, Tx
from tests import streams
from tests.databases import on_both_engines
from tests.making import poll, push, registered, tell, told
from tests.patience import PATIENCE_SECONDS

pytestmark = on_both_engines

ALL = Wanted()


class Monotonic:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def monotonic() -> Monotonic:
    return Monotonic()


@pytest.fixture
def feed(store: Store, monotonic: Monotonic, monkeypatch: pytest.MonkeyPatch) -> Feed:
    """Its loop does not run: each test looks when it wants to."""
    monkeypatch.setattr(receiver.feed, "_BREATH_SECONDS", 0)
    return Feed(store, monotonic=monotonic)


def events(store: Store, count: int, first: int = 0) -> list[int]:
    """Make so many; the cursors of all there are."""
    for number in range(first, first + count):
        tell(store, push(f"t{number}"))
    return [event.cursor for event in store.read_now(list_events, limit=10_000)]


async def soon(coroutine: Any) -> Any:
    return await asyncio.wait_for(coroutine, PATIENCE_SECONDS)


async def settled(feed: Feed) -> None:
    await streams.idle(feed, len(feed))


async def cursors(follower: Follower) -> list[int]:
    return [entry.cursor for entry in await soon(follower.next())]


@contextlib.asynccontextmanager
async def idle(feed: Feed, wanted: Wanted = ALL) -> AsyncIterator[asyncio.Task[Any]]:
    """A follower from now on that waits for what comes."""
    with feed.follow(wanted, await feed.now()) as follower:
        waiting = asyncio.create_task(follower.next())
        await settled(feed)
        yield waiting
        waiting.cancel()


async def test_a_follower_reads_the_past_and_goes_on_with_what_comes(
    store: Store, feed: Feed
) -> None:
    events(store, 5)
    with feed.follow(ALL, 0) as follower:
        past = await cursors(follower)
        every = events(store, 3, first=5)
        await feed.rounds.once()
        coming = await cursors(follower)

    assert past == every[:5]
    assert past + coming == every


async def test_a_follower_from_now_on_gets_nothing_of_the_past(store: Store, feed: Feed) -> None:
    events(store, 2)
    async with idle(feed) as waiting:
        every = events(store, 1, first=2)
        await feed.rounds.once()

        assert [entry.cursor for entry in await soon(waiting)] == every[2:]


async def test_a_cursor_in_the_middle_is_resumed_with_no_gap_and_no_repeat(
    store: Store, feed: Feed
) -> None:
    every = events(store, 6)
    with feed.follow(ALL, 0) as other:  # so that the feed remembers some of it
        await cursors(other)
        for seen in (*every, 0):
            with feed.follow(ALL, seen) as follower:
                left = [cursor for cursor in every if cursor > seen]
                if left:
                    assert await cursors(follower) == left


async def test_one_reading_serves_all(
    store: Store, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        waiting = [await stack.enter_async_context(idle(feed)) for _ in range(20)]
        read, readings = store.read, []

        async def counted(question: Any, *args: Any, **kwargs: Any) -> Any:
            readings.append(question)
            return await read(question, *args, **kwargs)

        monkeypatch.setattr(store, "read", counted)
        every = events(store, 3)
        await feed.rounds.once()
        got = [[entry.cursor for entry in await soon(each)] for each in waiting]

    assert got == [every] * 20
    assert len(readings) == 1


async def test_each_is_woken_for_what_it_wants_alone(store: Store, feed: Feed) -> None:
    task = told(store, registered("mine", provider="atlascloud"))
    wishes = {
        "ended": Wanted(types=frozenset({"task.succeeded"})),
        "elsewhere": Wanted(providers=frozenset({"atlascloud"})),
        "of the task": Wanted(task_ids=frozenset({task.id})),
        "its failure": Wanted(types=frozenset({"task.failed"}), task_ids=frozenset({task.id})),
        "never": Wanted(types=frozenset({"task.canceled"})),
    }
    async with contextlib.AsyncExitStack() as stack:
        waiting = {
            name: await stack.enter_async_context(idle(feed, wanted))
            for name, wanted in wishes.items()
        }
        tell(store, push("other", Status.PROCESSING))
        tell(store, push("other"))
        await feed.rounds.once()
        await soon(asyncio.wait([waiting["ended"]]))
        first = {name for name, each in waiting.items() if each.done()}
        tell(store, poll("mine", Status.FAILED, provider="atlascloud"))
        await feed.rounds.once()
        await soon(asyncio.wait([waiting["its failure"]]))
        got = {
            name: [e.type for e in each.result()] for name, each in waiting.items() if each.done()
        }

    assert first == {"ended"}
    assert got == {
        "ended": ["task.succeeded"],
        "elsewhere": ["task.failed"],
        "of the task": ["task.failed"],
        "its failure": ["task.failed"],
    }


async def test_who_is_further_back_than_is_remembered_reads_the_log(
    store: Store, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver.feed, "_REMEMBERED", 3)
    monkeypatch.setattr(receiver.feed, "_CATCH_UP_PAGE", 4)
    with feed.follow(ALL, 0) as fast, feed.follow(ALL, 0) as slow:
        every = events(store, 2)
        got = await cursors(fast)
        read = await cursors(slow)
        for first in (2, 4, 6, 8, 10):
            every = events(store, 2, first=first)
            await feed.rounds.once()
            got += await cursors(fast)
        while len(read) < len(every):
            read += await cursors(slow)

    assert got == every
    assert read == every


async def test_nobody_is_given_much_at_a_time(
    store: Store, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = events(store, 9)
    size = len(store.read_now(read_on, 0, ALL, limit=1).entries[0].body)
    monkeypatch.setattr(receiver.feed, "_AT_ONCE_BYTES", 2 * size - 100)
    with feed.follow(ALL, 0) as follower:
        log = [await cursors(follower) for _ in range(5)]
        every = events(store, 5, first=9)
        await feed.rounds.once()
        remembered = [await cursors(follower) for _ in range(3)]

    assert log == [every[0:2], every[2:4], every[4:6], every[6:8], every[8:9]]
    assert remembered == [every[9:11], every[11:13], every[13:14]]


async def test_a_quiet_follower_keeps_up_with_what_it_does_not_want(
    store: Store, feed: Feed, monotonic: Monotonic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver.feed, "_REMEMBERED", 3)
    async with idle(feed, Wanted(types=frozenset({"task.failed"}))) as waiting:
        events(store, 20)
        await feed.rounds.once()
        tell(store, push("broken", Status.FAILED))
        await feed.rounds.once()

        [entry] = await soon(waiting)

    assert entry.type == "task.failed"


async def test_a_follower_is_reminded_of_a_sign_of_life(
    store: Store, feed: Feed, monotonic: Monotonic
) -> None:
    async with idle(feed) as waiting:
        monotonic.now += HEARTBEAT_SECONDS - 0.1
        await feed.rounds.once()
        early = waiting.done()
        monotonic.now += 0.1
        await feed.rounds.once()

        assert await soon(waiting) == []
    assert not early


async def test_nothing_is_read_while_nobody_follows(
    store: Store, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with idle(feed):
        pass

    async def never(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(store, "read", never)
    await feed.rounds.once()
    assert len(feed) == 0


async def test_a_feed_that_slept_does_not_read_what_nobody_missed(store: Store, feed: Feed) -> None:
    async with idle(feed):
        pass
    events(store, 4)
    async with idle(feed) as waiting:
        every = events(store, 1, first=4)
        await feed.rounds.once()

        assert [entry.cursor for entry in await soon(waiting)] == every[4:]


async def test_there_is_room_for_so_many(store: Store, monotonic: Monotonic) -> None:
    feed = Feed(store, monotonic=monotonic, most=1)
    with feed.follow(ALL, 0), pytest.raises(Problem, match="too many") as refused:
        feed.follow(ALL, 0).__enter__()
    with feed.follow(ALL, 0):
        pass

    assert refused.value.status == 503


async def test_at_the_end_everybody_leaves_and_nobody_comes(store: Store, feed: Feed) -> None:
    async with idle(feed) as waiting:
        feed.end()

        assert await soon(waiting) == []
        with pytest.raises(Problem, match="shutting down"), feed.follow(ALL, 0):
            pass


async def test_its_loop_looks_when_an_event_is_committed(
    store: Store, monotonic: Monotonic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.rounds.LOOK_SECONDS", 60.0)
    monkeypatch.setattr(receiver.feed, "LOOK_SECONDS", 60.0)
    feed = Feed(store, monotonic=monotonic)
    running = asyncio.create_task(feed.run())
    async with idle(feed) as waiting:
        await asyncio.to_thread(events, store, 1)

        assert len(await soon(waiting)) == 1
    running.cancel()
    await feed.drain(1)


async def test_progress_of_a_task_is_shown_to_who_names_it(
    store: Store, feed: Feed, monotonic: Monotonic
) -> None:
    task = told(store, registered("t"))
    tell(store, poll("t", Status.PROCESSING, progress=0.1))

    async def shown(follower: Follower) -> list[float | None]:
        monotonic.now += 1
        await feed.rounds.once()
        return [each.progress for each in follower.take_progress()]

    mine = Wanted(task_ids=frozenset({task.id}))
    with feed.follow(mine, await feed.now(), progress=True) as follower:
        await feed.read(await feed.now(), ALL)
        looks = [await shown(follower), await shown(follower)]
        store._clock.advance(seconds=1)  # type: ignore[attr-defined]
        tell(store, poll("t", Status.PROCESSING, progress=0.5))
        looks += [await shown(follower), await shown(follower)]
        store._clock.advance(seconds=1)  # type: ignore[attr-defined]
        tell(store, poll("t", Status.SUCCEEDED))
        looks += [await shown(follower)]

    assert looks == [[0.1], [], [0.5], [], []]


async def test_a_log_that_was_set_back_sends_everybody_away(
    store: Store, feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    """Another database under a running process: one restored, or a standby that lacked commits."""
    *_, last = events(store, 3)
    with feed.follow(ALL, last) as follower:
        waiting = asyncio.create_task(follower.next())
        await settled(feed)
        await store.write(Operation("set back", _set_back), None)

        await feed.rounds.once()

        assert await soon(waiting) == []
        assert follower.over
    assert "the database was restored" in caplog.text
    with feed.follow(ALL, 0) as follower:  # who comes then reads the log as it is
        events(store, 1, first=100)
        assert len(await soon(follower.next())) == 1


def _set_back(tx: Tx, items: Sequence[None]) -> Sequence[None]:
    """The event log as in a new database."""
    for statement in (
        ["TRUNCATE events RESTART IDENTITY"]
        if tx.database.postgresql
        else ["DELETE FROM events", "DELETE FROM sqlite_sequence WHERE name = 'events'"]
    ):
        tx.connection.exec_driver_sql(statement)
    return items
