from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from store import deliverylist
from store.clock import ManualClock
from store.deliveries import Attempt, Finished, Replay, finish, replay, retry
from store.deliverylist import DeliveryList, Filter, count_dead, look_through
from store.store import Store
from store.subscriptions import delete
from store.tables import deliveries, events
from store.writer import Operation, Tx
from tests.making import catch, push, rows, subscribe, tell


def owed(store: Store, tasks: int, name: str = "a") -> list[str]:
    """Ids of new deliveries to a new subscription, oldest first; nobody else wants its events."""
    subscription = subscribe(store, f"https://{name}.example/hook", providers=(name,))
    for number in range(tasks):
        tell(store, push(f"{number}", provider=name))
    own = deliveries.c.subscription_id == subscription.id
    return [row["id"] for row in rows(store, deliveries, own)]


def die(store: Store, clock: ManualClock, *ids: str) -> None:
    """Have everything sent; these fail for good, the others arrive."""
    for delivery in catch(store).deliveries:
        dead = delivery.id in ids
        error = "answered 500" if dead else None
        attempt = Attempt(clock(), timedelta(seconds=1), "retry", 500, error)
        store.write_now(finish, Finished(delivery, attempt, delivered=not dead))


def look(store: Store, wanted: Filter | None = None, **where: str | int | None) -> DeliveryList:
    return store.read_now(look_through, wanted or Filter(), **{"limit": 2, **where})  # type: ignore[arg-type]


def ids(found: DeliveryList) -> list[str]:
    return [line.id for line in found.deliveries]


def test_pages_go_back_to_the_oldest_and_forth_again(store: Store) -> None:
    made = owed(store, 5)

    first = look(store)
    second = look(store, before=first.older)
    last = look(store, before=second.older)
    back = look(store, after=last.newer)

    assert ids(first) + ids(second) + ids(last) == made[::-1]
    assert (first.newer, last.older) == (None, None)
    assert ids(back) == ids(second)


def test_each_filter_finds_its_own(store: Store, clock: ManualClock) -> None:
    one, two = owed(store, 1), owed(store, 1, "b")
    die(store, clock, *one)
    three = owed(store, 1, "c")
    line = look(store, Filter(status="dead")).deliveries[0]

    assert ids(look(store, Filter(status="dead"))) == one
    assert ids(look(store, Filter(status="delivered"))) == two
    assert ids(look(store, Filter(status="pending"))) == three
    assert ids(look(store, Filter(subscription_id=line.subscription_id, status="dead"))) == one
    assert ids(look(store, Filter(subscription_id="sub_0"))) == []
    assert ids(look(store, Filter(event_id=line.event_id))) == one
    assert (line.url, line.event_type) == ("https://a.example/hook", "task.succeeded")


def test_a_look_without_an_index_ends_after_a_stretch_and_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = owed(store, 6)
    monkeypatch.setattr(deliverylist, "STRETCH", 3)
    delivered = Filter(status="delivered")

    first = look(store, delivered)
    second = look(store, delivered, before=first.older)
    upwards = look(store, delivered, after=made[0])

    assert (ids(first), first.stopped, first.older) == ([], True, made[3])
    assert (ids(second), second.stopped) == ([], True)
    assert not look(store, delivered, before=second.older).stopped
    assert (ids(upwards), upwards.stopped, upwards.newer) == ([], True, made[3])


def test_a_stretch_of_what_was_given_up_counts_nothing_else(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = owed(store, 6)
    die(store, clock, made[0])
    monkeypatch.setattr(deliverylist, "STRETCH", 3)

    found = look(store, Filter(status="dead"))

    assert (ids(found), found.stopped) == (made[:1], False)
    assert not look(store, Filter(status="canceled")).stopped


def test_more_open_ones_than_can_be_sorted_are_looked_through_by_age(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = owed(store, 6)
    monkeypatch.setattr(deliverylist, "STRETCH", 3)

    found = look(store, Filter(status="pending"))

    assert ids(found) == made[:3:-1]
    assert ids(look(store, Filter(status="pending"), before=found.older)) == [made[3], made[2]]


def test_the_dead_are_counted_by_subscription_unless_they_were_replayed(
    store: Store, clock: ManualClock
) -> None:
    dead = owed(store, 3)
    die(store, clock, *dead)
    clock.advance(hours=2)
    later = owed(store, 1, "b")
    die(store, clock, *later)
    event = look(store, Filter(status="dead"), limit=9).deliveries[-1].event_id
    own = look(store, Filter(status="dead"), limit=9).deliveries[-1].subscription_id
    again = store.write_now(replay, Replay(event, own))

    found = store.read_now(count_dead)
    recent = store.read_now(count_dead, since=clock() - timedelta(hours=1))
    replaced = look(store, Filter(event_id=event), limit=9).deliveries[-1]

    assert [(each.count, each.url) for each in found.dead] == [
        (2, "https://a.example/hook"),
        (1, "https://b.example/hook"),
    ]
    assert (found.count, found.more) == (3, False)
    assert [each.url for each in recent.dead] == ["https://b.example/hook"]
    assert (replaced.id, replaced.newer) == (dead[0], again[0])


def test_no_more_dead_ones_are_counted_than_can_be_in_time(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    die(store, clock, *owed(store, 3))
    monkeypatch.setattr(deliverylist, "COUNTED", 2)

    found = store.read_now(count_dead)

    assert (found.count, found.more) == (2, True)


def test_what_is_tried_again_or_deleted_is_not_counted(store: Store, clock: ManualClock) -> None:
    dead = owed(store, 2)
    die(store, clock, *dead)

    store.write_now(retry, dead[0])
    counted = store.read_now(count_dead).dead[0]
    store.write_now(delete, counted.subscription_id)

    assert counted.count == 1
    assert store.read_now(count_dead).dead == []


def test_a_delivery_whose_event_is_lost_is_listed(store: Store) -> None:
    made = owed(store, 1)

    def lose(tx: Tx, items: Sequence[None]) -> list[None]:
        tx.connection.execute(events.delete())
        return list(items)

    store.write_now(Operation("lose", lose), None)

    assert [(line.id, line.event_type) for line in look(store).deliveries] == [(made[0], None)]
