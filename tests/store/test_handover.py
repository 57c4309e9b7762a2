"""Handing deliveries to the dispatcher of this process in the transaction that makes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from store.claims import Catch, Claim, claim
from store.clock import ManualClock
from store.database import open_database
from store.deliveries import Attempt, Finished, Replay, finish, replay
from store.events import Status
from store.outbox import DELIVERIES
from store.outlet import Delivery, Outlet
from store.records import record
from store.store import Store
from store.tables import deliveries, events
from store.writer import Operation, Tx
from tests.making import LEASE, catch, push, rows, subscribe, tell, together


class Dispatcher:
    """Takes what is handed over, and sends nothing."""

    def __init__(self, store: Store, places: int = 10) -> None:
        self.handed: list[Delivery] = []
        self.woken = 0
        self.store = store
        self.outlet = Outlet("here", LEASE, places, self.handed.extend)
        store.attach(self.outlet)
        store.listen(DELIVERIES, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def claim(self) -> Catch:
        return self.store.write_now(claim, Claim("here", 100, LEASE, self.outlet))

    def finish(self, delivery: Delivery) -> None:
        attempt = Attempt(datetime(2026, 1, 1, tzinfo=UTC), timedelta(), "delivered", 204)
        self.outlet.release(1)
        self.store.write_now(finish, Finished(delivery, attempt, delivered=True))

    def tasks(self) -> list[str]:
        """What was handed over, by the provider's ids of the tasks."""
        return [_task(self.store, delivery) for delivery in self.handed]


def _task(store: Store, delivery: Delivery) -> str:
    return delivery.body.decode().partition('"provider_task_id":"')[2].partition('"')[0]


def status(store: Store) -> list[str]:
    return [row["status"] for row in rows(store, deliveries)]


def test_a_new_delivery_is_handed_over_leased_and_nobody_need_look(
    store: Store, clock: ManualClock
) -> None:
    subscription = subscribe(store)
    dispatcher = Dispatcher(store)

    recorded = tell(store, push())

    (delivery,) = dispatcher.handed
    event = rows(store, events)[0]
    row = rows(store, deliveries)[0]
    assert recorded.task is not None
    assert delivery.subscription == subscription
    assert (delivery.event_id, delivery.event_type) == (recorded.event_id, "task.succeeded")
    assert (delivery.provider, delivery.subject) == ("minimax", recorded.task.id)
    assert (delivery.event_time, delivery.body) == (clock(), event["body"])
    assert (delivery.attempt, delivery.failures, delivery.fence) == (1, 0, 1)
    assert (row["status"], row["owner"], row["fence"]) == ("in_flight", "here", 1)
    assert (row["attempts"], row["claims"], row["due_at"]) == (1, 1, clock() + LEASE)
    assert dispatcher.woken == 0
    assert catch(store).deliveries == ()


def test_it_is_finished_like_any_other(store: Store) -> None:
    subscribe(store)
    dispatcher = Dispatcher(store)
    tell(store, push())

    dispatcher.finish(dispatcher.handed[0])

    assert status(store) == ["delivered"]
    assert dispatcher.woken == 0  # nothing waited for the place


def test_what_a_dead_dispatcher_was_handed_is_due_again(store: Store, clock: ManualClock) -> None:
    subscribe(store)
    dispatcher = Dispatcher(store)
    tell(store, push())
    clock.advance(seconds=LEASE.total_seconds())

    (again,) = catch(store, owner="another").deliveries

    assert (again.id, again.attempt, again.fence) == (dispatcher.handed[0].id, 2, 2)


def test_no_more_is_handed_over_than_there_are_places(store: Store) -> None:
    subscribe(store)
    dispatcher = Dispatcher(store, places=2)

    for number in range(4):
        tell(store, push(f"t{number}"))

    assert dispatcher.tasks() == ["t0", "t1"]
    assert status(store) == ["in_flight", "in_flight", "pending", "pending"]
    assert dispatcher.woken == 2


def test_places_are_shared_with_claims(store: Store) -> None:
    subscribe(store)
    for number in range(5):
        tell(store, push(f"t{number}"))
    dispatcher = Dispatcher(store, places=3)

    first, second = dispatcher.claim(), dispatcher.claim()

    assert len(first.deliveries) == 3
    assert second.deliveries == ()


def test_what_waits_is_not_overtaken(store: Store) -> None:
    subscribe(store)
    dispatcher = Dispatcher(store, places=1)
    tell(store, push("first"))
    tell(store, push("second"))
    dispatcher.finish(dispatcher.handed[0])

    tell(store, push("third"))  # a place is free, but the second is due
    (second,) = dispatcher.claim().deliveries
    dispatcher.finish(second)
    (third,) = dispatcher.claim().deliveries
    dispatcher.finish(third)
    tell(store, push("fourth"))  # nothing waits any more

    assert dispatcher.tasks() == ["first", "fourth"]
    assert (_task(store, second), _task(store, third)) == ("second", "third")


def test_a_subscription_with_a_backlog_does_not_hold_up_another(store: Store) -> None:
    subscribe(store, "https://busy.example/hook", max_in_flight=1)
    dispatcher = Dispatcher(store)
    for number in range(3):
        tell(store, push(f"t{number}"))
    quiet = subscribe(store, "https://quiet.example/hook")

    tell(store, push("news"))

    assert [d.subscription.id for d in dispatcher.handed[1:]] == [quiet.id]


def test_a_subscription_has_no_more_in_flight_than_it_wants(store: Store) -> None:
    subscribe(store, max_in_flight=2)
    dispatcher = Dispatcher(store)

    for number in range(3):
        tell(store, push(f"t{number}"))

    assert len(dispatcher.handed) == 2


def test_what_other_processes_have_in_flight_counts(store: Store) -> None:
    subscribe(store, max_in_flight=2)
    tell(store, push("theirs"))
    catch(store, owner="another process")
    dispatcher = Dispatcher(store)

    tell(store, push("ours"))
    tell(store, push("too many"))

    assert dispatcher.tasks() == ["ours"]


def test_events_of_one_task_go_one_after_the_other(store: Store) -> None:
    subscribe(store)
    dispatcher = Dispatcher(store)

    tell(store, push(status=Status.PROCESSING))
    tell(store, push(status=Status.SUCCEEDED))
    early = len(dispatcher.handed)
    dispatcher.finish(dispatcher.handed[0])
    (second,) = dispatcher.claim().deliveries

    assert early == 1
    assert dispatcher.woken >= 1  # the first one's end tells that the second may go
    assert second.event_type == "task.succeeded"


async def test_so_do_those_of_one_transaction(store: Store) -> None:
    subscribe(store)
    dispatcher = Dispatcher(store)

    await together(store, record, [push(status=Status.PROCESSING), push()])

    assert [d.event_type for d in dispatcher.handed] == ["task.processing"]


def test_a_retry_that_waits_holds_nothing_back(store: Store) -> None:
    subscribe(store)
    dispatcher = Dispatcher(store)
    tell(store, push(status=Status.PROCESSING))
    failed = Attempt(datetime(2026, 1, 1, tzinfo=UTC), timedelta(), "retry", 500)
    dispatcher.outlet.release(1)
    later = Finished(dispatcher.handed[0], failed, delivered=False, retry_in=timedelta(hours=1))
    store.write_now(finish, later)

    tell(store, push(status=Status.SUCCEEDED))

    assert [d.event_type for d in dispatcher.handed] == ["task.processing", "task.succeeded"]


def test_a_rate_is_kept_by_claims(store: Store) -> None:
    subscribe(store, rate_per_second=5.0)
    dispatcher = Dispatcher(store)

    tell(store, push())

    assert dispatcher.handed == []
    assert len(dispatcher.claim().deliveries) == 1


def test_a_replay_waits_for_a_claim(store: Store) -> None:
    subscribe(store)
    recorded = tell(store, push())
    catch(store)
    dispatcher = Dispatcher(store)

    store.write_now(replay, Replay(str(recorded.event_id)))

    assert dispatcher.handed == []
    assert dispatcher.woken == 1


class TestATransactionThatFails:
    async def test_hands_nothing_over_and_keeps_no_place(self, store: Store) -> None:
        subscribe(store)
        dispatcher = Dispatcher(store, places=1)
        stumble: Operation[None, None] = Operation("stumble", _stumble, order=5)

        with pytest.raises(RuntimeError):
            await store.write(_both(stumble), None)
        early = len(dispatcher.handed)
        tell(store, push("after"))

        assert early == 0
        assert dispatcher.tasks() == ["after"]
        assert status(store) == ["in_flight"]

    async def test_gives_back_what_a_claim_took(self, store: Store) -> None:
        subscribe(store)
        tell(store, push())
        dispatcher = Dispatcher(store, places=1)

        def take_and_stumble(tx: Tx, _: Sequence[None]) -> list[None]:
            claim.run(tx, [Claim("here", 1, LEASE, dispatcher.outlet)])
            raise RuntimeError("a bug")

        with pytest.raises(RuntimeError):
            await store.write(Operation("stumble", take_and_stumble), None)

        assert len(dispatcher.claim().deliveries) == 1


def _stumble(_: Tx, items: Sequence[None]) -> list[None]:
    raise RuntimeError("a bug")


def _both(stumble: Operation[None, None]) -> Operation[None, None]:
    def run(tx: Tx, items: Sequence[None]) -> list[None]:
        record.run(tx, [push("undone")])
        return list(stumble.run(tx, items))  # type: ignore[arg-type]

    return Operation("both", run)


async def test_after_detaching_nothing_is_handed_over(store: Store) -> None:
    subscribe(store)
    dispatcher = Dispatcher(store)

    await store.detach()
    tell(store, push())

    assert dispatcher.handed == []
    assert dispatcher.woken == 1


def test_processes_do_not_hand_over_more_together_than_a_subscription_wants(
    postgresql_url: str, clock: ManualClock
) -> None:
    pair = [Store(open_database(postgresql_url), clock) for _ in range(2)]
    subscribe(pair[0], max_in_flight=3)
    dispatchers = [Dispatcher(store) for store in pair]

    for number in range(4):
        for place, store in enumerate(pair):
            tell(store, push(f"t{number}-{place}"))

    assert sum(len(dispatcher.handed) for dispatcher in dispatchers) == 3
    for store in pair:
        store.close()
