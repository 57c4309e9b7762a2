"""A subscription's filter decides in the transaction that records the event."""

from __future__ import annotations

from typing import Any

import pytest

from store.clock import ManualClock
from store.deliveries import Replay, replay
from store.events import Status
from store.store import Store
from store.subscriptions import Edit, edit
from store.tables import deliveries, events
from store.writer import Operation, Tx
from tests.making import push, rows, subscribe, tell

CHEAP = {"data.task.usage.cost": {"$lt": 1}}


def owed(store: Store) -> list[str]:
    """To whom, in order."""
    return [row["subscription_id"] for row in rows(store, deliveries)]


def test_only_events_that_meet_it_are_owed(store: Store) -> None:
    everything, cheap = subscribe(store), subscribe(store, filter=CHEAP)

    tell(store, push("t1", usage={"cost": 2}))
    tell(store, push("t2", usage={"cost": 0.5}))

    assert owed(store) == [everything.id, everything.id, cheap.id]


def test_a_changed_filter_counts_from_the_next_event_on(store: Store) -> None:
    subscription = subscribe(store, filter=CHEAP)
    tell(store, push("t1", Status.PROCESSING, usage={"cost": 2}))

    store.write_now(edit, Edit(subscription.id, {"filter": None}))
    tell(store, push("t1", usage={"cost": 2}))

    assert owed(store) == [subscription.id]


def test_a_replay_to_everybody_asks_it_too(store: Store) -> None:
    recorded = tell(store, push("t1", usage={"cost": 2}))
    assert recorded.event_id
    everything, cheap = subscribe(store), subscribe(store, filter=CHEAP)

    store.write_now(replay, Replay(recorded.event_id))
    assert owed(store) == [everything.id]

    store.write_now(replay, Replay(recorded.event_id, cheap.id))  # named, so it is wanted
    assert owed(store) == [everything.id, cheap.id]


def test_one_that_cannot_be_read_wants_nothing_and_harms_nobody(
    store: Store, clock: ManualClock
) -> None:
    broken, everything = subscribe(store), subscribe(store)

    def damage(tx: Tx, items: Any) -> list[None]:
        tx.connection.exec_driver_sql(
            f"""UPDATE subscriptions SET filter = '{{"$where": 1}}' WHERE id = '{broken.id}'"""
        )
        tx.subscriptions_changed()
        return list(items)

    store.write_now(Operation("damage", damage), None)
    tell(store, push())

    assert owed(store) == [everything.id]


def test_an_event_with_too_many_values_is_not_sent_and_the_log_says_to_whom_not(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    dear = {"$or": [{f"data.task.usage.a.b{n}": 1} for n in range(10)]}
    starved, everything = subscribe(store, filter=dear), subscribe(store)

    tell(store, push("t1", usage={"a": [[{"b9": 1}] * 100] * 100}))

    assert owed(store) == [everything.id]
    [event] = rows(store, events)
    assert (
        f"subscription {starved.id}: its filter reads over 30000 values of the event {event['id']}"
    ) in caplog.messages
