"""The arithmetic of tests/bench: medians, ratios, goals, and how they are written."""

from __future__ import annotations

import pytest

from tests.bench.bench import Bench
from tests.bench.figures import Goal, Line, Measured, at_least, at_most, below, more_than
from tests.bench.system import Broken, Unavailable
from tests.bench.table import goal, grouped, in_markdown, written

BARE = Measured("bare", (2_000.0, 1_000.0, 1_100.0))


def line(*ours: float, wanted: Goal | None = None, against: Measured | None = BARE) -> Line:
    return Line("pushes/s", "sqlite", Measured("taskbell", ours), against, wanted)


def test_a_ratio_is_one_of_medians_and_not_of_lucky_runs() -> None:
    assert line(330.0, 9_000.0, 10.0).ratio == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("wanted", "value", "verdict"),
    [
        (at_least(0.3), 0.3, "reached"),
        (at_least(0.3), 0.24, "missed by 20 %"),
        (more_than(6), 6.0, "missed by 0 %"),
        (more_than(6), 6.1, "reached"),
        (at_most(1.2), 1.2, "reached"),
        (at_most(1.2), 1.5, "missed by 25 %"),
        (below(200), 200.0, "missed by 0 %"),
        (below(200), 199.0, "reached"),
    ],
)
def test_a_goal_is_reached_or_missed_by_a_share_of_it(
    wanted: Goal, value: float, verdict: str
) -> None:
    one = Measured("one", (1.0,))

    assert line(value, wanted=wanted, against=one).verdict == verdict
    assert line(value, wanted=wanted, against=None).verdict == verdict


def test_what_could_not_be_measured_is_named_with_its_reason() -> None:
    away = Measured("celery", missing="no Redis")
    shown = line(330.0, wanted=at_least(6), against=away)

    assert shown.reached is None
    assert written(shown)[3:] == ("celery", "–", "", "≥ 6 ×", "not measured: no Redis")


def test_a_figure_without_a_goal_is_only_told() -> None:
    assert written(line(330.0, against=None))[2:] == ("330", "", "", "", "", "")


def test_nothing_to_compare_with_makes_no_ratio() -> None:
    assert line(330.0, wanted=at_least(1), against=Measured("none", (0.0,))).verdict == ""


def test_a_noisy_figure_says_so() -> None:
    assert written(line(900.0, 1_000.0, 1_100.0))[2] == "1,000 ± 10 %"


def test_signs_of_goals() -> None:
    signs = [goal(wanted(2), times=True) for wanted in (at_least, more_than, at_most, below)]

    assert signs == ["≥ 2 ×", "> 2 ×", "≤ 2 ×", "< 2 ×"]


def test_a_table_says_a_question_once() -> None:
    first, second, third = grouped([("a", "b", "1", "x"), ("a", "b", "1", "y"), ("a", "c", "1")])

    assert (first[:3], second, third[:2]) == (("a", "b", "1"), ("", "", "", "y"), ("a", "c"))


def test_the_markdown_has_a_row_for_each_line() -> None:
    table = in_markdown([line(330.0, wanted=at_least(0.2)), line(330.0)])

    assert table.splitlines()[2] == (
        "| pushes/s | sqlite | 330 | bare | 1,100 ± 45 % | 0.3 × | ≥ 0.2 × | reached |"
    )
    assert len(table.splitlines()) == 4


def test_systems_measure_in_turns_and_the_broken_get_no_other_turn() -> None:
    turns: list[str] = []

    def take(name: str) -> float:
        turns.append(name)
        if name == "absent":
            raise Unavailable("not installed")
        if name == "broken":
            raise Broken("3 of 4 came\nand a long log")
        return float(len(turns))

    bench = Bench(quick=True, runs=2, engines=())
    found = bench.measured(
        {name: lambda name=name: take(name) for name in ("us", "absent", "broken", "them")}  # type: ignore[misc]
    )

    assert turns == ["us", "absent", "broken", "them", "us", "them"]
    assert found["us"].values == (1.0, 5.0)
    assert found["absent"].missing == "not installed"
    assert found["broken"].missing == "3 of 4 came"
