"""Claiming deliveries: fair, in order, within limits, under leases. On real databases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import deliveries as operations
from store import subscriptions
from store.claims import (
    PARKED_AFTER,
    Catch,
    after_turns,
    release,
    turns_now,
)
from store.clock import ManualClock
from store.database import open_database
from store.deliveries import Attempt, Finished, finish, get_delivery
from store.eventlog import list_events
from store.events import Status
from store.matching import DEFAULT_MAX_IN_FLIGHT, Subscription
from store.outbox import delivery_row, event_row
from store.outlet import Delivery
from store.records import record
from store.store import Store
from store.tables import deliveries, events
from store.tasks import PollClaim, claim_due
from store.writer import Operation, Tx
from tests.making import LEASE, catch, push, registered, rows, subscribe, tell, together, told

RETRY_IN = timedelta(minutes=5)


def finished(
    delivery: Delivery, *, delivered: bool = True, retry_in: timedelta | None = None
) -> Finished:
    attempt = Attempt(
        started_at=datetime(2026, 1, 1, 12, tzinfo=UTC),
        duration=timedelta(milliseconds=12),
        result="delivered" if delivered else "retry",
    )
    return Finished(delivery, attempt, delivered=delivered, retry_in=retry_in)


def finish_all(store: Store, caught: Catch) -> None:
    for delivery in caught.deliveries:
        store.write_now(finish, finished(delivery))


def owe(store: Store, number: int, prefix: str = "t") -> None:
    """Make as many events, each of a task of its own."""
    reports = [push(f"{prefix}{n}") for n in range(number)]
    anyio.run(together, store, record, reports)


def event_ids(caught: Catch) -> list[str]:
    return [delivery.event_id for delivery in caught.deliveries]


class TestLeases:
    def test_a_claim_brings_all_a_sink_needs(self, store: Store, clock: ManualClock) -> None:
        subscription = subscribe(store)
        recorded = tell(store, push(raw=b"x"))

        caught = catch(store)

        (delivery,) = caught.deliveries
        event = rows(store, events)[0]
        assert recorded.task is not None
        assert delivery.subscription == subscription
        assert (delivery.event_id, delivery.event_type) == (recorded.event_id, "task.succeeded")
        assert (delivery.provider, delivery.subject) == ("minimax", recorded.task.id)
        assert (delivery.event_time, delivery.body) == (clock(), event["body"])
        assert (delivery.attempt, delivery.failures, delivery.fence) == (1, 0, 1)
        row = rows(store, deliveries)[0]
        assert (row["status"], row["due_at"], row["owner"]) == (
            *("in_flight", clock() + LEASE, "sender"),
        )

    def test_nothing_is_claimed_twice_within_its_lease(self, store: Store) -> None:
        subscribe(store)
        owe(store, 3)

        first, second = catch(store), catch(store)

        assert len(first.deliveries) == 3
        assert second.deliveries == ()

    def test_what_a_dead_process_held_is_due_again(self, store: Store, clock: ManualClock) -> None:
        subscribe(store)
        tell(store, push())
        (first,) = catch(store).deliveries
        clock.advance(seconds=LEASE.total_seconds())

        (second,) = catch(store, owner="another").deliveries

        assert second.id == first.id
        assert second.fence > first.fence
        assert second.attempt == 2

    def test_whoever_is_alone_need_not_wait_for_leases(self, store: Store) -> None:
        subscribe(store)
        owe(store, 1)
        [held] = catch(store).deliveries
        task = told(store, registered("asked", ask_in=timedelta(0)))
        wish = PollClaim("dead", {task.provider: 5}, {}, timedelta(minutes=3))
        asked = store.write_now(claim_due, wish).tasks

        store.write_now(release, None)

        assert [d.id for d in catch(store).deliveries if d.id == held.id] == [held.id]
        assert {t.id for t in store.write_now(claim_due, wish).tasks} == {t.id for t in asked}

    def test_a_finish_after_the_lease_changes_nothing_but_keeps_the_attempt(
        self, store: Store, clock: ManualClock
    ) -> None:
        subscribe(store)
        tell(store, push())
        (stale,) = catch(store).deliveries
        clock.advance(seconds=31)
        (newer,) = catch(store).deliveries

        store.write_now(finish, finished(stale, delivered=False))

        row = rows(store, deliveries)[0]
        assert (row["status"], row["fence"], row["failures"]) == ("in_flight", newer.fence, 0)
        found = store.read_now(get_delivery, newer.id)
        assert found is not None
        assert [attempt.number for attempt in found[1]] == [1]
        assert [row["type"] for row in rows(store, events)] == ["task.succeeded"]

        store.write_now(finish, finished(newer))
        store.write_now(finish, finished(stale, delivered=False, retry_in=RETRY_IN))

        assert rows(store, deliveries)[0]["status"] == "delivered"

    def test_a_claim_is_bounded(self, store: Store) -> None:
        subscribe(store)
        owe(store, 9)

        assert [len(catch(store, 4).deliveries) for _ in range(4)] == [4, 4, 1, 0]
        assert catch(store, 0).deliveries == ()

    def test_what_five_claims_could_not_finish_is_buried_with_its_reason(
        self, store: Store, clock: ManualClock
    ) -> None:
        subscribe(store)
        subscribe(store, types=("delivery.dead",))
        tell(store, push())
        for _ in range(PARKED_AFTER):
            assert len(catch(store).deliveries) == 1
            clock.advance(seconds=31)

        (news,) = catch(store).deliveries or catch(store).deliveries

        assert news.event_type == "delivery.dead"
        row = rows(store, deliveries)[0]
        assert (row["status"], row["due_at"]) == ("dead", None)
        assert row["last_error"].startswith("parked: 5 attempts")

    def test_a_finished_claim_clears_the_count(self, store: Store, clock: ManualClock) -> None:
        subscribe(store)
        tell(store, push())

        for _ in range(2 * PARKED_AFTER):
            (delivery,) = catch(store).deliveries
            store.write_now(finish, finished(delivery, delivered=False, retry_in=RETRY_IN))
            clock.advance(seconds=300)

        assert rows(store, deliveries)[0]["attempts"] == 2 * PARKED_AFTER


class TestLookingAgain:
    def test_nothing_waits_so_nothing_is_due(self, store: Store, clock: ManualClock) -> None:
        subscribe(store)

        assert catch(store) == Catch((), None, clock())

    def test_the_next_retry_is_when_to_look(self, store: Store, clock: ManualClock) -> None:
        subscribe(store)
        tell(store, push())
        (delivery,) = catch(store).deliveries
        store.write_now(finish, finished(delivery, delivered=False, retry_in=RETRY_IN))

        assert catch(store) == Catch((), clock() + RETRY_IN, clock())

    def test_the_end_of_a_lease_is_when_to_look(self, store: Store, clock: ManualClock) -> None:
        subscribe(store)
        tell(store, push())
        catch(store)

        assert catch(store).next_due == clock() + LEASE

    def test_the_next_turn_is_when_to_look(self, store: Store, clock: ManualClock) -> None:
        subscribe(store, rate_per_second=2.0)
        owe(store, 2)
        finish_all(store, catch(store))

        assert catch(store) == Catch((), clock() + timedelta(seconds=0.5), clock())

    def test_a_full_subscription_makes_nobody_look_all_the_time(
        self, store: Store, clock: ManualClock
    ) -> None:
        subscribe(store, max_in_flight=1)
        owe(store, 2)
        catch(store)

        blocked = catch(store)

        assert blocked.deliveries == ()
        assert blocked.next_due is not None
        assert clock() < blocked.next_due <= clock() + LEASE

    def test_leftovers_of_the_gone_are_pointed_out(self, store: Store) -> None:
        subscription = subscribe(store)
        tell(store, push())
        before = catch(store, 0).leftovers
        store.write_now(subscriptions.delete, subscription.id)

        assert (before, catch(store).leftovers) == (False, True)


class TestLimits:
    def test_no_more_are_in_flight_than_the_subscription_allows(
        self, store: Store, clock: ManualClock
    ) -> None:
        subscribe(store, max_in_flight=3)
        owe(store, 7)

        first = catch(store)
        assert len(first.deliveries) == 3
        assert catch(store).deliveries == ()
        store.write_now(finish, finished(first.deliveries[0]))
        assert len(catch(store).deliveries) == 1
        clock.advance(seconds=31)  # all leases have run out

        assert len(catch(store).deliveries) == 3

    def test_there_is_a_limit_also_without_one(self, store: Store) -> None:
        subscribe(store)
        owe(store, 40)

        assert len(catch(store).deliveries) == DEFAULT_MAX_IN_FLIGHT

    @pytest.mark.parametrize("rate", [0.5, 2.0, 60.0])
    def test_a_rate_is_kept_over_a_minute(
        self, store: Store, clock: ManualClock, rate: float
    ) -> None:
        subscribe(store, rate_per_second=rate)
        seconds = 60 if rate < 10 else 3
        owe(store, int(rate * seconds) + 20)
        start, sent = clock(), []

        while clock() < start + timedelta(seconds=seconds):
            caught = catch(store)
            sent += [clock()] * len(caught.deliveries)
            finish_all(store, caught)
            assert caught.next_due is not None
            clock.advance(seconds=max(0.004, (caught.next_due - clock()).total_seconds()))

        assert busiest_second(sent) <= rate + 1
        assert len(sent) >= 0.9 * rate * seconds

    def test_a_turn_is_used_only_by_what_is_sent(self, store: Store, clock: ManualClock) -> None:
        subscribe(store, rate_per_second=1.0)
        tell(store, push(status=Status.PROCESSING))
        first = catch(store)
        clock.advance(seconds=2)
        tell(store, push(status=Status.SUCCEEDED))

        blocked = catch(store)  # by the one in flight
        finish_all(store, first)

        assert blocked.deliveries == ()
        assert len(catch(store).deliveries) == 1


def busiest_second(moments: Sequence[datetime]) -> int:
    """The most that fell into any window of one second."""
    second = timedelta(seconds=1)
    return max(
        (sum(start <= moment < start + second for moment in moments) for start in moments),
        default=0,
    )


@given(
    rate=st.floats(0.05, 500),
    steps=st.lists(
        st.tuples(
            st.none() | st.floats(0, 3) | st.floats(0, 0.05), st.just(40) | st.integers(0, 40)
        ),
        min_size=1,
        max_size=100,
    ),
)
def test_no_second_ever_holds_more_turns_than_the_rate_allows(
    rate: float, steps: list[tuple[float | None, int]]
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    next_send_at: datetime | None = None
    taken: list[datetime] = []

    for gap, wish in steps:
        if gap is not None:
            now += timedelta(seconds=gap)
        elif next_send_at:
            now = max(now, next_send_at)  # the very moment it comes up
        turns = min(wish, turns_now(next_send_at, rate, now))
        if turns:
            taken += [now] * turns
            next_send_at = after_turns(next_send_at, rate, turns, now)

    assert busiest_second(taken) <= rate + 1


@given(rate=st.floats(0.05, 500), waits=st.lists(st.floats(0, 5), max_size=20))
def test_a_turn_comes_up_when_it_was_said(rate: float, waits: list[float]) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    next_send_at: datetime | None = None

    for wait in waits:
        turns = turns_now(next_send_at, rate, now)
        assert turns >= 1
        next_send_at = after_turns(next_send_at, rate, turns, now)
        assert turns_now(next_send_at, rate, now) <= turns
        now = max(now, next_send_at) + timedelta(seconds=wait)


class TestOrder:
    """Of one task and subscription: one at a time, the older first."""

    def tell_three(self, store: Store) -> list[str | None]:
        steps = (Status.QUEUED, Status.PROCESSING, Status.SUCCEEDED)
        return [tell(store, push("t1", step)).event_id for step in steps]

    def test_later_events_wait_while_an_earlier_one_is_in_flight(self, store: Store) -> None:
        subscribe(store)
        told = self.tell_three(store)

        got = []
        for _ in told:
            caught = catch(store)
            assert catch(store).deliveries == ()
            got += event_ids(caught)
            finish_all(store, caught)

        assert got == told

    def test_a_retry_that_waits_holds_nothing_back(self, store: Store, clock: ManualClock) -> None:
        subscribe(store)
        told = self.tell_three(store)
        (first,) = catch(store).deliveries
        store.write_now(finish, finished(first, delivered=False, retry_in=RETRY_IN))

        second = catch(store)
        assert event_ids(second) == [told[1]]
        clock.advance(seconds=300)  # the retry is due: nothing overtakes the one in flight now
        finish_all(store, second)
        third = catch(store)

        assert event_ids(third) == [told[0]]

    def test_other_tasks_and_other_subscriptions_do_not_wait(self, store: Store) -> None:
        subscribe(store)
        tell(store, push("t1", Status.QUEUED))
        catch(store)
        subscribe(store)

        tell(store, push("t1", Status.SUCCEEDED))
        tell(store, push("t2", Status.SUCCEEDED))

        caught = catch(store)
        assert len(caught.deliveries) == 3
        assert len({(d.subject, d.subscription.id) for d in caught.deliveries}) == 3

    def test_events_about_taskbell_have_no_order(self, store: Store) -> None:
        subscribe(store)
        subscribe(store, types=("delivery.dead",))
        owe(store, 3)
        for delivery in catch(store).deliveries:
            store.write_now(finish, finished(delivery, delivered=False))

        assert [d.event_type for d in catch(store).deliveries] == ["delivery.dead"] * 3

    def test_an_older_event_that_is_replayed_goes_before_a_newer_one(self, store: Store) -> None:
        subscription = subscribe(store)
        told = self.tell_three(store)
        for _ in told[:2]:
            finish_all(store, catch(store))
        store.write_now(operations.replay, operations.Replay(str(told[0]), subscription.id))

        assert event_ids(catch(store)) == [told[0]]


class TestFairness:
    def test_a_long_queue_delays_no_other_subscription(
        self, store: Store, clock: ManualClock
    ) -> None:
        busy = subscribe(store, metadata={"customer": "busy"}, max_in_flight=1_000)
        owe_to(store, busy, 2_000)
        clock.advance(seconds=60)
        quiet = subscribe(store)
        tell(store, push("single"))

        caught = catch(store, 10)

        owners = [delivery.subscription.id for delivery in caught.deliveries]
        assert quiet.id in owners
        assert owners.count(busy.id) >= 5

    def test_many_subscriptions_share_a_small_claim(self, store: Store, clock: ManualClock) -> None:
        made = [subscribe(store).id for _ in range(20)]
        owe(store, 3)

        caught = [catch(store, 20) for _ in range(3)]

        for one in caught:
            assert sorted(d.subscription.id for d in one.deliveries) == made

    def test_when_places_are_few_those_with_the_least_in_flight_come_first(
        self, store: Store, clock: ManualClock
    ) -> None:
        busy = subscribe(store, metadata={"customer": "busy"}, max_in_flight=1_000)
        owe_to(store, busy, 20)
        catch(store, 10)
        clock.advance(seconds=5)
        quiet = subscribe(store)
        tell(store, push("single"))

        caught = [catch(store, 1).deliveries[0].subscription.id for _ in range(2)]

        assert caught == [quiet.id, busy.id]

    def test_subscriptions_that_are_full_hold_up_nobody(
        self, store: Store, clock: ManualClock
    ) -> None:
        for _ in range(70):
            subscribe(store, max_in_flight=1, providers=("minimax",))
        owe(store, 2)
        assert len(catch(store, 100).deliveries) == 64
        assert len(catch(store, 100).deliveries) == 6
        quiet = subscribe(store, providers=("atlascloud",))
        clock.advance(seconds=5)
        tell(store, push(provider="atlascloud"))

        caught = catch(store, 100)

        assert [d.subscription.id for d in caught.deliveries] == [quiet.id]

    def test_subscriptions_whose_order_must_wait_hold_up_nobody(
        self, store: Store, clock: ManualClock
    ) -> None:
        for _ in range(3):
            subscribe(store, providers=("minimax",))
        tell(store, push(status=Status.PROCESSING))
        tell(store, push(status=Status.SUCCEEDED))
        assert len(catch(store).deliveries) == 3
        quiet = subscribe(store, providers=("atlascloud",))
        clock.advance(seconds=5)
        tell(store, push(provider="atlascloud"))

        caught = catch(store, 1)

        assert [d.subscription.id for d in caught.deliveries] == [quiet.id]


def owe_to(store: Store, subscription: Subscription, number: int) -> None:
    """Deliveries of as many tasks to one subscription, without the tasks."""

    def insert(tx: Tx, items: Sequence[None]) -> list[None]:
        made: list[dict[str, Any]] = [
            event_row("task.succeeded", {"task": {}}, tx.now, subject="task_x", task_id=f"task_{n}")
            for n in range(number)
        ]
        owed = [delivery_row(event, subscription.id, tx.now) for event in made]
        tx.connection.execute(events.insert(), made)
        tx.connection.execute(deliveries.insert(), owed)
        return list(items)

    store.write_now(Operation("owe", insert), None)


class TestSwitchedOff:
    def test_a_paused_subscription_is_sent_nothing_and_goes_on_when_resumed(
        self, store: Store, clock: ManualClock
    ) -> None:
        subscription = subscribe(store)
        owe(store, 2)
        edit_active(store, subscription, False)
        clock.advance(hours=1)

        paused = catch(store)
        edit_active(store, subscription, True)
        resumed = catch(store)

        assert paused == Catch((), None, clock())
        assert len(resumed.deliveries) == 2

    def test_a_deleted_subscription_is_sent_nothing(self, store: Store, clock: ManualClock) -> None:
        subscription = subscribe(store)
        tell(store, push())
        store.write_now(subscriptions.delete, subscription.id)

        assert catch(store) == Catch((), None, clock(), leftovers=True)


def edit_active(store: Store, subscription: Subscription, active: bool) -> None:
    edit = subscriptions.Edit(subscription.id, {"active": active})
    store.write_now(subscriptions.edit, edit)


class TestTwoProcesses:
    @pytest.fixture
    def pair(self, postgresql_url: str, clock: ManualClock) -> Iterator[tuple[Store, Store]]:
        one, other = (Store(open_database(postgresql_url), clock) for _ in range(2))
        yield one, other
        one.close()
        other.close()

    def test_limits_hold_across_processes(self, pair: tuple[Store, Store]) -> None:
        subscribe(pair[0], max_in_flight=5)
        subscribe(pair[0], rate_per_second=3.0)
        owe(pair[0], 30)

        with ThreadPoolExecutor(4) as threads:
            caught = list(threads.map(catch, pair * 10))

        sent = [d for one in caught for d in one.deliveries]
        assert len({d.id for d in sent}) == len(sent)
        limits = [d.subscription.max_in_flight for d in sent]
        assert (limits.count(5), limits.count(None)) == (5, 1)

    def test_no_delivery_is_claimed_by_two(self, pair: tuple[Store, Store]) -> None:
        subscribe(pair[0], max_in_flight=1_000)
        owe(pair[0], 100)

        def claim_all(store: Store) -> list[str]:
            got: list[str] = []
            while caught := catch(store, 7).deliveries:
                got += [delivery.id for delivery in caught]
            return got

        with ThreadPoolExecutor(2) as threads:
            got = [delivery_id for part in threads.map(claim_all, pair) for delivery_id in part]

        assert len(got) == len(set(got)) == 100

    def test_a_reader_that_follows_the_cursor_misses_no_event(
        self, pair: tuple[Store, Store]
    ) -> None:
        """A number handed out early may be committed late: the cursor must follow the commits."""
        writing = 2 * 150

        def write(store: Store) -> None:
            for number in range(writing // 2):
                tell(store, push(f"{id(store)}-{number}"))

        seen: list[int] = []
        with ThreadPoolExecutor(2) as threads:
            writers = [threads.submit(write, store) for store in pair]
            while not all(writer.done() for writer in writers):
                seen += follow(pair[0], seen)
            for writer in writers:
                writer.result()
        seen += follow(pair[0], seen)

        assert len(seen) == len(set(seen)) == writing


def follow(store: Store, seen: list[int]) -> list[int]:
    after = seen[-1] if seen else 0
    return [view.cursor for view in store.read_now(list_events, limit=1_000, after=after)]
