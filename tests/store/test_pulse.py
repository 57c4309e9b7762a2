"""What the pages ask about subscriptions: how a day went, what waits, which event comes next."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from store.clock import ManualClock
from store.database import open_database
from store.deliveries import Attempt, Finished, finish
from store.newest import newest_wanted
from store.outlet import Delivery
from store.owed import Owed, read_owed
from store.pulse import HOURS, Pulse, read_pulses
from store.retention import Prune, prune
from store.store import Store
from store.subscriberlist import State, Wanted, get_subscriber, list_subscribers
from store.subscriptions import Edit, delete, edit
from store.tables import attempt_hours
from tests.making import catch, push, rows, subscribe, tell

QUICK = timedelta(milliseconds=40)
LATER = timedelta(minutes=5)


def finished(
    delivery: Delivery, at: datetime, *, delivered: bool, took: timedelta = QUICK
) -> Finished:
    attempt = Attempt(at, took, "delivered" if delivered else "retry", 200 if delivered else 500)
    return Finished(delivery, attempt, delivered, retry_in=LATER)


def attempt(store: Store, clock: ManualClock, *, delivered: bool, took: timedelta = QUICK) -> None:
    """One try at the one delivery that is due."""
    (delivery,) = catch(store).deliveries
    store.write_now(finish, finished(delivery, clock(), delivered=delivered, took=took))


def pulse(store: Store, subscription_id: str, now: datetime) -> Pulse:
    return store.read_now(read_pulses, [subscription_id], now)[subscription_id]


class TestPulse:
    def test_attempts_are_counted_by_the_hour(self, store: Store, clock: ManualClock) -> None:
        subscription = subscribe(store)
        tell(store, push())
        attempt(store, clock, delivered=False)
        clock.advance(hours=1)
        attempt(store, clock, delivered=False)
        clock.advance(minutes=10)
        attempt(store, clock, delivered=True)

        day = pulse(store, subscription.id, clock())

        assert [(hour.delivered, hour.failed) for hour in day.hours[-2:]] == [(0, 1), (1, 1)]
        assert day.hours[-1].start == clock().replace(minute=0)
        assert (len(day.hours), day.delivered, day.failed, day.most) == (HOURS, 1, 2, 2)

    def test_a_subscription_without_attempts_has_a_quiet_day(
        self, store: Store, clock: ManualClock
    ) -> None:
        day = pulse(store, subscribe(store).id, clock())

        assert (len(day.hours), day.most, day.p95) == (HOURS, 0, None)

    def test_what_is_older_than_a_day_is_not_looked_at_and_then_forgotten(
        self, store: Store, clock: ManualClock
    ) -> None:
        subscription = subscribe(store)
        tell(store, push())
        attempt(store, clock, delivered=True)

        clock.advance(hours=HOURS)
        assert pulse(store, subscription.id, clock()).most == 0
        store.write_now(prune, Prune(timedelta(days=30)))
        assert len(rows(store, attempt_hours)) == 1
        clock.advance(hours=HOURS + 1)
        store.write_now(prune, Prune(timedelta(days=30)))
        assert rows(store, attempt_hours) == []

    def test_p95_is_near_the_truth(self, store: Store, clock: ManualClock) -> None:
        subscription = subscribe(store)
        for number in range(40):
            tell(store, push(str(number)))
            slow = number >= 37
            took = timedelta(seconds=2) if slow else timedelta(milliseconds=80)
            attempt(store, clock, delivered=True, took=took)

        p95 = pulse(store, subscription.id, clock()).p95

        assert p95 == pytest.approx(2, rel=0.25)

    def test_each_subscription_has_its_own(self, store: Store, clock: ManualClock) -> None:
        first, second = subscribe(store), subscribe(store)
        tell(store, push())
        for delivery in catch(store).deliveries:
            good = delivery.subscription.id == first.id
            store.write_now(finish, finished(delivery, clock(), delivered=good))

        found = store.read_now(read_pulses, [first.id, second.id], clock())

        assert (found[first.id].delivered, found[first.id].failed) == (1, 0)
        assert (found[second.id].delivered, found[second.id].failed) == (0, 1)

    def test_processes_that_count_at_once_lose_nothing(
        self, postgresql_url: str, clock: ManualClock
    ) -> None:
        stores = [Store(open_database(postgresql_url), clock) for _ in range(3)]
        first, second = subscribe(stores[0]), subscribe(stores[0])
        for number in range(60):
            tell(stores[0], push(str(number)))
        owed = catch(stores[0], 120).deliveries

        def count(number: int) -> None:
            mine = [each for place, each in enumerate(owed) if place % 3 == number]
            for each in mine:
                stores[number].write_now(finish, finished(each, clock(), delivered=True))

        with ThreadPoolExecutor(3) as threads:
            list(threads.map(count, range(3)))

        days = stores[0].read_now(read_pulses, [first.id, second.id], clock())
        assert sum(day.delivered for day in days.values()) == len(owed) == 64
        for store in stores:
            store.close()


class TestOwed:
    def test_what_waits_is_counted_and_its_first_turn_told(
        self, store: Store, clock: ManualClock
    ) -> None:
        busy, quiet = subscribe(store), subscribe(store, types=("delivery.dead",))
        tell(store, push("1"))
        attempt(store, clock, delivered=False)
        tell(store, push("2"))
        clock.advance(seconds=10)
        catch(store)  # the second one is being sent: no turn of it is to come

        found = store.read_now(read_owed, [busy.id, quiet.id])

        assert found == {
            busy.id: Owed(2, clock() - timedelta(seconds=10) + LATER),
            quiet.id: Owed(0, None),
        }
        assert not found[busy.id].more


class TestNewest:
    def test_it_is_the_newest_event_that_fits_every_condition(self, store: Store) -> None:
        picky = subscribe(store, providers=("minimax",), filter={"data.task.model": "m1"})
        tell(store, push("1", model="m1"))
        tell(store, push("2", model="m1"))
        tell(store, push("3", model="m2"))
        tell(store, push("4", model="m1", provider="atlascloud"))

        found = store.read_now(newest_wanted, picky)

        assert found is not None
        assert b'"provider_task_id":"2"' in found.body

    def test_a_paused_subscription_is_asked_as_if_it_were_not(self, store: Store) -> None:
        subscription = subscribe(store, active=False)
        tell(store, push())

        assert store.read_now(newest_wanted, subscription) is not None

    def test_there_may_be_none(self, store: Store) -> None:
        subscription = subscribe(store, types=("delivery.dead",))
        tell(store, push())

        assert store.read_now(newest_wanted, subscription) is None


class TestList:
    def urls(self, store: Store, clock: ManualClock, wanted: Wanted) -> list[str]:
        found = store.read_now(list_subscribers, wanted, clock(), limit=10)
        return [each.subscription.url for each in found.subscribers]

    def test_every_state_is_found_and_only_it(self, store: Store, clock: ManualClock) -> None:
        subscribe(store, "https://active.example/")
        subscribe(store, "https://paused.example/", active=False)
        states: dict[str, dict[str, Any]] = {
            "failing": {"failing_since": clock()},
            "disabled": {"disabled_reason": "410"},
        }
        for name, values in states.items():
            known = subscribe(store, f"https://{name}.example/")
            store.write_now(edit, Edit(known.id, values))

        for state in State:
            [url] = self.urls(store, clock, Wanted(state))
            assert url == f"https://{state}.example/"

    def test_a_search_takes_no_patterns(self, store: Store, clock: ManualClock) -> None:
        subscribe(store, "https://a.example/100%25")
        subscribe(store, "https://b.example/", description="For the CRM")

        assert self.urls(store, clock, Wanted(text="crm")) == ["https://b.example/"]
        assert self.urls(store, clock, Wanted(text="%")) == ["https://a.example/100%25"]
        assert self.urls(store, clock, Wanted(text="_")) == []
        assert self.urls(store, clock, Wanted(format="slack")) == []

    def test_pages_follow_each_other(self, store: Store, clock: ManualClock) -> None:
        made = [subscribe(store).id for _ in range(3)]

        first = store.read_now(list_subscribers, Wanted(), clock(), limit=2)
        second = store.read_now(list_subscribers, Wanted(), clock(), limit=2, before=first.older)

        ids = [each.subscription.id for page in (first, second) for each in page.subscribers]
        assert ids == made[::-1]
        assert second.older is None

    def test_a_deleted_one_is_gone(self, store: Store, clock: ManualClock) -> None:
        subscription = subscribe(store)
        store.write_now(delete, subscription.id)

        assert store.read_now(get_subscriber, subscription.id, clock()) is None
        assert self.urls(store, clock, Wanted()) == []
