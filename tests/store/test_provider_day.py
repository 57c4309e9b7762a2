"""What the pages ask about providers: how their last day went."""

from __future__ import annotations

from datetime import timedelta

import pytest

from store import provider_day
from store.clock import ManualClock
from store.events import Status
from store.provider_day import Days, Ends, read_days
from store.records import Challenge, keep_challenge
from store.store import Store
from tests.making import poll, push, registered, tell, told


def days(store: Store, clock: ManualClock) -> Days:
    return store.read_now(read_days, ["minimax", "atlascloud"], clock())


def test_pushes_and_endings_are_counted_by_provider(store: Store, clock: ManualClock) -> None:
    tell(store, push("1"))
    tell(store, push("1"))
    tell(store, registered("2", expect_push=True))
    tell(store, poll("2"))
    tell(store, registered("3"))
    tell(store, poll("3", Status.FAILED))
    store.write_now(keep_challenge, Challenge("minimax", "tok_1"))

    day = days(store, clock).of["minimax"]

    assert day.verdicts == {"recorded": 1, "repeated": 1}
    assert (day.pushes, day.challenges) == (2, 1)
    assert day.ends == Ends(began=3, by_push=1, by_poll=2, rescued=1)


def test_the_oldest_open_task_is_found_whatever_its_status(
    store: Store, clock: ManualClock
) -> None:
    oldest = told(store, push("1", Status.PROCESSING))
    clock.advance(seconds=1)
    tell(store, registered("2"))
    tell(store, registered("3", provider="atlascloud"))
    tell(store, push("4"))

    found = days(store, clock)

    assert found.of["minimax"].open.count == 2
    assert found.of["minimax"].open.oldest == oldest.created_at
    assert found.of["minimax"].open.oldest_id == oldest.id
    assert found.of["atlascloud"].open.count == 1
    assert not found.open_cut


def test_yesterday_is_not_counted_but_open_tasks_are(store: Store, clock: ManualClock) -> None:
    tell(store, push("1"))
    tell(store, registered("2"))
    clock.advance(hours=25)

    day = days(store, clock).of["minimax"]

    assert (day.pushes, day.ends, day.open.count) == (0, Ends(), 1)


def test_more_than_can_be_read_is_told(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_day, "STRETCH", 2)
    for number in range(4):
        tell(store, push(str(number), Status.PROCESSING))
        clock.advance(minutes=1)

    found = days(store, clock)

    assert found.of["minimax"].pushes == found.of["minimax"].ends.began == 2
    assert found.open_cut
    assert found.pushes_since == clock() - timedelta(minutes=3)
    assert found.tasks_since == clock() - timedelta(minutes=3)


def test_models_are_told_with_what_was_learned(store: Store, clock: ManualClock) -> None:
    for number in range(10):
        tell(store, registered(str(number), model="Hailuo"))
        clock.advance(seconds=30)
        tell(store, push(str(number), trusted=True))

    [taking] = days(store, clock).of["minimax"].takings

    assert (taking.model.name, taking.endings) == ("Hailuo", 10)
    assert taking.median == pytest.approx(30, rel=0.1)
    assert taking.p90 == pytest.approx(30, rel=0.1)
