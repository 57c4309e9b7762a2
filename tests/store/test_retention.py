"""Forgetting what ended long ago, a bounded step at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Table

from store.clock import ManualClock
from store.deliveries import Attempt, Finished, Replay, finish, replay
from store.events import Status
from store.records import Receipt, Unread, keep_unread
from store.retention import Prune, prune
from store.store import Store
from store.tables import attempts, deliveries, events, receipts, tasks
from tests.making import catch, poll, push, registered, rows, subscribe, tell, told

KEEP = timedelta(days=30)
PRUNED: list[Table] = [tasks, events, deliveries, attempts, receipts]


def counts(store: Store) -> dict[str, int]:
    return {table.name: len(rows(store, table)) for table in PRUNED}


def finish_all(store: Store, clock: ManualClock, **how: Any) -> None:
    for delivery in catch(store).deliveries:
        attempt = Attempt(clock(), timedelta(seconds=1), "delivered", 200)
        store.write_now(finish, Finished(delivery, attempt, **how))


def step(store: Store, limit: int = 200) -> int:
    return store.write_now(prune, Prune(KEEP, limit))


def test_an_ended_task_goes_with_all_its_rows(store: Store, clock: ManualClock) -> None:
    subscribe(store)
    for status in (Status.PROCESSING, Status.SUCCEEDED, Status.SUCCEEDED):
        tell(store, push(status=status))
        finish_all(store, clock, delivered=True)
    before = counts(store)
    clock.advance(days=30, seconds=1)

    gone = step(store)

    assert before == {"tasks": 1, "events": 2, "deliveries": 2, "attempts": 2, "receipts": 3}
    assert gone > 0
    assert set(counts(store).values()) == {0}
    assert step(store) == 0


def test_what_ended_lately_and_what_is_open_stays(store: Store, clock: ManualClock) -> None:
    subscribe(store)
    tell(store, push("open", Status.PROCESSING))
    tell(store, push("asked again", Status.PROCESSING))
    clock.advance(days=1)
    tell(store, push("fresh"))
    finish_all(store, clock, delivered=True)
    before = counts(store)
    clock.advance(days=30)

    assert step(store) == 0
    assert counts(store) == before


@pytest.mark.parametrize("status", [s for s in Status if s.final])
def test_every_ending_is_forgotten(store: Store, clock: ManualClock, status: Status) -> None:
    tell(store, push(status=status))
    clock.advance(days=31)

    step(store)

    assert rows(store, tasks) == []


def test_a_task_that_timed_out_is_forgotten_too(store: Store, clock: ManualClock) -> None:
    told(store, registered())
    told(store, poll(status=Status.TIMED_OUT))
    clock.advance(days=31)

    step(store)

    assert set(counts(store).values()) == {0}


def test_a_step_is_bounded(store: Store, clock: ManualClock) -> None:
    for number in range(7):
        tell(store, push(f"t{number}"))
    clock.advance(days=31)

    left = []
    while step(store, 3):
        left.append(len(rows(store, tasks)))

    assert left == [4, 1, 0]
    assert set(counts(store).values()) == {0}


def test_what_ended_first_is_forgotten_first(store: Store, clock: ManualClock) -> None:
    for number in range(3):
        tell(store, push(f"t{number}"))
        clock.advance(hours=1)
    clock.advance(days=31)

    step(store, 1)

    assert [row["provider_task_id"] for row in rows(store, tasks)] == ["t1", "t2"]


def test_events_about_taskbell_are_forgotten_too(store: Store, clock: ManualClock) -> None:
    subscribe(store, types=("task.*", "delivery.dead"))
    tell(store, push())
    finish_all(store, clock, delivered=False)  # buries it
    finish_all(store, clock, delivered=True)  # tells of it
    assert counts(store)["events"] == 2
    clock.advance(days=31)

    step(store)

    assert set(counts(store).values()) == {0}


def test_receipts_of_nobodys_tasks_are_forgotten_too(store: Store, clock: ManualClock) -> None:
    store.write_now(keep_unread, Unread("minimax", Receipt("tok_1", b"<html>")))
    tell(store, push(registration=None))
    clock.advance(days=6)
    store.write_now(keep_unread, Unread("minimax", Receipt("tok_1", b"fresh")))
    clock.advance(days=2)

    steps = [step(store, 1) for _ in range(3)]

    assert steps == [1, 1, 0]
    assert [row["raw"] for row in rows(store, receipts)] == [b"fresh"]


def test_a_replay_of_an_old_event_is_forgotten_with_it(store: Store, clock: ManualClock) -> None:
    recorded = tell(store, push())
    clock.advance(days=31)
    subscription = subscribe(store)
    store.write_now(replay, Replay(str(recorded.event_id), subscription.id))

    step(store)

    assert catch(store).deliveries == ()
    assert set(counts(store).values()) == {0}


def test_a_cursor_is_never_handed_out_again(store: Store, clock: ManualClock) -> None:
    """Also not after the newest events were deleted: a follower would miss the new ones."""
    tell(store, push("t1"))
    last = rows(store, events)[-1]["cursor"]
    clock.advance(days=31)
    step(store)

    tell(store, push("t2"))

    assert rows(store, events)[0]["cursor"] > last
