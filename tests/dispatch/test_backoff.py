from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.backoff import next_delay

SCHEDULE = [timedelta(seconds=seconds) for seconds in (5, 300, 1800)]
DAY = timedelta(hours=24)

schedules = st.lists(
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=30)), min_size=1, max_size=12
)
dice = st.floats(min_value=0.0, max_value=1.0)


@pytest.mark.parametrize(
    ("failures", "dice", "seconds"),
    [
        pytest.param(1, 0.5, 5, id="the first wait, dice in the middle"),
        pytest.param(2, 0.5, 300, id="the second wait"),
        pytest.param(3, 0.5, 1800, id="the last wait"),
        pytest.param(2, 0.0, 240, id="a fifth shorter"),
        pytest.param(2, 1.0, 360, id="a fifth longer"),
    ],
)
def test_the_wait_follows_the_schedule(failures: int, dice: float, seconds: int) -> None:
    delay = next_delay(SCHEDULE, failures, lambda: dice)

    assert delay == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(timedelta(seconds=60), timedelta(seconds=60), id="longer than the schedule"),
        pytest.param(timedelta(seconds=1), timedelta(seconds=5), id="shorter never hurries us"),
        pytest.param(timedelta(days=9), DAY, id="cut at a day"),
        pytest.param(timedelta(seconds=-5), timedelta(seconds=5), id="negative"),
    ],
)
def test_retry_after_makes_a_wait_longer_up_to_a_day(asked: timedelta, expected: timedelta) -> None:
    assert next_delay(SCHEDULE, 1, lambda: 0.5, asked) == expected


def test_a_used_up_schedule_stays_used_up_whatever_the_receiver_asks() -> None:
    assert next_delay(SCHEDULE, 4, lambda: 0.5, timedelta(seconds=60)) is None
    assert next_delay([], 1, lambda: 0.5) is None


@pytest.mark.parametrize("failures", [0, -1])
def test_failures_count_from_one(failures: int) -> None:
    with pytest.raises(ValueError, match="from 1"):
        next_delay(SCHEDULE, failures, lambda: 0.5)


@given(schedule=schedules, dice=dice, data=st.data())
def test_jitter_stays_within_a_fifth(
    schedule: list[timedelta], dice: float, data: st.DataObject
) -> None:
    failures = data.draw(st.integers(1, len(schedule)))
    planned = schedule[failures - 1]
    rounding = timedelta(microseconds=1)

    delay = next_delay(schedule, failures, lambda: dice)

    assert delay is not None
    assert planned * 0.8 - rounding <= delay <= planned * 1.2 + rounding


@given(schedule=schedules, dice=dice, asked=st.timedeltas())
def test_retry_after_never_shortens_and_never_adds_more_than_a_day(
    schedule: list[timedelta], dice: float, asked: timedelta
) -> None:
    plain = next_delay(schedule, 1, lambda: dice)

    delay = next_delay(schedule, 1, lambda: dice, asked)

    assert plain is not None
    assert delay is not None
    assert plain <= delay <= max(plain, DAY)


@given(schedule=schedules, dice=dice, beyond=st.integers(1, 1000))
def test_there_are_as_many_waits_as_the_schedule_has(
    schedule: list[timedelta], dice: float, beyond: int
) -> None:
    delays = [next_delay(schedule, n, lambda: dice) for n in range(1, len(schedule) + 1)]

    assert None not in delays
    assert next_delay(schedule, len(schedule) + beyond, lambda: dice) is None
