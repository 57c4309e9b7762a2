"""Whose shift it is to ask a provider, on real databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from store.clock import ManualClock
from store.database import open_database
from store.shifts import FIRST_TERM, leave, take
from store.store import Store
from store.writer import Operation, Tx

LENGTH = timedelta(seconds=5)


def take_shift(store: Store, owner: str, *providers: str) -> dict[str, int]:
    """The terms of the shifts that the owner got."""

    def run(tx: Tx, items: Sequence[None]) -> list[dict[str, int]]:
        return [take(tx, owner, providers or ("minimax",), LENGTH) for _ in items]

    return store.write_now(Operation("take", run), None)


def test_the_first_to_ask_gets_the_shift_and_keeps_it(store: Store, clock: ManualClock) -> None:
    first = take_shift(store, "one")
    clock.advance(seconds=4)
    again = take_shift(store, "one")
    clock.advance(seconds=4)

    assert first == again == {"minimax": FIRST_TERM}
    assert take_shift(store, "other") == {}


def test_a_shift_that_was_not_prolonged_goes_to_another_with_a_new_term(
    store: Store, clock: ManualClock
) -> None:
    take_shift(store, "one")

    clock.advance(seconds=4.999999)
    early = take_shift(store, "other")
    clock.advance(microseconds=1)
    late = take_shift(store, "other")

    assert (early, late) == ({}, {"minimax": FIRST_TERM + 1})
    assert take_shift(store, "one") == {}


def test_who_takes_its_own_lapsed_shift_anew_keeps_the_term(
    store: Store, clock: ManualClock
) -> None:
    take_shift(store, "one")
    clock.advance(hours=1)

    assert take_shift(store, "one") == {"minimax": FIRST_TERM}


def test_coming_back_after_another_is_a_new_term(store: Store, clock: ManualClock) -> None:
    terms = []
    for owner in ("one", "other", "one"):
        terms.append(take_shift(store, owner)["minimax"])
        clock.advance(seconds=5)

    assert terms == [1, 2, 3]


def test_each_provider_has_a_shift_of_its_own(store: Store) -> None:
    assert take_shift(store, "one", "minimax", "atlascloud") == {"minimax": 1, "atlascloud": 1}
    assert take_shift(store, "other", "minimax", "opencomputing") == {"opencomputing": 1}


def test_who_leaves_makes_room_at_once(store: Store) -> None:
    take_shift(store, "one", "minimax")
    take_shift(store, "other", "atlascloud")

    store.write_now(leave, "one")

    assert take_shift(store, "third", "minimax", "atlascloud") == {"minimax": 2}


class TestTwoProcesses:
    @pytest.fixture
    def pair(self, postgresql_url: str, clock: ManualClock) -> Iterator[tuple[Store, Store]]:
        one, other = (Store(open_database(postgresql_url), clock) for _ in range(2))
        yield one, other
        one.close()
        other.close()

    def test_one_of_two_who_reach_for_it_together_gets_it(
        self, pair: tuple[Store, Store], clock: ManualClock
    ) -> None:
        for _ in range(20):
            together = threading.Barrier(2)

            def reach(number: int, together: threading.Barrier = together) -> dict[str, int]:
                together.wait()
                return take_shift(pair[number], f"process {number}")

            with ThreadPoolExecutor(2) as threads:
                got = [terms for terms in threads.map(reach, range(2)) if terms]

            assert len(got) == 1
            clock.advance(seconds=5)
