"""A clock that is set back an hour delays nothing by an hour. (PostgreSQL's is its host's business.)"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest

from store.clock import ManualClock
from store.database import open_database
from store.deliveries import Attempt, Finished, finish
from store.outlet import Delivery
from store.store import Store
from store.tables import deliveries
from store.tasks import PollClaim, claim_due
from store.writer import tell_time
from tests.making import LEASE, catch, push, registered, rows, subscribe, tell, told

RETRY_IN = timedelta(seconds=5)


@pytest.fixture
def store(sqlite_url: str, clock: ManualClock) -> Iterator[Store]:
    opened = Store(open_database(sqlite_url), clock)
    yield opened
    opened.close()


def failed(delivery: Delivery, clock: ManualClock) -> Finished:
    return Finished(
        delivery, Attempt(clock(), timedelta(0), "retry"), delivered=False, retry_in=RETRY_IN
    )


def test_a_retry_is_due_after_its_wait(store: Store, clock: ManualClock) -> None:
    subscribe(store)
    tell(store, push())
    (delivery,) = catch(store).deliveries
    store.write_now(finish, failed(delivery, clock))
    clock.advance(hours=-1)

    early = catch(store)
    clock.advance(seconds=RETRY_IN.total_seconds())
    (again,) = catch(store).deliveries

    assert early.deliveries == ()
    assert early.next_due == clock()
    assert again.id == delivery.id


def test_a_lease_ends_as_it_would_have(store: Store, clock: ManualClock) -> None:
    subscribe(store)
    tell(store, push())
    (held,) = catch(store).deliveries
    clock.advance(hours=-1)

    early = catch(store)
    clock.advance(seconds=LEASE.total_seconds())
    (again,) = catch(store).deliveries

    assert early.deliveries == ()
    assert again.fence > held.fence


def test_a_turn_comes_up_as_it_would_have(store: Store, clock: ManualClock) -> None:
    subscribe(store, rate_per_second=1.0)
    tell(store, push("a"))
    tell(store, push("b"))
    catch(store)
    clock.advance(hours=-1)
    store.write_now(tell_time, None)

    clock.advance(seconds=1)

    assert len(catch(store).deliveries) == 1


def test_a_question_is_due_after_its_wait(store: Store, clock: ManualClock) -> None:
    told(store, registered(ask_in=timedelta(seconds=30)))
    clock.advance(hours=-1)
    claim = PollClaim("me", {"minimax": 10}, {}, LEASE)

    early = store.write_now(claim_due, claim)
    clock.advance(seconds=30)
    due = store.write_now(claim_due, claim)

    assert (len(early.tasks), len(due.tasks)) == (0, 1)


def test_a_shift_ends_as_it_would_have(store: Store, clock: ManualClock) -> None:
    ten, minimax = timedelta(seconds=10), frozenset({"minimax"})
    store.write_now(claim_due, PollClaim("one", {}, {}, LEASE, minimax, ten))
    clock.advance(hours=-1)
    other = PollClaim("other", {}, {}, LEASE, minimax, ten)

    early = store.write_now(claim_due, other)
    clock.advance(seconds=10)
    late = store.write_now(claim_due, other)

    assert (set(early.terms), set(late.terms)) == (set(), {"minimax"})


def test_small_corrections_move_nothing(
    store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    subscribe(store)
    tell(store, push())
    catch(store)
    (before,) = rows(store, deliveries)
    clock.advance(seconds=-5)

    store.write_now(tell_time, None)
    (after,) = rows(store, deliveries)

    assert after == before
    assert caplog.messages == []


def test_a_step_back_is_logged(
    store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.advance(hours=-1)

    with caplog.at_level(logging.WARNING):
        store.write_now(tell_time, None)
        store.write_now(tell_time, None)

    assert caplog.messages == ["the clock was set back by 1:00:00"]
