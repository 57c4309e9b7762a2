"""What is remembered of keys and sessions, and what makes a process forget it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from receiver.access import REMEMBERED_SECONDS, Access, Remembered
from store.counting import ACCESS, raise_counter
from store.store import Store
from store.writer import Operation, Tx
from tests.databases import on_both_engines

pytestmark = on_both_engines


class Seconds:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def access(store: Store, seconds: Seconds) -> Access:
    return Access(store, seconds)


def test_an_answer_is_remembered_for_less_than_two_seconds(
    access: Access, seconds: Seconds
) -> None:
    remembered: Remembered[str] = Remembered(access)
    keep = remembered.asking()
    seconds.now += 0.3  # the store took so long to answer: it may be as old
    keep("a", "value")

    seconds.now += REMEMBERED_SECONDS - 0.4
    before = remembered.get("a")
    seconds.now += 0.1
    after = remembered.get("a")

    assert (before, after) == ("value", None)
    assert REMEMBERED_SECONDS < 2


def test_a_change_makes_it_forget_everything(access: Access) -> None:
    remembered: Remembered[str] = Remembered(access)
    remembered.asking()("a", "value")

    access.changed()

    assert remembered.get("a") is None


def test_an_answer_from_before_a_change_is_not_kept(access: Access) -> None:
    remembered: Remembered[str] = Remembered(access)
    keep = remembered.asking()
    access.changed()

    keep("a", "value")

    assert remembered.get("a") is None


def test_what_is_not_there_any_more_is_forgotten(access: Access) -> None:
    remembered: Remembered[str] = Remembered(access)
    remembered.asking()("a", "value")

    remembered.asking()("a", None)

    assert remembered.get("a") is None


async def test_a_change_whose_notice_was_lost_is_found_by_looking(
    store: Store, access: Access
) -> None:
    told: list[int] = []
    access.listen(lambda: told.append(access.version))
    await access.look()
    await access.look()

    await store.write(Operation("raise", _raise), None)
    await access.look()
    await access.look()

    assert told == [1]


def _raise(tx: Tx, items: Sequence[None]) -> Sequence[None]:
    raise_counter(tx, ACCESS)
    return items
