"""How often a provider is asked about what strangers name."""

from __future__ import annotations

import random

import pytest

from receiver.budget import Inquiry, Quota
from tests.clocks import Seconds


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def quota(seconds: Seconds) -> Quota:
    return Quota(30, 5, seconds)


def ask(quota: Quota, requests: int, *, exists: bool = False) -> None:
    inquiry = quota.begin()
    for _ in range(requests):
        quota.count(inquiry)
    inquiry.exists = exists
    quota.end(inquiry)


def test_a_question_needs_room_for_all_its_requests(quota: Quota) -> None:
    rooms = []
    for _ in range(6):
        rooms.append(quota.room())
        quota.begin()

    assert rooms == [6, 5, 4, 3, 2, 1]
    assert quota.room() == 0


def test_what_it_did_not_need_is_free_at_its_end(quota: Quota) -> None:
    for _ in range(10):
        ask(quota, 1)

    assert quota.room() == 4


def test_questions_about_what_exists_do_not_count(quota: Quota) -> None:
    for _ in range(100):
        ask(quota, 5, exists=True)

    assert quota.room() == 6


def test_requests_are_forgotten_after_a_minute(quota: Quota, seconds: Seconds) -> None:
    for _ in range(6):
        ask(quota, 5)
    full = quota.room()
    seconds.now = 60.0
    still_full = quota.room()
    seconds.now = 60.1

    assert (full, still_full, quota.room()) == (0, 0, 6)


def test_no_minute_sees_more_requests_in_vain_than_it_may(quota: Quota, seconds: Seconds) -> None:
    dice = random.Random(0)
    under_way: list[Inquiry] = []
    made: list[float] = []
    for _ in range(20_000):
        seconds.now += dice.expovariate(10)
        if quota.room() > 0 and dice.random() < 0.7:
            under_way.append(quota.begin())
        for inquiry in under_way[:]:
            if dice.random() < 0.3 and inquiry.reserved:
                quota.count(inquiry)
                made.append(seconds.now)
            if dice.random() < 0.1:
                quota.end(inquiry)
                under_way.remove(inquiry)

    assert len(made) > 500
    assert all(later - first > 60 for first, later in zip(made, made[30:], strict=False))
