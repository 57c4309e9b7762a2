"""How much a token's pushes may leave behind."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from receiver.leftovers import Allowance
from store.clock import ManualClock


@pytest.fixture
def allowance() -> Allowance:
    return Allowance("odd pushes", 3, 1_000)


def test_so_many_in_an_hour(allowance: Allowance, clock: ManualClock) -> None:
    first = [allowance.spend("a", 10, clock()) for _ in range(5)]
    clock.advance(minutes=59)
    same_hour = allowance.spend("a", 10, clock())
    clock.advance(minutes=1)
    next_hour = allowance.spend("a", 10, clock())

    assert first == [True, True, True, False, False]
    assert (same_hour, next_hour) == (False, True)


def test_so_many_bytes(allowance: Allowance, clock: ManualClock) -> None:
    sizes = (600, 401, 400, 1, 0)

    assert [allowance.spend("a", size, clock()) for size in sizes] == [
        *(True, False, True, False, True)
    ]


def test_each_token_has_its_own(allowance: Allowance, clock: ManualClock) -> None:
    taken = [allowance.spend(token, 300, clock()) for token in "abababab"]

    assert taken == [True] * 6 + [False] * 2


def test_what_was_not_needed_may_be_used_again(allowance: Allowance, clock: ManualClock) -> None:
    for _ in range(20):
        assert allowance.spend("a", 1_000, clock())
        allowance.give_back("a", 1_000)

    allowance.give_back("a", 1_000)
    allowance.give_back("nobody", 1)
    assert [allowance.spend("a", 500, clock()) for _ in range(3)] == [True, True, False]


def test_an_hour_without_room_is_logged_once(
    allowance: Allowance, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        allowance.spend("a", 10, clock())
    clock.advance(hours=1)
    for _ in range(10):
        allowance.spend("a", 10, clock())

    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "odd pushes" in caplog.text


def test_a_clock_that_steps_back_locks_nobody_out(allowance: Allowance, clock: ManualClock) -> None:
    for _ in range(5):
        allowance.spend("a", 10, clock())

    assert allowance.spend("a", 10, clock() - timedelta(minutes=1))


def test_it_remembers_no_end_of_tokens(allowance: Allowance, clock: ManualClock) -> None:
    for number in range(10_050):
        allowance.spend(str(number), 1, clock())

    assert len(allowance._spent) == 10_000
