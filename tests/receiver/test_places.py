"""Bounds on what waits for others."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from receiver.places import Places
from receiver.problems import Problem


def refused(places: Places, owner: str | None = None) -> Problem:
    with pytest.raises(Problem) as raised, places.one(owner):
        pass
    return raised.value


def test_one_too_many_is_told_to_come_again() -> None:
    places = Places(2, "pushes")

    with places.one(), places.one():
        problem = refused(places)

    assert (problem.status, problem.detail) == (503, "too many pushes are under way; try again")
    assert int(problem.headers["Retry-After"]) > 0
    with places.one():
        assert places.taken == 1


def test_an_owner_with_enough_is_refused_and_the_others_are_not() -> None:
    places = Places(5, "trials", each=2)

    with ExitStack() as held:
        for owner in ("key_a", "key_a", "key_b"):
            held.enter_context(places.one(owner))
        assert refused(places, "key_a").status == 429
        with places.one("key_b"), places.one(None):
            assert refused(places, "key_c").status == 503

    assert places.taken == 0
    with places.one("key_a"), places.one("key_a"):
        assert refused(places, "key_a").status == 429


def test_a_place_is_free_again_after_a_failure() -> None:
    places = Places(1, "trials", each=1)

    with pytest.raises(RuntimeError), places.one("key_a"):
        raise RuntimeError
    with places.one("key_a"):
        pass
