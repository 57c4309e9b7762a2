"""The state machine, whatever order the world tells it things in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.events import (
    EVENT_TYPES,
    Change,
    Failure,
    Interest,
    Output,
    Source,
    Status,
    Task,
    TaskUpdate,
    Verdict,
    advance,
    judge,
    rfc3339,
    task_json,
    wants,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ORDER = {Status.QUEUED: 0, Status.PROCESSING: 1, Status.TIMED_OUT: 2}
ENDS = (Status.SUCCEEDED, Status.FAILED, Status.CANCELED)

updates = st.builds(
    TaskUpdate,
    status=st.sampled_from(Status),
    provider_status=st.sampled_from(["", "Queueing", "running", "Success", "fail"]),
    model=st.sampled_from([None, "m-1", "m-2"]),
    progress=st.none() | st.floats(0, 1),
    outputs=st.sampled_from([(), (Output(url="https://cdn.example/1.mp4"),)]),
    error=st.sampled_from([None, Failure("1026", "sensitive content")]),
    usage=st.sampled_from([None, {"seconds": 6}]),
)
histories = st.lists(st.tuples(updates, st.sampled_from(Source), st.booleans()), max_size=30)


def rank(status: Status) -> int:
    return ORDER.get(status, 3)


def task(status: Status = Status.QUEUED, version: int = 1) -> Task:
    return Task(
        id="task_1",
        provider="minimax",
        provider_task_id="t1",
        created_at=NOW,
        updated_at=NOW,
        deadline_at=NOW + timedelta(hours=2),
        status=status,
        version=version,
    )


def play(
    start: Task, history: list[tuple[TaskUpdate, Source, bool]]
) -> list[tuple[Task, Change | None]]:
    """Each step: the task before it, and what the update changed."""
    steps = []
    for second, (update, source, confirmed) in enumerate(history):
        now = NOW + timedelta(seconds=second)
        change = advance(start, update, source=source, confirmed=confirmed, now=now)
        steps.append((start, change))
        start = change.task if change else start
    return steps


@given(histories)
def test_a_task_has_at_most_one_final_event(history: list[tuple[TaskUpdate, Source, bool]]) -> None:
    steps = play(task(version=0), history)

    ended = [c for _, c in steps if c and c.event_type and c.task.status.final]
    assert len(ended) <= 1
    assert len(ended) == any(update.status.final for update, _, _ in history)


@given(histories)
def test_the_version_grows_by_one_with_each_event_and_never_otherwise(
    history: list[tuple[TaskUpdate, Source, bool]],
) -> None:
    steps = play(task(version=0), history)

    for before, change in steps:
        if change:
            assert change.task.version == before.version + (change.event_type is not None)


@given(histories)
def test_a_status_never_steps_back(history: list[tuple[TaskUpdate, Source, bool]]) -> None:
    steps = play(task(version=0), history)

    for before, change in steps:
        if change and before.version:
            assert rank(change.task.status) >= rank(before.status)
            assert (change.event_type is None) == (change.task.status is before.status)


@given(histories, st.sampled_from(ENDS))
def test_nothing_changes_an_ended_task(
    history: list[tuple[TaskUpdate, Source, bool]], end: Status
) -> None:
    steps = play(task(end, version=3), history)

    assert all(change is None for _, change in steps)


@given(histories)
def test_only_an_ending_after_a_time_out_is_late(
    history: list[tuple[TaskUpdate, Source, bool]],
) -> None:
    steps = play(task(version=0), history)

    for before, change in steps:
        if change and change.event_type:
            assert change.late == (before.version > 0 and before.status is Status.TIMED_OUT)


@given(histories)
def test_an_event_says_what_the_task_was_before(
    history: list[tuple[TaskUpdate, Source, bool]],
) -> None:
    steps = play(task(version=0), history)

    for before, change in steps:
        if change and change.event_type:
            assert change.previous == (before.status if before.version else None)
            assert change.event_type == f"task.{change.task.status}"
            assert (change.task.finished_at is not None) == change.task.status.final


@given(histories)
def test_what_was_told_once_changes_nothing_when_it_is_told_again(
    history: list[tuple[TaskUpdate, Source, bool]],
) -> None:
    steps = play(task(version=0), [step for step in history for _ in range(2)])

    assert all(change is None for _, change in steps[1::2])


# what an update is to a task that has had an event
STEPS = {
    # the same again
    **{(status, status): Verdict.REPEATED for status in Status},
    # forward, also by leaving steps out
    (Status.QUEUED, Status.PROCESSING): Verdict.RECORDED,
    (Status.QUEUED, Status.TIMED_OUT): Verdict.RECORDED,
    (Status.PROCESSING, Status.TIMED_OUT): Verdict.RECORDED,
    **dict.fromkeys(
        product((Status.QUEUED, Status.PROCESSING, Status.TIMED_OUT), ENDS), Verdict.RECORDED
    ),
    # back
    (Status.PROCESSING, Status.QUEUED): Verdict.STALE,
    (Status.TIMED_OUT, Status.QUEUED): Verdict.STALE,
    (Status.TIMED_OUT, Status.PROCESSING): Verdict.STALE,
    **dict.fromkeys(
        product(ENDS, (Status.QUEUED, Status.PROCESSING, Status.TIMED_OUT)), Verdict.STALE
    ),
    # another ending
    **{(one, two): Verdict.CONTRADICTION for one, two in product(ENDS, ENDS) if one is not two},
}


@pytest.mark.parametrize(("before", "after"), list(product(Status, Status)))
def test_every_step_has_its_verdict(before: Status, after: Status) -> None:
    assert judge(task(before), after) is STEPS[before, after]


@pytest.mark.parametrize("status", Status)
def test_a_task_without_an_event_may_start_anywhere(status: Status) -> None:
    assert judge(task(version=0), status) is Verdict.RECORDED


def test_news_without_a_step_makes_no_event() -> None:
    change = advance(
        task(Status.PROCESSING),
        TaskUpdate(Status.PROCESSING, "running", progress=0.4, model="m-1"),
        source=Source.POLL,
        confirmed=True,
        now=NOW,
    )

    assert change is not None
    assert change.event_type is None
    assert (change.task.progress, change.task.model, change.task.version) == (0.4, "m-1", 1)


def test_what_an_update_leaves_out_stays() -> None:
    before = replace(task(), model="m-1", progress=0.5, usage={"seconds": 6})

    change = advance(
        before, TaskUpdate(Status.PROCESSING, ""), source=Source.POLL, confirmed=True, now=NOW
    )

    assert change is not None
    assert (change.task.model, change.task.progress, change.task.usage) == (
        "m-1",
        0.5,
        {"seconds": 6},
    )


def test_success_means_all_of_it_is_done() -> None:
    change = advance(
        replace(task(), progress=0.5),
        TaskUpdate(Status.SUCCEEDED, "Success", progress=0.97),
        source=Source.PUSH,
        confirmed=True,
        now=NOW,
    )

    assert change is not None
    assert change.task.progress == 1.0


def test_an_ending_settles_the_hint() -> None:
    hinted = replace(task(), hint=TaskUpdate(Status.SUCCEEDED, "Success"), hint_at=NOW)

    change = advance(
        hinted, TaskUpdate(Status.FAILED, "Fail"), source=Source.POLL, confirmed=True, now=NOW
    )

    assert change is not None
    assert (change.task.hint, change.task.hint_at) == (None, None)


def test_the_public_picture_holds_no_inner_workings() -> None:
    picture = task_json(replace(task(), hint=TaskUpdate(Status.FAILED, ""), token_id="tok_1"))

    assert set(picture) == {
        *("id", "provider", "provider_task_id", "family", "kind", "model", "status"),
        *("provider_status", "progress", "outputs", "error", "usage", "metadata", "version"),
        *("created_at", "updated_at", "finished_at", "deadline_at", "source", "confirmed"),
        *("rescued_by_poll", "trouble"),
    }


@pytest.mark.parametrize(
    ("interest", "event_type", "provider", "metadata", "expected"),
    [
        pytest.param(Interest(), "task.queued", "minimax", {}, True, id="no condition"),
        pytest.param(Interest(types=("task.*",)), "task.failed", "minimax", {}, True, id="all"),
        pytest.param(Interest(types=("task.failed",)), "task.failed", "x", {}, True, id="exact"),
        pytest.param(Interest(types=("task.failed",)), "task.queued", "x", {}, False, id="other"),
        pytest.param(Interest(types=()), "task.queued", "x", {}, False, id="no type at all"),
        pytest.param(Interest(types=("task.*",)), "delivery.dead", None, {}, False, id="not ours"),
        pytest.param(Interest(), "provider.down", "minimax", {}, False, id="it must be named"),
        pytest.param(
            Interest(types=("provider.*",)), "provider.recovered", "minimax", {}, True, id="family"
        ),
        pytest.param(
            Interest(types=("provider.down",)), "provider.recovered", "x", {}, False, id="the other"
        ),
        pytest.param(
            Interest(types=("provider.*",), providers=("minimax",), metadata={"a": 1}),
            "provider.down",
            "minimax",
            {},
            True,
            id="metadata is of tasks",
        ),
        pytest.param(
            Interest(types=("provider.*",), providers=("minimax",)),
            "provider.down",
            "atlascloud",
            {},
            False,
            id="another provider",
        ),
        pytest.param(
            Interest(types=("delivery.*",), providers=("minimax",)),
            "delivery.dead",
            None,
            {},
            True,
            id="of no provider",
        ),
        pytest.param(
            Interest(types=("delivery.dead",), providers=("minimax",), metadata={"a": 1}),
            *("delivery.dead", None, {}, True),
            id="events about Taskbell have no provider and no metadata",
        ),
        pytest.param(Interest(providers=("minimax",)), "task.queued", "minimax", {}, True, id="p"),
        pytest.param(Interest(providers=("minimax",)), "task.queued", "x", {}, False, id="other p"),
        pytest.param(Interest(providers=()), "task.queued", "x", {}, False, id="no provider"),
        pytest.param(
            Interest(metadata={"a": 1}), "task.queued", "x", {"a": 1, "b": 2}, True, id="among"
        ),
        pytest.param(
            Interest(metadata={"a": None}), "task.queued", "x", {}, False, id="absent is not null"
        ),
    ],
)
def test_a_subscription_gets_what_it_named(
    interest: Interest,
    event_type: str,
    provider: str | None,
    metadata: dict[str, object],
    expected: bool,
) -> None:
    assert wants(interest, event_type, provider, metadata) is expected


def test_the_types_are_those_of_the_contract() -> None:
    assert set(EVENT_TYPES) == {
        *("task.queued", "task.processing", "task.succeeded", "task.failed", "task.canceled"),
        *("task.timed_out", "subscription.disabled", "delivery.dead"),
        *("provider.down", "provider.recovered"),
    }


def test_times_are_utc_with_z() -> None:
    assert rfc3339(datetime.fromisoformat("2026-01-01T13:00:00+01:00")) == (
        "2026-01-01T12:00:00.000000Z"
    )
