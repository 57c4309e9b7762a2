"""What a task's timeline tells: how its news came, and what became of the questions about it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from store.clock import ManualClock
from store.events import Failure, Status, Task
from store.records import Challenge, keep_challenge, record
from store.store import Store
from store.tasks import Claimed, Later, Overdue, PollClaim, claim_due, expire, reschedule
from store.timeline import Timeline, read_timeline
from tests.making import LEASE, poll, push, registered, told

MINUTES = 60.0


@pytest.mark.parametrize(
    ("token_id", "seconds_before", "told"),
    [
        ("tok1", 1.0, ["challenge", "recorded"]),
        ("tok1", 11 * MINUTES, ["recorded"]),
        ("another", 1.0, ["recorded"]),
    ],
    ids=["its own", "long ago", "another address"],
)
def test_a_challenge_comes_first(
    store: Store, clock: ManualClock, token_id: str, seconds_before: float, told: list[str]
) -> None:
    store.write_now(keep_challenge, Challenge("minimax", token_id))
    clock.advance(seconds=seconds_before)
    recorded = store.write_now(record, push(token_id="tok1"))
    assert recorded.task is not None

    timeline = store.read_now(read_timeline, recorded.task.id)

    assert timeline is not None
    assert [each.verdict for each in timeline.received] == told


def timeline_of(store: Store, task: Task) -> Timeline:
    timeline = store.read_now(read_timeline, task.id)
    assert timeline is not None
    return timeline


def test_events_say_how_their_news_came_and_whether_too_late(
    store: Store, clock: ManualClock
) -> None:
    task = told(store, registered(timeout=timedelta(seconds=1), metadata={"big": "x" * 5_000}))
    told(store, push(status=Status.PROCESSING, trusted=True))
    clock.advance(seconds=2)
    store.write_now(expire, Overdue(10, timedelta(0), frozenset(), timedelta(minutes=1)))
    told(store, poll())

    recorded = timeline_of(store, task).recorded

    assert [(each.type, each.source, each.late) for each in recorded] == [
        ("task.queued", "api", False),
        ("task.processing", "push", False),
        ("task.timed_out", "poll", False),
        ("task.succeeded", "poll", True),
    ]


def claimed(store: Store) -> Task:
    claim = PollClaim("poller", {"minimax": 1}, {}, LEASE)
    found: Claimed = store.write_now(claim_due, claim)
    return found.tasks[0]


def test_trouble_with_questions_is_told_until_it_is_over(store: Store, clock: ManualClock) -> None:
    task = told(store, registered(ask_in=timedelta(0)))
    asked = claimed(store)
    again = Later(
        task.id,
        asked.poll_fence,
        timedelta(0),
        failed=True,
        trouble=Failure("unavailable", "answered 500"),
    )
    store.write_now(reschedule, again)
    before = timeline_of(store, task)
    clock.advance(seconds=1)
    told(store, poll(status=Status.PROCESSING, fence=claimed(store).poll_fence))

    after = timeline_of(store, task)

    assert (before.task.polls, before.task.trouble) == (1, Failure("unavailable", "answered 500"))
    assert (after.task.polls, after.task.trouble) == (2, None)
