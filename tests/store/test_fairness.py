"""However slow or broken some subscriptions are, and however many: the others have room."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
import pytest

from store.claims import Catch, Claim, claim
from store.deliveries import Attempt, Finished, finish
from store.matching import DEFAULT_MAX_IN_FLIGHT
from store.outlet import Delivery, Outlet
from store.records import record
from store.store import Store
from tests.making import LEASE, catch, push, subscribe, together

RETRY_IN = timedelta(minutes=5)


class Dispatcher:
    """Claims and is handed deliveries, and ends them when told."""

    def __init__(self, store: Store, places: int) -> None:
        self.handed: list[Delivery] = []
        self._store = store
        self._outlet = Outlet("here", LEASE, places, self.handed.extend)

    def attach(self) -> None:
        self._store.attach(self._outlet)

    def claim(self) -> Catch:
        return self._store.write_now(claim, Claim("here", 1_000, LEASE, self._outlet))

    def end(self, delivery: Delivery, *, delivered: bool) -> None:
        self._outlet.release(1)
        end(self._store, delivery, delivered=delivered)


def end(store: Store, delivery: Delivery, *, delivered: bool) -> None:
    attempt = Attempt(datetime(2026, 1, 1, tzinfo=UTC), timedelta(), "any")
    store.write_now(finish, Finished(delivery, attempt, delivered=delivered, retry_in=RETRY_IN))


def owe(store: Store, number: int, prefix: str = "t") -> None:
    anyio.run(together, store, record, [push(f"{prefix}{place}") for place in range(number)])


class TestFailing:
    @pytest.mark.parametrize("most", [None, 5])
    def test_after_a_failure_one_at_a_time_is_sent_until_one_is_taken(
        self, store: Store, most: int | None
    ) -> None:
        subscribe(store, max_in_flight=most)
        owe(store, 1, "first")
        [failing] = catch(store).deliveries
        end(store, failing, delivered=False)
        owe(store, 40)

        counts = []
        for delivered in (False, False, True):
            (one,) = catch(store).deliveries
            counts.append(len(catch(store).deliveries))
            end(store, one, delivered=delivered)

        assert counts == [0, 0, 0]
        assert len(catch(store).deliveries) == (most or DEFAULT_MAX_IN_FLIGHT)

    def test_what_was_under_way_at_the_failure_goes_on(self, store: Store) -> None:
        subscribe(store)
        owe(store, 3)
        first, second, third = catch(store).deliveries
        owe(store, 3, "later")

        end(store, first, delivered=False)
        meanwhile = catch(store).deliveries
        end(store, second, delivered=False)
        end(store, third, delivered=True)

        assert meanwhile == ()
        assert len(catch(store).deliveries) == 3

    def test_new_ones_are_handed_over_one_at_a_time_too(self, store: Store) -> None:
        subscribe(store)
        owe(store, 1, "first")
        [failing] = catch(store).deliveries
        end(store, failing, delivered=False)
        dispatcher = Dispatcher(store, places=100)
        dispatcher.attach()

        owe(store, 3)

        assert len(dispatcher.handed) == 1

    def test_however_many_hang_the_others_have_their_places_back_after_one_attempt(
        self, store: Store
    ) -> None:
        dispatcher = Dispatcher(store, places=32)
        hanging = {subscribe(store).id for _ in range(8)}
        owe(store, 4)
        for delivery in dispatcher.claim().deliveries:
            dispatcher.end(delivery, delivered=False)
        fine = subscribe(store)
        owe(store, 8, "later")

        caught = [delivery.subscription.id for delivery in dispatcher.claim().deliveries]

        assert sorted(caught) == sorted([*hanging, *[fine.id] * 8])


class TestSlow:
    """Those that take everything, but not soon, are no failures."""

    @pytest.mark.parametrize("slow", [1, 8, 20])
    def test_nobody_claims_the_last_places(self, store: Store, slow: int) -> None:
        dispatcher = Dispatcher(store, places=256)
        for _ in range(slow):
            subscribe(store, max_in_flight=256)
        owe(store, 260 // slow + 8)
        while dispatcher.claim().deliveries:
            pass
        newcomer = subscribe(store)
        owe(store, 1, "later")

        caught = dispatcher.claim().deliveries

        assert newcomer.id in {delivery.subscription.id for delivery in caught}

    @pytest.mark.parametrize("slow", [1, 8, 20])
    def test_nobody_is_handed_the_last_places(self, store: Store, slow: int) -> None:
        dispatcher = Dispatcher(store, places=256)
        dispatcher.attach()
        for _ in range(slow):
            subscribe(store, max_in_flight=256)
        owe(store, 260 // slow + 8)
        before = len(dispatcher.handed)
        newcomer = subscribe(store)

        owe(store, 1, "later")

        assert 200 < before < 256
        assert newcomer.id in {d.subscription.id for d in dispatcher.handed[before:]}

    def test_as_places_come_free_those_that_wait_go_on(self, store: Store) -> None:
        for _ in range(3):
            subscribe(store)
        dispatcher = Dispatcher(store, places=4)
        owe(store, 5)
        sent = 0

        while caught := dispatcher.claim().deliveries:
            assert len(caught) <= 4
            sent += len(caught)
            for delivery in caught:
                dispatcher.end(delivery, delivered=True)

        assert sent == 15
