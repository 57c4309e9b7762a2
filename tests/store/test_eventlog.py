"""Reading the events by their cursor."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from store.clock import ManualClock
from store.eventlog import EventView, cursor_before, get_event, last_cursor, list_events
from store.events import Status
from store.store import Store
from store.tables import events
from tests.making import push, rows, tell


@pytest.fixture
def made(store: Store) -> list[EventView]:
    """Two events of each of four tasks."""
    for number in range(4):
        for status in (Status.PROCESSING, Status.SUCCEEDED):
            tell(store, push(f"t{number}", status))
    return store.read_now(list_events, limit=100)


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_a_reader_that_follows_the_cursor_gets_each_event_once(
    store: Store, made: list[EventView], limit: int
) -> None:
    seen: list[EventView] = []
    while page := store.read_now(list_events, limit=limit, after=seen[-1].cursor if seen else 0):
        assert len(page) <= limit
        seen += page

    assert seen == made
    assert len(made) == 8


def test_events_may_be_narrowed(store: Store, made: list[EventView]) -> None:
    task_id = made[2].body["data"]["task"]["id"]

    ended = store.read_now(list_events, limit=100, event_type="task.succeeded")
    of_task = store.read_now(list_events, limit=100, task_id=task_id)
    both = store.read_now(
        list_events, limit=100, after=made[2].cursor, event_type="task.succeeded", task_id=task_id
    )

    assert ended == made[1::2]
    assert of_task == made[2:4]
    assert both == made[3:4]


def test_an_event_is_found_by_its_id_with_the_body_that_was_stored(
    store: Store, made: list[EventView]
) -> None:
    view = store.read_now(get_event, made[0].body["id"])

    assert view == made[0]
    assert made[0].body == json.loads(rows(store, events)[0]["body"])
    assert store.read_now(get_event, "evt_unknown") is None


def test_behind_the_last_cursor_there_is_nothing(store: Store, made: list[EventView]) -> None:
    assert store.read_now(list_events, limit=100, after=made[-1].cursor) == []


def test_the_place_before_a_moment_is_found(store: Store, clock: ManualClock) -> None:
    assert store.read_now(cursor_before, clock()) == 0
    cursors = []
    for number in range(3):
        tell(store, push(f"t{number}"))
        cursors.append(store.read_now(last_cursor))
        clock.advance(minutes=1)

    def read_since(**ago: float) -> list[int]:
        after = store.read_now(cursor_before, clock() - timedelta(**ago))
        return [event.cursor for event in store.read_now(list_events, limit=10, after=after)]

    assert read_since(days=1) == cursors
    assert read_since(minutes=2) == cursors[1:]
    assert read_since(seconds=61) == cursors[2:]
    assert read_since(seconds=1) == []
