"""The state of a provider, decided from its answers: tables of answers, and what they lead to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from receiver.failures import Blame, Code
from receiver.provider_state import Evidence, Step
from receiver.watch import Heard
from store.events import Failure, Task
from store.provider_states import State

START = datetime(2026, 12, 1, 12, tzinfo=UTC)
BUSY = (Blame.PROVIDER, Code.UNAVAILABLE)
NO_WAY = (Blame.WAY, Code.UNREACHABLE)
FOREIGN = (Blame.WAY, Code.FOREIGN)
SLOW = (Blame.WAY, Code.TIMEOUT)
KEY = (Blame.KEY, Code.KEY_REFUSED)
BALANCE = (Blame.KEY, Code.BALANCE)
OWN = (Blame.TASK, Code.NOT_FOUND)
GOOD = (None, None)

Said = tuple[Blame | None, str | None]


def heard(second: float, said: Said = GOOD, task: str = "one") -> Heard:
    at = START + timedelta(seconds=second)
    asked = Task(task, "minimax", task, START, START, START + timedelta(hours=2))
    blame, code = said
    return Heard(asked, at, blame, Failure(code, f"it said {code}") if code else None)


def steps(evidence: Evidence, *answers: Heard) -> list[Step]:
    return [step for each in answers if (step := evidence.heard(each))]


def states(evidence: Evidence, *answers: Heard) -> list[State]:
    return [step.to for step in steps(evidence, *answers)]


def failures(*seconds: float, said: Said = BUSY, tasks: str = "ab") -> list[Heard]:
    return [heard(at, said, tasks[place % len(tasks)]) for place, at in enumerate(seconds)]


@pytest.mark.parametrize(
    ("answers", "down"),
    [
        pytest.param(failures(0, 15, 30, 45, 60), True, id="five in a minute, of two tasks"),
        pytest.param(failures(0, 15, 30, 45, 59.9), False, id="five within less than a minute"),
        pytest.param(failures(0, 20, 40, 60), False, id="four over a minute"),
        pytest.param(failures(0, 0, 0, 0, 0, 0, 0, 0, 60), True, id="eight at once, and later one"),
        pytest.param(
            [*failures(0, 15, 30, 45), heard(50), *failures(60, 75)], False, id="a good one between"
        ),
        pytest.param(
            [*failures(0, 15, 30, 45), heard(50, OWN), *failures(60, 75)],
            False,
            id="one between that says the provider is there",
        ),
        pytest.param([heard(15 * n, OWN) for n in range(20)], False, id="a task's own failures"),
        pytest.param(failures(0, 15, 30, 45, 60, said=FOREIGN), True, id="a gateway's answers"),
        pytest.param(failures(0, 15, 30, 45, 60, said=SLOW), True, id="no answer in time"),
    ],
)
def test_a_provider_is_down_after_five_failed_answers_over_a_minute(
    answers: list[Heard], down: bool
) -> None:
    assert (State.DOWN in states(Evidence(State.OK), *answers)) is down


@pytest.mark.parametrize(
    ("said", "alone_is_enough"),
    [
        (KEY, True),
        (BALANCE, True),
        (NO_WAY, True),
        (BUSY, False),
        (FOREIGN, False),
        (SLOW, False),
        ((Blame.PROVIDER, Code.RATE_LIMITED), False),
        ((Blame.WAY, Code.NOT_JSON), False),
    ],
)
def test_what_concerns_every_task_counts_with_one(said: Said, alone_is_enough: bool) -> None:
    [step] = steps(Evidence(State.OK), *failures(0, 15, 30, 45, 60, said=said, tasks="a"))

    assert step.to is State.DOWN
    assert step.lone_task == (None if alone_is_enough else "a")
    assert step.reason == Failure(str(said[1]), f"it said {said[1]}")


def test_the_store_is_asked_now_and_then_whether_the_failing_task_is_alone() -> None:
    evidence = Evidence(State.OK)
    [step] = steps(evidence, *failures(0, 15, 30, 45, 60, tasks="a"))
    evidence.state = State.OK  # the store knows of another open task

    assert step.lone_task == "a"
    assert states(evidence, *failures(61, 70, tasks="a")) == []
    assert states(evidence, *failures(76, tasks="a")) == [State.DOWN]


@pytest.mark.parametrize("answer", [GOOD, OWN], ids=["a status", "this task's own failure"])
def test_the_first_good_answer_ends_it(answer: Said) -> None:
    evidence = Evidence(State.OK)
    steps(evidence, *failures(*range(0, 200, 10)))

    assert states(evidence, heard(201, answer)) == [State.OK]
    assert states(evidence, heard(202), *failures(203), heard(204)) == []


def test_a_state_that_another_process_may_have_changed_is_written_with_the_next_answer() -> None:
    evidence = Evidence(State.OK)
    steps(evidence, heard(0))
    evidence.forget_state()

    [step] = steps(evidence, heard(1), heard(2))

    assert step == Step(State.OK, frozenset({State.DEGRADED}))


def test_failures_before_another_process_polled_do_not_count() -> None:
    evidence = Evidence(State.OK)
    steps(evidence, *failures(0, 15, 30, 45))
    evidence.forget_state()

    assert states(evidence, *failures(60, 75)) == []


@pytest.mark.parametrize(
    ("failed", "of", "degraded"),
    [
        (2, 10, False),
        (3, 10, True),
        (3, 9, False),
        (20, 100, False),
        (21, 100, True),
        (0, 50, False),
    ],
)
def test_a_provider_is_degraded_when_over_a_fifth_fails(
    failed: int, of: int, degraded: bool
) -> None:
    every = of // failed if failed else of + 1
    bad = {place for place in range(of) if place % every == every - 1}
    bad = set(sorted(bad)[:failed])
    evidence = Evidence(State.OK)

    found = states(evidence, *(heard(n, BUSY if n in bad else GOOD) for n in range(of)))

    assert (found == [State.DEGRADED]) is degraded


def test_degraded_ends_at_a_tenth_and_not_before() -> None:
    evidence = Evidence(State.OK)
    begun = steps(evidence, *(heard(n, BUSY if n % 3 == 0 else GOOD) for n in range(12)))

    ended = [n for n in range(12, 60) if evidence.heard(heard(n))]

    [step] = begun
    assert (step.to, step.reason) == (
        State.DEGRADED,
        Failure("unavailable", "4 of the last 10 polls failed; the last one: it said unavailable"),
    )
    assert ended == [39]  # 4 of 40


def test_failures_of_more_than_ten_minutes_ago_are_forgotten() -> None:
    evidence = Evidence(State.OK)
    steps(evidence, *(heard(n, BUSY if n == 8 else GOOD) for n in range(9)))

    assert states(evidence, heard(700, BUSY), *(heard(701 + n) for n in range(12))) == []


def test_degraded_becomes_down_and_is_over_with_the_first_good_answer() -> None:
    evidence = Evidence(State.OK)
    mixed = [heard(n, BUSY if n % 2 else GOOD) for n in range(20)]

    assert states(evidence, *mixed, *failures(*range(30, 120, 10)), heard(130)) == [
        State.DEGRADED,
        State.DOWN,
        State.OK,
    ]


def test_another_reason_while_it_is_down_is_told() -> None:
    evidence = Evidence(State.OK)
    steps(evidence, *failures(0, 15, 30, 45, 60, said=NO_WAY))

    [step] = steps(evidence, heard(70, NO_WAY), heard(80, KEY), heard(90, KEY))

    assert step.to is State.DOWN
    assert step.reason == Failure("key_refused", "it said key_refused")


def test_a_clock_that_is_set_back_makes_nothing_down() -> None:
    evidence = Evidence(State.OK)

    assert states(evidence, *failures(100, 90, 80, 10, 0, -3600)) == []
