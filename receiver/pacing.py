"""When to ask about a task next, going by how long its model's tasks took so far. Pure.

Asking costs a question, not asking costs the seconds a result lies there unnoticed. For a number of
questions the mean delay is least when their density follows the square root of the hazard (the
chance that a task which is still open ends now): the first one where the first tasks end, dense
around the median, thin in the tail. How dense is tried out: the plan with the least expected delay
wins, among those that at no age have asked more often than the provider's own loop would have.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from receiver.provider import Provider
from store.durations import EDGES, Durations, Model, model_of
from store.events import Task

Pace = Callable[[float], float]
"""A provider's own loop: a task's age in seconds, to the seconds until the next question."""

ENOUGH = 8.0
"""Endings; what fewer of them say is not acted on."""

_SURPRISE = 0.01  # of the tasks may end at any age, whatever was learned
_COVERED = 0.995  # of the tasks; who takes longer is asked at the provider's pace
_LOOK_FROM = 10.0  # seconds; only when the first question comes later, there is one at once
_SHARES = tuple(0.25 * 1.12**step for step in range(18))  # of the loop's questions, to be tried
_PRICE = 0.003  # of a question, in waits of the loop: what saves less delay is not asked
_LEAST_WAIT = 0.5
_SWEEPS, _TRIES = 3, 8


@dataclass(frozen=True, slots=True)
class Plan:
    """ages: when to ask, in seconds. loop: when the provider's own loop would have, as far as that.

    least: the shortest wait.
    """

    ages: tuple[float, ...]
    loop: tuple[float, ...]
    least: float

    def wait(self, age: float, asked: int, usual: float) -> float:
        """Seconds until the next question. asked: questions so far; usual: the loop's wait now."""
        position = bisect_right(self.ages, age + self.least / 2)  # what is that near is this one
        if position == len(self.ages):
            return usual
        allowed = self.loop[asked] - age if asked < len(self.loop) else usual
        return max(self.ages[position] - age, min(allowed, usual), self.least)


def make_plan(learned: Durations, pace: Pace) -> Plan | None:
    """The best plan for a model, or None while too little is known of it."""
    if learned.total < ENOUGH:
        return None
    curve = _Curve.of(learned)
    loop = tuple(_loop(pace, _age_when(_COVERED, learned)))
    least = max(pace(0) / 5, _LEAST_WAIT)
    price = _PRICE * pace(0)
    rated = curve.questions(loop) / sum(piece.weight for piece in curve.pieces)
    plans = [_placed(curve, share * rated, loop, least) for share in _SHARES]
    best = min(plans, key=lambda ages: curve.delay(ages) + price * curve.questions(ages))
    for _ in range(_SWEEPS):
        _settle(curve, best, loop, least)
    return Plan(tuple(best), loop, least)


def _loop(pace: Pace, until: float) -> Iterator[float]:
    """The ages at which the provider's own loop asks; it begins at once."""
    age = 0.0
    while age < until:
        yield age
        age += pace(age)
    yield age


def _placed(curve: _Curve, scale: float, loop: Sequence[float], least: float) -> list[float]:
    """Questions in the proportions of the hazard, none earlier than the loop's of that number."""
    ages = _dense(curve, scale, loop, least, ())
    if ages[0] > _LOOK_FROM:
        # one at once tells of tasks that had ended long ago when they were registered
        ages = _dense(curve, scale, loop, least, (0.0,))
    return ages


def _dense(
    curve: _Curve, scale: float, loop: Sequence[float], least: float, looks: Sequence[float]
) -> list[float]:
    ages, due, until = list(looks), 0.0, loop[-1]
    for piece in curve.pieces:
        rate = scale * math.sqrt(piece.hazard)
        at = max(piece.start, ages[-1] if ages else 0.0)
        while at < min(piece.end, until):
            wait = (1 - due) / rate
            if at + wait > piece.end:
                due += rate * (piece.end - at)
                break
            at = max(at + wait, loop[len(ages)], ages[-1] + least if ages else 0.0)
            ages.append(at)
            due = 0.0
    return ages if ages and ages[-1] > until - least else [*ages, until]


def _settle(curve: _Curve, ages: list[float], loop: Sequence[float], least: float) -> None:
    """Move each question to where it saves most delay between its neighbours."""
    for place in range(1, len(ages) - 1):
        before, after = ages[place - 1], ages[place + 1]
        first, last = max(loop[place], before + least), after - least
        if first >= last:
            continue
        ended = curve.ended(before)
        tries = (first + (last - first) * step / _TRIES for step in range(_TRIES + 1))
        ages[place] = max(tries, key=lambda age: (curve.ended(age) - ended) * (after - age))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of ages in which tasks end evenly. ended: the share of all that has, at its start.

    area: the integral of that share up to here.
    """

    start: float
    end: float
    density: float
    ended: float
    area: float

    @property
    def open(self) -> float:
        return 1 - self.ended - self.density * (self.end - self.start) / 2

    @property
    def hazard(self) -> float:
        return self.density / max(self.open, 1e-6)

    @property
    def weight(self) -> float:
        """The questions that one task brings here, at a density of the square root of the hazard."""
        return math.sqrt(self.density * max(self.open, 0.0)) * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class _Curve:
    """How the share of ended tasks grows with their age."""

    pieces: tuple[_Piece, ...]

    @classmethod
    def of(cls, learned: Durations) -> _Curve:
        counts = _smoothed(learned.counts)
        total = sum(counts)
        surprise = max(_SURPRISE, 1 / total) / len(counts)
        weights = [count / total + surprise for count in counts]
        whole = sum(weights)
        pieces, ended, area = [], 0.0, 0.0
        for start, end, weight in zip(EDGES, EDGES[1:], weights, strict=False):
            share, width = weight / whole, end - start
            pieces.append(_Piece(start, end, share / width, ended, area))
            area += width * (ended + share / 2)
            ended += share
        return cls(tuple(pieces))

    def ended(self, age: float) -> float:
        piece = self._piece(age)
        return min(piece.ended + piece.density * (age - piece.start), 1.0)

    def questions(self, ages: Sequence[float]) -> float:
        """How many of these questions a task brings, on average."""
        return 1 + sum(1 - self.ended(age) for age in ages[:-1])

    def delay(self, ages: Sequence[float]) -> float:
        """How many seconds an ending waits for the next of these questions, on average."""
        return sum(
            self._area(end) - self._area(start) - self.ended(start) * (end - start)
            for start, end in zip((0.0, *ages), ages, strict=False)
        )

    def _area(self, age: float) -> float:
        piece = self._piece(age)
        beyond = age - piece.start
        return piece.area + beyond * (piece.ended + piece.density * beyond / 2)

    def _piece(self, age: float) -> _Piece:
        return self.pieces[min(bisect_right(EDGES, age), len(self.pieces)) - 1]


def _smoothed(counts: Sequence[float]) -> list[float]:
    """Each count shared with its neighbours: few endings say little about a single bucket."""
    padded = (0.0, *counts, 0.0)
    return [
        (low + 2 * count + high) / 4
        for low, count, high in zip(padded, counts, padded[2:], strict=False)
    ]


def _age_when(share: float, learned: Durations) -> float:
    """The age at which this share of the learned tasks had ended."""
    left = share * learned.total
    for end, count in zip(EDGES[1:], learned.counts, strict=True):
        left -= count
        if left <= 0:
            return end
    return EDGES[-1]


class Plans:
    """The plans for what was learned, each made when it is first needed."""

    def __init__(self, learned: Mapping[Model, Durations]) -> None:
        self._learned = learned
        self._made: dict[Model, Plan | None] = {}

    def wait(self, provider: Provider, task: Task, now: datetime, asked: int) -> timedelta | None:
        """The wait before the next question, after `asked` of them; None: nothing is known."""
        plan = self._of(provider, task)
        if plan is None:
            return None
        age, usual = _seconds(now - task.created_at), _seconds(provider.pace(task, now))
        return timedelta(seconds=plan.wait(age, asked, usual))

    def too_early(self, provider: Provider, task: Task, now: datetime) -> timedelta | None:
        """How long to leave a task alone that nobody has asked about; None: ask."""
        plan = self._of(provider, task)
        wait = plan.ages[0] - _seconds(now - task.created_at) if plan and not task.polls else 0.0
        return timedelta(seconds=wait) if wait > 0 else None

    def _of(self, provider: Provider, task: Task) -> Plan | None:
        model = model_of(task)
        if model not in self._made and model in self._learned:

            def pace(age: float) -> float:
                return _seconds(provider.pace(task, task.created_at + timedelta(seconds=age)))

            self._made[model] = make_plan(self._learned[model], pace)
        return self._made.get(model)


def _seconds(span: timedelta) -> float:
    return span.total_seconds()
