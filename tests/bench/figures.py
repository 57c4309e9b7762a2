"""The table's arithmetic: medians of runs, ratios of medians, and whether a goal was reached."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """What one system came to, run by run; without values, missing says why there are none."""

    name: str
    values: tuple[float, ...] = ()
    missing: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Half the distance between the best and the worst run, as a share of the median."""
        if len(self.values) < 2 or not self.median:
            return 0.0
        return (max(self.values) - min(self.values)) / 2 / self.median


@dataclass(frozen=True, slots=True)
class Goal:
    """What a ratio, or a figure that is held against nothing, must reach.

    beyond: reaching it exactly is not enough ("lower than each").
    """

    bound: float
    at_most: bool = False
    beyond: bool = False

    def met(self, value: float) -> bool:
        if value == self.bound:
            return not self.beyond
        return (value < self.bound) is self.at_most

    def missed_by(self, value: float) -> float:
        """As a share of the goal."""
        return abs(value - self.bound) / self.bound


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table. against None: the figure itself has the goal; goal None: only told.

    what names the unit: "durable pushes/s". database is "" where none takes part.
    """

    what: str
    database: str
    ours: Measured
    against: Measured | None = None
    goal: Goal | None = None

    @property
    def complete(self) -> bool:
        return all(each.values for each in (self.ours, self.against) if each)

    @property
    def ratio(self) -> float | None:
        """Ours to theirs; None without theirs, or when theirs is nothing."""
        if self.against is None or not self.complete or not self.against.median:
            return None
        return self.ours.median / self.against.median

    @property
    def reached(self) -> bool | None:
        """None: there is no goal, or it was not measured."""
        value = self._held()
        return None if value is None or self.goal is None else self.goal.met(value)

    @property
    def verdict(self) -> str:
        for each in (self.ours, self.against):
            if each and not each.values:
                return f"not measured: {each.missing}"
        value = self._held()
        if self.goal is None or value is None:
            return ""
        return "reached" if self.reached else f"missed by {percent(self.goal.missed_by(value))}"

    def _held(self) -> float | None:
        if not self.complete:
            return None
        return self.ratio if self.against else self.ours.median


def percent(share: float) -> str:
    return f"{share * 100:,.0f} %"


def at_least(bound: float) -> Goal:
    return Goal(bound)


def more_than(bound: float) -> Goal:
    return Goal(bound, beyond=True)


def at_most(bound: float) -> Goal:
    return Goal(bound, at_most=True)


def below(bound: float) -> Goal:
    return Goal(bound, at_most=True, beyond=True)


def missed(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.reached is False]
