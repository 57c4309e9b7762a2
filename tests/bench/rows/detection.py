"""Detection: how long an ending lies unnoticed, and how many questions a task takes.

In virtual time, with the poller's own plans and what the store learns, against the loops in the
providers' documents: ask at once, then every 5 s (video) or 2 s (image). That is also the pace of a
model nobody knows yet; each model starts so, and its first tasks are learned from, not counted.
How far the delay can fall depends on how much a model's durations vary: evenly spread over their
whole range, half of it is out of reach for any plan. By itself this file prints more spreads.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from receiver.pacing import Plans
from receiver.provider import Provider, providers
from store.durations import Durations, Ending, model_of
from store.events import Kind, Task
from tests.bench.bench import Bench
from tests.bench.figures import Goal, Line, Measured, at_most
from tests.bench.row import Row

Draw = Callable[[random.Random, float], float]
"""A task's duration in seconds. The number tells how far the run has come, from 0 to 1."""

_START = datetime(2026, 1, 1, tzinfo=UTC)
_LEARNED_FROM = 100
_REFRESHED_EVERY = 20  # tasks; the poller reads what was learned once a minute


@dataclass(frozen=True, slots=True)
class Case:
    """Models of one kind whose durations vary alike. goal: of their delay, to the loop's."""

    name: str
    kind: Kind
    models: tuple[Draw, ...]
    goal: Goal | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """One task: seconds until its ending was noticed, questions asked."""

    delay: float
    questions: int


@dataclass(frozen=True, slots=True)
class Compared:
    """The same tasks, as the fixed loop found them and as the learned plans did."""

    loop: tuple[Found, ...]
    plan: tuple[Found, ...]


def around(median: float, spread: float) -> Draw:
    """Log-normal; spread: the standard deviation of the logarithm."""
    return lambda dice, _: median * math.exp(dice.gauss(0, spread))


def evenly(least: float, most: float) -> Draw:
    return lambda dice, _: dice.uniform(least, most)


def changing(median: float, spread: float) -> Draw:
    """Half as long from the middle of the run on, and as before for its last quarter."""

    def draw(dice: random.Random, part: float) -> float:
        slower = part < 0.5 or part >= 0.75
        return (median if slower else median / 2) * math.exp(dice.gauss(0, spread))

    return draw


def _kinds(spread: float, goal: Goal | None = None) -> tuple[Case, Case]:
    video = tuple(around(median, spread) for median in (40, 60, 90, 140))
    image = tuple(around(median, spread) for median in (3, 5, 8))
    return (
        Case(f"video ±{spread:.0%}", Kind.VIDEO, video, goal),
        Case(f"image ±{spread:.0%}", Kind.IMAGE, image, goal),
    )


HALF = at_most(0.5)
CASES = (
    *_kinds(0.15, HALF),
    *_kinds(0.25, HALF),
    Case("video evenly 30-180 s", Kind.VIDEO, (evenly(30, 180),)),
    Case("image evenly 2-10 s", Kind.IMAGE, (evenly(2, 10),)),
    Case("video that changes", Kind.VIDEO, (changing(90, 0.15),)),
)
MORE = (*_kinds(0.1, HALF), *CASES, *_kinds(0.4, HALF))


class Detection:
    name = "detection"
    about = "seconds from a task's end to its discovery, and questions a task, in virtual time"

    def measure(self, bench: Bench) -> Iterator[Line]:
        worst = 0.0
        for case in CASES:
            runs = [compare(case, seed, bench.size(1_000, 200)) for seed in range(bench.runs)]
            worst = max(worst, *map(most, runs))
            yield _line(f"delay s, {case.name}", runs, mean_delay, case.goal)
            yield _line(f"polls, {case.name}", runs, questions, at_most(1))
        ours = Measured("taskbell", (worst,))
        yield Line("most polls of a task to its loop's", "", ours, goal=at_most(1))


def _line(
    what: str,
    runs: Sequence[Compared],
    figure: Callable[[Sequence[Found]], float],
    goal: Goal | None = None,
) -> Line:
    ours = Measured("taskbell", tuple(figure(run.plan) for run in runs))
    return Line(
        what, "", ours, Measured("fixed loop", tuple(figure(run.loop) for run in runs)), goal
    )


def mean_delay(found: Sequence[Found]) -> float:
    return statistics.fmean(each.delay for each in found)


def late_delay(found: Sequence[Found]) -> float:
    """The delay that one in twenty exceeds."""
    return statistics.quantiles((each.delay for each in found), n=20)[-1]


def questions(found: Sequence[Found]) -> float:
    return statistics.fmean(each.questions for each in found)


def most(run: Compared) -> float:
    """Of all tasks, the most questions for one that took the loop one."""
    pairs = zip(run.plan, run.loop, strict=True)
    return max(plan.questions / loop.questions for plan, loop in pairs)


def compare(case: Case, seed: int, count: int) -> Compared:
    """So many tasks of each model, asked about by the fixed loop and by what is learned."""
    loop: list[Found] = []
    plan: list[Found] = []
    for number, draw in enumerate(case.models):
        dice = random.Random(f"{seed} {number}")
        durations = [draw(dice, task / count) for task in range(count)]
        asked = _Asked(providers()["atlascloud"], case.kind)
        plan += [asked.about(duration) for duration in durations][_LEARNED_FROM:]
        loop += [asked.looped(duration) for duration in durations][_LEARNED_FROM:]
    return Compared(tuple(loop), tuple(plan))


class _Asked:
    """One model's tasks, asked about one after the other, with what was learned of those before."""

    def __init__(self, provider: Provider, kind: Kind) -> None:
        self._provider = provider
        self._task = Task("task_1", provider.name, "1", _START, _START, _START, kind=kind)
        self._model = model_of(self._task)
        self._durations, self._plans, self._tasks = Durations(), Plans({}), 0

    def about(self, duration: float) -> Found:
        """Ask until it has ended, and learn from it."""
        if self._tasks % _REFRESHED_EVERY == 0:
            self._plans = Plans({self._model: self._durations})
        self._tasks += 1
        ages = self._ages(duration, self._planned)
        ending = Ending(self._model, ages[-2] if len(ages) > 1 else 0.0, ages[-1])
        self._durations = self._durations.taught([ending])
        return Found(ages[-1] - duration, len(ages))

    def looped(self, duration: float) -> Found:
        """Ask as the documents say."""
        ages = self._ages(duration, self._loop)
        return Found(ages[-1] - duration, len(ages))

    def _ages(self, duration: float, wait: Callable[[float, int], float]) -> list[float]:
        """When it is asked about, until it has ended."""
        ages = [wait(0.0, 0)]
        while ages[-1] < duration:
            ages.append(ages[-1] + wait(ages[-1], len(ages)))
        return ages

    def _planned(self, age: float, asked: int) -> float:
        now = _START + timedelta(seconds=age)
        if not asked:
            early = self._plans.too_early(self._provider, self._task, now)
            return early.total_seconds() if early else 0.0
        wait = self._plans.wait(self._provider, self._task, now, asked)
        return wait.total_seconds() if wait else self._loop(age, asked)

    def _loop(self, age: float, asked: int) -> float:
        now = _START + timedelta(seconds=age)
        return self._provider.pace(self._task, now).total_seconds() if asked else 0.0


def main() -> None:
    print(f"{'':24}delay s: loop  plan ratio   p95: loop  plan   polls: loop  plan ratio  most")
    for case in MORE:
        run = compare(case, 0, 1_000)
        delay, late, asked = (
            (figure(run.loop), figure(run.plan)) for figure in (mean_delay, late_delay, questions)
        )
        print(
            f"{case.name:24}{delay[0]:13.2f}{delay[1]:6.2f}{delay[1] / delay[0]:6.2f}"
            f"{late[0]:12.2f}{late[1]:6.2f}"
            f"{asked[0]:14.2f}{asked[1]:6.2f}{asked[1] / asked[0]:6.2f}{most(run):6.2f}"
        )


ROW: Row = Detection()

if __name__ == "__main__":
    main()
