from __future__ import annotations

from datetime import timedelta

from store import sent
from store.clock import ManualClock
from store.deliveries import Attempt, Finished, finish
from store.eventlist import Filter, look_through
from store.events import Status
from store.records import record
from store.sent import EventStory, read_delivery_story, read_event_story
from store.store import Store
from store.tables import deliveries
from tests.making import catch, poll, push, registered, rows, subscribe, tell, together


def stories(store: Store) -> list[EventStory]:
    """Of every event, oldest first."""
    found = store.read_now(look_through, Filter(), limit=50).events[::-1]
    told = [store.read_now(read_event_story, event.id) for event in found]
    return [story for story in told if story is not None]


def test_an_event_has_the_push_that_brought_it(store: Store, clock: ManualClock) -> None:
    tell(store, registered())
    clock.advance(seconds=1)
    tell(store, push(status=Status.PROCESSING, raw=b"first"))
    clock.advance(seconds=1)
    tell(store, push(status=Status.PROCESSING, raw=b"the same again"))
    clock.advance(seconds=1)
    tell(store, push(raw=b"last"))

    pushes = [story.push and story.push.raw for story in stories(store)]

    assert pushes == [None, b"first", b"last"]


async def test_pushes_of_one_transaction_pair_off_with_its_events(store: Store) -> None:
    batch = [
        push(status=Status.PROCESSING, raw=b"begins"),
        push(raw=b"ends"),
        push("t2", raw=b"another"),
    ]
    await together(store, record, batch)

    pushes = [story.push and story.push.raw for story in stories(store)]

    assert sorted(pushes, key=str) == sorted([b"begins", b"ends", b"another"], key=str)
    assert pushes.index(b"begins") < pushes.index(b"ends")


async def test_no_push_is_claimed_where_a_poll_came_in_the_same_transaction(store: Store) -> None:
    tell(store, registered())
    await together(store, record, [push(status=Status.PROCESSING, raw=b"x"), poll()])

    assert [story.push for story in stories(store)[-2:]] == [None, None]


def test_a_confirmed_event_has_the_push_that_announced_it(store: Store, clock: ManualClock) -> None:
    tell(store, registered())
    clock.advance(seconds=1)
    tell(store, push(hold=True, raw=b"done, I say"))
    clock.advance(seconds=1)
    tell(store, poll())

    last = stories(store)[-1]

    assert last.push is not None
    assert (last.push.raw, last.push.verdict) == (b"done, I say", "held")


def test_a_poll_has_no_push(store: Store) -> None:
    tell(store, registered())
    tell(store, poll())

    assert [story.push for story in stories(store)] == [None, None]


def test_a_delivery_has_its_newest_attempts(store: Store, clock: ManualClock) -> None:
    subscribe(store)
    tell(store, push(raw=b"{}"))
    for status in (500, 502, 503):
        (delivery,) = catch(store).deliveries
        attempt = Attempt(clock(), timedelta(seconds=1), "retry", status, f"answered {status}")
        store.write_now(finish, Finished(delivery, attempt, False, timedelta(seconds=5)))
        clock.advance(seconds=6)
    (row,) = rows(store, deliveries)

    story = store.read_now(read_delivery_story, row["id"])

    assert story is not None
    assert [(each.number, each.status_code) for each in story.attempts] == [
        (3, 503),
        (2, 502),
        (1, 500),
    ]
    assert story.event is not None
    assert story.event.id == row["event_id"]
    assert (story.line.status, story.cut) == ("pending", False)
    assert store.read_now(read_delivery_story, "dlv_0") is None
    assert store.read_now(read_event_story, "evt_0") is None


def test_what_is_read_is_bounded(store: Store, clock: ManualClock) -> None:
    subscribe(store)
    tell(store, push())
    for _ in range(sent.MOST + 1):
        (delivery,) = catch(store).deliveries
        attempt = Attempt(clock(), timedelta(seconds=1), "retry", 500, "answered 500")
        store.write_now(finish, Finished(delivery, attempt, False, timedelta(0)))
    (row,) = rows(store, deliveries)

    story = store.read_now(read_delivery_story, row["id"])

    assert story is not None
    assert (len(story.attempts), story.attempts[0].number) == (sent.MOST, sent.MOST + 1)
    assert story.cut
