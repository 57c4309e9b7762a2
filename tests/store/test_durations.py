"""How long models take: what an ending teaches, and what is kept of it, on real databases."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from store import durations as under_test
from store.clock import ManualClock
from store.database import EVENTS_LOCK, open_database
from store.durations import (
    EDGES,
    KEPT,
    Durations,
    Ending,
    Model,
    known_durations,
    learn,
    model_of,
)
from store.events import Kind, Task
from store.store import Store
from store.writer import Operation, Tx
from tests.conftest import START
from tests.making import together

VIDEO = Model("minimax", "hailuo", "video")
IMAGE = Model("atlascloud", "flux", "image")


def ended(after: float, by: float | None = None, model: Model = VIDEO) -> Ending:
    """Between two ages; with one, at that very age."""
    return Ending(model, after, after if by is None else by)


def bucket(age: float) -> int:
    return bisect_right(EDGES, age) - 1


def between(durations: Durations, low: float, high: float) -> float:
    return sum(durations.counts[bucket(low) : bucket(high) + 1])


def _learn(tx: Tx, batches: Sequence[Sequence[Ending]]) -> list[None]:
    tx.database.lock(tx.connection, EVENTS_LOCK)
    for batch in batches:
        learn(tx, batch)
    return [None] * len(batches)


learning: Operation[Sequence[Ending], None] = Operation("learn", _learn)


class TestWhatAnEndingTeaches:
    def test_a_push_tells_the_moment(self) -> None:
        taught = Durations().taught([ended(80.0)])

        assert taught.counts[bucket(80)] == 1
        assert taught.total == 1

    def test_a_poll_tells_an_interval_which_shares_it_out_evenly(self) -> None:
        taught = Durations().taught([ended(0, 100)])

        for bucket_, (low, high) in enumerate(pairwise(EDGES)):
            share = (min(high, 100) - min(low, 100)) / 100
            assert taught.counts[bucket_] == pytest.approx(share)

    def test_an_interval_is_shared_out_by_what_is_known_of_it(self) -> None:
        known = Durations().taught([ended(80.0)] * 20)

        taught = known.taught([ended(0, 100)] * 10)

        assert between(taught, 75, 85) > 28
        assert taught.total == pytest.approx(30)

    def test_rescued_pushes_do_not_blur_what_is_known(self) -> None:
        known = Durations().taught([ended(each) for each in _around(80, 60)])

        taught = known.taught([ended(60, 120)] * 30)

        assert between(taught, 65, 100) / taught.total > 0.95

    def test_where_nothing_is_known_an_interval_teaches_that_something_moved(self) -> None:
        known = Durations().taught([ended(80.0)] * 20)

        taught = known.taught([ended(0, 50)] * 10)

        assert between(taught, 0, 49) == pytest.approx(10)

    def test_intervals_of_a_loop_come_to_the_truth(self) -> None:
        durations = _around(80, 140)
        intervals = [ended(each // 5 * 5, each // 5 * 5 + 5) for each in durations]

        taught = Durations().taught(intervals)

        truth = Durations().taught([ended(each) for each in durations])
        for age in (60, 70, 80, 90, 100):
            assert between(taught, 0, age) == pytest.approx(between(truth, 0, age), abs=10)

    @given(
        after=st.floats(0, 10_000),
        width=st.floats(0, 10_000),
        before=st.lists(st.floats(0, 10_000), max_size=10),
    )
    def test_every_ending_counts_as_one(
        self, after: float, width: float, before: list[float]
    ) -> None:
        known = Durations().taught([ended(each) for each in before])

        taught = known.taught([ended(after, after + width)])

        assert taught.total == pytest.approx(len(before) + 1)
        assert all(new >= old for new, old in zip(taught.counts, known.counts, strict=True))

    def test_what_is_longer_than_all_buckets_goes_into_the_last(self) -> None:
        taught = Durations().taught([ended(100_000.0), ended(90_000, 100_000)])

        assert taught.counts[-1] == 2

    def test_it_forgets_so_that_it_follows_a_change(self) -> None:
        long = Durations().taught([ended(120.0)] * 1_000)

        short = long.taught([ended(60.0)] * int(KEPT))

        assert KEPT / 2 <= long.total <= KEPT
        assert short.counts[bucket(60)] > 2 * short.counts[bucket(120)]


def _around(median: float, count: int) -> list[float]:
    dice = random.Random(0)
    return [median * math.exp(dice.gauss(0, 0.1)) for _ in range(count)]


class TestTheTable:
    def test_nothing_is_known_at_first(self, store: Store) -> None:
        assert store.read_now(known_durations) == {}

    def test_what_is_learned_is_kept_by_model(self, store: Store) -> None:
        store.write_now(learning, [ended(80.0), ended(4.0, model=IMAGE), ended(80.0)])
        store.write_now(learning, [ended(5, 10, IMAGE)])

        known = store.read_now(known_durations)

        assert known[VIDEO].total == 2
        assert known[IMAGE].total == pytest.approx(2, abs=0.01)
        assert known[IMAGE].counts[bucket(4)] == 1

    def test_no_endings_ask_nothing(self, store: Store) -> None:
        assert _statements(store, []) == 0

    def test_a_batch_of_many_endings_takes_few_statements(self, store: Store) -> None:
        models = [Model("minimax", f"model {number % 40}", "video") for number in range(400)]
        batch = [ended(80.0, model=model) for model in models]

        first, again = _statements(store, batch), _statements(store, batch)

        assert (first, again) == (3, 2)
        assert {each.total for each in store.read_now(known_durations).values()} == {20.0}

    def test_the_model_not_heard_of_for_longest_is_forgotten(
        self, store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(under_test, "MODELS", 3)
        for name in ("a", "b", "c"):
            clock.advance(seconds=1)
            store.write_now(learning, [ended(80.0, model=Model("minimax", name, ""))])
        clock.advance(seconds=1)
        store.write_now(learning, [ended(80.0, model=Model("minimax", "a", ""))])

        clock.advance(seconds=1)
        store.write_now(learning, [ended(80.0, model=Model("minimax", "new", ""))])

        assert {model.name for model in store.read_now(known_durations)} == {"a", "c", "new"}

    async def test_batches_of_one_transaction_add_up(self, store: Store) -> None:
        await together(store, learning, [[ended(80.0)]] * 5)

        assert store.read_now(known_durations)[VIDEO].total == 5

    def test_processes_that_learn_at_once_lose_nothing(
        self, postgresql_url: str, clock: ManualClock
    ) -> None:
        stores = [Store(open_database(postgresql_url), clock) for _ in range(3)]

        with ThreadPoolExecutor(3) as threads:
            list(threads.map(_learns_twenty_times, stores))

        assert stores[0].read_now(known_durations)[VIDEO].total == 60
        for each in stores:
            each.close()


def _learns_twenty_times(store: Store) -> None:
    for _ in range(20):
        store.write_now(learning, [ended(80.0), ended(5.0, model=IMAGE)])


def _statements(store: Store, batch: Sequence[Ending]) -> int:
    """How many statements learning takes, executemany counted once."""
    seen: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(store.database.writer, "after_cursor_execute", note)
    store.write_now(learning, batch)
    event.remove(store.database.writer, "after_cursor_execute", note)
    return sum(" durations" in statement for statement in seen)


def test_a_task_is_learned_of_as_what_is_known_of_it() -> None:
    moment = START
    task = Task("task_1", "minimax", "t1", moment, moment, moment)

    assert model_of(task) == Model("minimax", "", "")
    named = Task("task_1", "minimax", "t1", moment, moment, moment, kind=Kind.VIDEO, model="hailuo")
    assert model_of(named) == VIDEO
