"""When to ask next: never oftener than the provider's own loop, and where endings are likely."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from statistics import fmean, quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.pacing import ENOUGH, Pace, Plan, Plans, make_plan
from receiver.provider import providers
from store.durations import EDGES, Durations, Ending, Model
from store.events import Kind, Task
from tests.conftest import START

ATLAS = providers()["atlascloud"]
VIDEO = Model("atlascloud", "hailuo", "video")

HISTOGRAMS = st.dictionaries(st.integers(0, 75), st.floats(0.001, 100), min_size=1, max_size=12)
"""Up to ten minutes: longer ones take long to plan."""
PACES = st.builds(lambda first, growth: (first, first + growth), st.floats(1, 10), st.floats(0, 20))


def histogram(weights: dict[int, float]) -> Durations:
    """At least as much as a plan needs, whatever is lost in rounding."""
    enough = ENOUGH * 1.001
    counts = tuple(weights.get(bucket, 0.0) for bucket in range(len(EDGES) - 1))
    return Durations(tuple(count * enough / min(sum(counts), enough) for count in counts))


def growing(first: float, last: float) -> Pace:
    """A loop that slows down from one wait to the other within ten minutes."""
    return lambda age: first + (last - first) * min(age / 600, 1)


def every(seconds: float) -> Pace:
    return lambda _age: seconds


def around(*medians: float, spread: float = 0.15, count: int = 120) -> list[float]:
    dice = random.Random(0)
    return [
        medians[number % len(medians)] * math.exp(dice.gauss(0, spread)) for number in range(count)
    ]


def taught(durations: Sequence[float]) -> Durations:
    return Durations().taught([Ending(VIDEO, each, each) for each in durations])


def planned(durations: Sequence[float], pace: Pace) -> Plan:
    plan = make_plan(taught(durations), pace)
    assert plan is not None
    return plan


def asked_at(plan: Plan, pace: Pace, until: float, lags: Sequence[float] = (0.0,)) -> list[float]:
    """The ages at which a task is asked about that stays open until then."""
    ages = [plan.ages[0] + lags[0]]
    while ages[-1] < until:
        wait = plan.wait(ages[-1], len(ages), pace(ages[-1]))
        ages.append(ages[-1] + wait + lags[len(ages) % len(lags)])
    return ages


def looped(pace: Pace, count: int) -> list[float]:
    ages = [0.0]
    while len(ages) < count:
        ages.append(ages[-1] + pace(ages[-1]))
    return ages


def noticed(ages: Sequence[float], durations: Sequence[float]) -> tuple[float, float]:
    """The mean delay, and the mean number of questions."""
    first = [next(place for place, age in enumerate(ages) if age >= each) for each in durations]
    delays = (ages[place] - each for place, each in zip(first, durations, strict=True))
    return fmean(delays), fmean(place + 1 for place in first)


class TestTheBound:
    @given(weights=HISTOGRAMS, waits=PACES, lags=st.lists(st.floats(0, 30), min_size=1, max_size=9))
    def test_at_no_age_has_it_asked_oftener_than_the_loop(
        self, weights: dict[int, float], waits: tuple[float, float], lags: list[float]
    ) -> None:
        pace = growing(*waits)
        plan = make_plan(histogram(weights), pace)
        assert plan is not None

        ages = asked_at(plan, pace, until=plan.ages[-1] + 60, lags=lags)

        pairs = zip(ages, looped(pace, len(ages)), strict=True)
        assert all(age >= loop - 1e-6 for age, loop in pairs)

    @given(
        weights=HISTOGRAMS,
        waits=PACES,
        age=st.floats(0, 10_000),
        asked=st.integers(1, 10_000),
    )
    def test_whatever_was_asked_before_the_next_wait_is_bearable(
        self, weights: dict[int, float], waits: tuple[float, float], age: float, asked: int
    ) -> None:
        pace = growing(*waits)
        plan = make_plan(histogram(weights), pace)
        assert plan is not None

        wait = plan.wait(age, asked, pace(age))

        later = [each - age for each in plan.ages if each > age]
        assert wait >= max(0.5, waits[0] / 5)
        assert wait <= max(pace(age), *later[:2], 0.0) + 1e-6

    @given(weights=HISTOGRAMS, waits=PACES)
    def test_questions_come_in_order_and_not_too_close(
        self, weights: dict[int, float], waits: tuple[float, float]
    ) -> None:
        plan = make_plan(histogram(weights), growing(*waits))

        assert plan is not None
        assert all(after - before > plan.least - 1e-6 for before, after in pairwise(plan.ages))

    def test_questions_that_a_task_had_already_are_counted(self) -> None:
        plan = planned(around(80), every(5))

        # the loop has asked 13 times by then: who did, too, waits for its 14th
        assert plan.wait(60, 13, 5) == pytest.approx(5)
        assert plan.wait(60, 2, 5) == pytest.approx(min(age for age in plan.ages if age > 60) - 60)

    def test_a_task_that_outlives_what_was_learned_is_asked_at_the_loops_pace(self) -> None:
        plan = planned(around(80), every(5))

        late = [age for age in asked_at(plan, every(5), until=1_000) if age > 200]

        assert {round(after - before, 6) for before, after in pairwise(late)} == {5.0}


class TestWhereItAsks:
    def test_first_where_the_first_end_then_dense_then_thin(self) -> None:
        durations = around(80)
        tenths = quantiles(durations, n=10)
        plan = planned(durations, every(5))

        at_once, *looks = plan.ages
        in_the_middle = [age for age in looks if tenths[2] <= age <= tenths[6]]
        assert at_once == 0
        assert tenths[0] * 0.8 <= next(age for age in looks if age > 30) <= tenths[1]
        assert len(in_the_middle) > 1.5 * (tenths[6] - tenths[2]) / 5
        assert max(after - before for before, after in pairwise(in_the_middle)) < 3

    def test_a_fast_model_is_not_asked_about_at_once(self) -> None:
        plan = planned(around(5), every(2))

        assert 3 < plan.ages[0] < 5

    def test_between_two_usual_durations_it_hardly_asks(self) -> None:
        plan = planned(around(40, 140), every(5))

        before = [age for age in plan.ages if 30 <= age <= 50]
        between = [age for age in plan.ages if 65 <= age <= 95]
        after = [age for age in plan.ages if 120 <= age <= 150]

        assert len(between) < 3 < min(len(before), len(after))

    @pytest.mark.parametrize(
        ("medians", "seconds", "share"),
        [
            pytest.param([80], 5, 0.6, id="a video"),
            pytest.param([5], 2, 0.5, id="an image"),
            pytest.param([3], 2, 0.5, id="a fast image"),
            pytest.param([40, 140], 5, 0.75, id="two usual durations"),
        ],
    )
    def test_endings_are_noticed_sooner_with_fewer_questions(
        self, medians: list[float], seconds: float, share: float
    ) -> None:
        durations = around(*medians, count=4_000)
        plan = planned(durations[:120], every(seconds))

        ages = asked_at(plan, every(seconds), until=max(durations))
        loop = looped(every(seconds), 500)

        delay, questions = noticed(ages, durations)
        loops_delay, loops_questions = noticed(loop, durations)
        assert delay < share * loops_delay
        assert questions < 0.9 * loops_questions

    @given(durations=st.lists(st.floats(1, 500), min_size=8, max_size=30))
    def test_what_was_learned_is_noticed_hardly_later_than_by_the_loop(
        self, durations: list[float]
    ) -> None:
        """Few endings say little, so a plan made from them may be a little worse than none."""
        plan = planned(durations, every(5))

        delay, _ = noticed(asked_at(plan, every(5), until=500), durations)

        assert delay < 5


class TestPlans:
    def test_too_few_endings_are_not_acted_on(self) -> None:
        assert make_plan(taught(around(80, count=7)), every(5)) is None
        assert make_plan(taught(around(80, count=9)), every(5)) is not None

    def test_nothing_is_said_about_a_model_nobody_knows(self) -> None:
        plans = Plans({VIDEO: taught(around(80))})
        other = _task(model="other")

        assert plans.wait(ATLAS, other, START, 1) is None
        assert plans.too_early(ATLAS, other, START) is None

    def test_a_known_models_task_waits_for_its_first_tasks_to_end(self) -> None:
        plans = Plans({VIDEO: taught(around(80))})

        waits = [plans.wait(ATLAS, _task(), START + timedelta(seconds=30), 2)]

        assert timedelta(seconds=20) < (waits[0] or timedelta(0)) < timedelta(seconds=40)

    def test_only_a_task_nobody_asked_about_can_be_too_early(self) -> None:
        model = Model("atlascloud", "", "image")
        plans = Plans({model: taught(around(5))})
        fresh = _task(model=None, kind=Kind.IMAGE)
        asked = _task(model=None, kind=Kind.IMAGE, polls=1)

        early = plans.too_early(ATLAS, fresh, START)

        assert early is not None
        assert timedelta(seconds=3) < early < timedelta(seconds=5)
        assert plans.too_early(ATLAS, fresh, START + early) is None
        assert plans.too_early(ATLAS, asked, START) is None

    def test_a_slow_models_task_is_asked_about_at_once(self) -> None:
        plans = Plans({VIDEO: taught(around(80))})

        assert plans.too_early(ATLAS, _task(), START) is None


def _task(*, model: str | None = "hailuo", kind: Kind = Kind.VIDEO, polls: int = 0) -> Task:
    return Task(
        *("task_1", ATLAS.name, "t1", START, START, START),
        model=model,
        kind=kind,
        polls=polls,
    )
