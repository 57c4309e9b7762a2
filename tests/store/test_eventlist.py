from __future__ import annotations

import pytest

from store import eventlist
from store.eventlist import EventList, Filter, look_through
from store.events import Status
from store.store import Store
from tests.making import push, registered, tell


@pytest.fixture
def told(store: Store) -> Store:
    """Events 1 to 4 of MiniMax, 5 and 6 of 元境."""
    for number in (1, 2):
        tell(store, registered(f"{number}"))
        tell(store, push(f"{number}"))
    tell(store, push("3", Status.FAILED, provider="opencomputing"))
    tell(store, push("4", provider="opencomputing"))
    return store


def look(
    store: Store,
    wanted: Filter | None = None,
    limit: int = 2,
    before: int | None = None,
    after: int | None = None,
) -> EventList:
    return store.read_now(look_through, wanted or Filter(), limit=limit, before=before, after=after)


def cursors(found: EventList) -> list[int]:
    return [event.cursor for event in found.events]


def test_pages_go_back_to_the_oldest_and_forth_again(told: Store) -> None:
    first = look(told)
    second = look(told, before=first.older)
    last = look(told, before=second.older)
    back = look(told, after=last.newer)

    assert [cursors(page) for page in (first, second, last)] == [[6, 5], [4, 3], [2, 1]]
    assert (first.newer, last.older) == (None, None)
    assert (cursors(back), back.older, back.newer) == ([4, 3], 3, 4)


def test_each_filter_finds_its_own(told: Store) -> None:
    newest = look(told).events[0]

    assert cursors(look(told, Filter(type="task.failed"))) == [5]
    assert cursors(look(told, Filter(provider="minimax"), limit=9)) == [4, 3, 2, 1]
    assert cursors(look(told, Filter(task_id=newest.task_id))) == [6]
    assert cursors(look(told, Filter(type="task.queued", provider="opencomputing"))) == []
    assert (newest.provider_task_id, newest.type) == ("4", "task.succeeded")


def test_a_look_for_a_provider_ends_after_a_stretch_and_goes_on(
    told: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventlist, "STRETCH", 2)
    wanted = Filter(provider="minimax")

    first = look(told, wanted)
    second = look(told, wanted, before=first.older)
    last = look(told, wanted, before=second.older)
    upwards = look(told, Filter(provider="opencomputing"), after=1)

    assert (cursors(first), first.stopped, first.older) == ([], True, 5)
    assert (cursors(second), second.stopped) == ([4, 3], True)
    assert (cursors(last), last.stopped, last.older) == ([2, 1], False, None)
    assert (cursors(upwards), upwards.stopped, upwards.newer) == ([], True, 3)
