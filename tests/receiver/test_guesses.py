"""How often an address may guess."""

from __future__ import annotations

import pytest

from receiver.guesses import ALLOWED, WINDOW_SECONDS, Guesses, neighbourhood


def test_the_count_begins_again_a_minute_after_the_first_guess() -> None:
    guesses = Guesses()

    counted = [guesses.count("a", now=100.0 + second) for second in (0, 1, 59.9, 60, 61)]

    assert counted == [1, 2, 3, 1, 2]
    assert guesses.seconds_left("a", now=161.0) == 59.0
    assert WINDOW_SECONDS == 60.0
    assert ALLOWED == 30


def test_addresses_count_apart() -> None:
    guesses = Guesses()

    assert [guesses.count(address, now=1.0) for address in "aab"] == [1, 2, 1]


def test_a_good_key_takes_its_guess_back() -> None:
    guesses = Guesses()
    guesses.count("a", now=1.0)
    guesses.count("a", now=1.0)

    guesses.take_back("a")
    guesses.take_back("nobody")

    assert guesses.count("a", now=1.0) == 2


def test_a_flood_of_addresses_takes_bounded_memory_and_forgets_the_oldest() -> None:
    guesses = Guesses()
    for number in range(10_050):
        guesses.count(str(number), now=number / 1000)

    assert len(guesses._counts) == 10_000
    assert guesses.count("10049", now=11.0) == 2
    assert guesses.count("0", now=11.0) == 1


def test_what_is_over_makes_room() -> None:
    guesses = Guesses()
    for number in range(100):
        guesses.count(str(number), now=1.0)

    guesses.count("new", now=100.0)

    assert set(guesses._counts) == {"new"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", True),  # one user's network
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "", True),  # a Unix socket
        ("not an address", "192.0.2.1", False),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, same: bool) -> None:
    assert (neighbourhood(one) == neighbourhood(other)) is same
