"""The budget: starts are spaced, places are counted, delays are kept."""

import asyncio
import heapq
from collections.abc import Callable
from datetime import timedelta
from math import ceil, inf, nan

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from receiver.budget import Health, RateLimiter, ShiftOver, Slowdown


class Time:
    """A monotonic clock whose sleepers wake in order, without waiting."""

    def __init__(self, start: float = 1_000.0) -> None:
        self.now = start
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._count = 0

    @property
    def sleeps(self) -> int:
        return self._count

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self._count += 1
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (self.now + seconds, self._count, woken))
        await woken.wait()

    async def run(self, *, until: float = inf, lag: Callable[[], float] = lambda: 0.0) -> None:
        """Let everything happen that happens until then; each waking may be late by lag()."""
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, woken = heapq.heappop(self._sleepers)
            self.now = max(self.now, due + lag())
            woken.set()
            await settle()
        self.now = max(self.now, until) if until < inf else self.now


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def ask(limiter: RateLimiter, time: Time, starts: list[float], seconds: float = 0) -> None:
    async with limiter.slot():
        starts.append(time())
        if seconds:
            await time.sleep(seconds)


def busiest_second(starts: list[float]) -> int:
    return max(sum(start <= other < start + 1 for other in starts) for start in starts)


@settings(deadline=None)
@given(
    rate=st.sampled_from([0.3, 0.5, 1.0, 2.5, 3.0, 7.0, 10.0, 30.0]),
    concurrency=st.integers(1, 20),
    durations=st.lists(st.sampled_from([0.0, 0.01, 0.2, 3.0]), min_size=1, max_size=60),
    lags=st.lists(st.sampled_from([0.0, 0.001, 0.5, 2.0]), min_size=1, max_size=10),
    start=st.floats(0, 1e6),
)
# ten times 0.1 is 0.9999999999999999
@example(rate=10.0, concurrency=20, durations=[0.0] * 11, lags=[0.0], start=0.0)
def test_no_second_ever_sees_more_starts_than_the_rate(
    rate: float, concurrency: int, durations: list[float], lags: list[float], start: float
) -> None:
    starts: list[float] = []

    async def scenario() -> None:
        time = Time(start)
        limiter = RateLimiter(rate, concurrency, time, time.sleep)
        late = iter(lags * 1_000)
        async with asyncio.TaskGroup() as group:
            for seconds in durations:
                group.create_task(ask(limiter, time, starts, seconds))
            await time.run(lag=lambda: next(late))

    asyncio.run(scenario())

    assert len(starts) == len(durations)
    assert busiest_second(starts) <= ceil(rate)


@given(
    rate=st.sampled_from([0.5, 1.0, 2.5, 7.0, 30.0, 150.0]),
    asked=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    shift=st.floats(0.01, 3),
    late=st.sampled_from([0.0, 1e-6, 0.01, 1.0]),
    lags=st.lists(st.sampled_from([0.0, 0.001, 0.02, 0.5]), min_size=1, max_size=10),
)
def test_no_second_sees_more_when_another_process_takes_over(
    rate: float, asked: tuple[int, int], shift: float, late: float, lags: list[float]
) -> None:
    starts: list[float] = []

    async def scenario() -> None:
        time = Time(0)
        one, other = (RateLimiter(rate, 100, time, time.sleep) for _ in range(2))
        late_by = iter(lags * 10_000)
        one.work_until(shift, taken_over=False)
        asking = [asyncio.create_task(ask(one, time, starts)) for _ in range(asked[0])]
        await time.run(until=shift + late, lag=lambda: next(late_by))
        other.work_until(inf, taken_over=True)
        asking += [asyncio.create_task(ask(other, time, starts)) for _ in range(asked[1])]
        await time.run(lag=lambda: next(late_by))
        ends = await asyncio.gather(*asking, return_exceptions=True)
        assert all(end is None or isinstance(end, ShiftOver) for end in ends)

    asyncio.run(scenario())

    assert len(starts) >= asked[1]
    assert not starts or busiest_second(starts) <= ceil(rate)


async def test_a_thousand_a_second_are_kept_although_timers_come_late() -> None:
    time = Time(0)
    limiter = RateLimiter(1_000, 2_000, time, time.sleep)
    starts: list[float] = []

    async with asyncio.TaskGroup() as group:
        for _ in range(2_000):
            group.create_task(ask(limiter, time, starts))
        await time.run(lag=lambda: 0.004)

    assert busiest_second(starts) <= 1_000
    assert starts[-1] < 2.1
    assert time.sleeps < 600  # one sleeps for many


async def test_nothing_starts_once_the_shift_is_over() -> None:
    time = Time(0)
    limiter = RateLimiter(2, 10, time, time.sleep)
    limiter.work_until(1, taken_over=False)
    starts: list[float] = []
    asked = [asyncio.create_task(ask(limiter, time, starts)) for _ in range(4)]

    await time.run()

    assert starts == pytest.approx([0, 0.5], abs=0.02)
    late = [question.exception() for question in asked[2:]]
    assert [type(error) for error in late] == [ShiftOver, ShiftOver]
    assert not limiter.busy()


async def test_a_request_within_a_question_needs_the_shift_too() -> None:
    time = Time(0)
    limiter = RateLimiter(2, 10, time, time.sleep)
    limiter.work_until(1, taken_over=False)

    async with limiter.slot():
        time.now = 1

        with pytest.raises(ShiftOver):
            await limiter.turn()

    assert limiter.shift_left() == 0


async def test_who_takes_over_waits_for_one_spacing() -> None:
    time = Time(100)
    limiter = RateLimiter(1, 10, time, time.sleep)

    limiter.work_until(105, taken_over=True)

    assert limiter.free() == 0
    assert limiter.room_in() == pytest.approx(0.5, abs=0.02)
    assert limiter.shift_left() == 5


async def test_places_that_become_free_all_the_time_are_counted_on() -> None:
    time = Time(0)
    limiter = RateLimiter(10_000, 2, time, time.sleep)

    for _ in range(10):
        async with limiter.slot():
            time.now += 0.02

    assert limiter.free() == 2 + 10
    time.now += 1
    assert limiter.free() == 2


async def test_starts_are_evenly_spaced() -> None:
    time = Time(0)
    limiter = RateLimiter(4, 10, time, time.sleep)
    starts: list[float] = []

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(ask(limiter, time, starts))
        await time.run()

    assert starts == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.02)


async def test_a_question_of_several_requests_waits_for_a_turn_for_each() -> None:
    time = Time(0)
    limiter = RateLimiter(4, 10, time, time.sleep)
    starts: list[float] = []

    async def question() -> None:
        async with limiter.slot():
            starts.append(time())
            for _ in range(2):
                await limiter.turn()
                starts.append(time())

    async with asyncio.TaskGroup() as group:
        group.create_task(question())
        group.create_task(question())
        await time.run()

    assert starts == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1.25], abs=0.02)


async def test_no_more_run_at_once_than_there_are_places() -> None:
    time = Time(0)
    limiter = RateLimiter(1_000, 3, time, time.sleep)
    running = most = 0

    async def question() -> None:
        nonlocal running, most
        async with limiter.slot():
            running += 1
            most = max(most, running)
            await time.sleep(1)
            running -= 1

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(question())
        await time.run()

    assert most == 3


async def test_an_idle_limiter_has_its_places_free_as_far_as_the_rate_goes() -> None:
    time = Time()

    assert RateLimiter(10, 100, time).free() == 5  # now, in 100 ms, … in 400 ms
    assert RateLimiter(1_000, 5, time).free() == 5
    assert RateLimiter(0.1, 5, time).free() == 1


async def test_free_counts_down_and_recovers() -> None:
    time = Time(0)
    limiter = RateLimiter(10, 100, time, time.sleep)
    starts: list[float] = []

    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(ask(limiter, time, starts))
        await settle()
        right_after = limiter.free()
        await time.run(until=1)
        later = limiter.free()

    assert right_after == 0
    assert later == 5


async def test_a_place_that_is_taken_is_not_free() -> None:
    time = Time(0)
    limiter = RateLimiter(1_000, 2, time, time.sleep)

    async with limiter.slot():
        await time.run(until=1)
        one_taken = limiter.free()

    time.now += 1

    assert one_taken == 1
    assert limiter.free() == 2


async def test_a_question_that_fails_gives_its_place_back() -> None:
    time = Time()
    limiter = RateLimiter(1_000, 1, time, time.sleep)

    with pytest.raises(KeyError):
        async with limiter.slot():
            raise KeyError
    time.now += 1

    assert limiter.free() == 1


async def test_questions_canceled_while_they_wait_leave_nothing_behind() -> None:
    time = Time(0)
    limiter = RateLimiter(1, 2, time, time.sleep)
    starts: list[float] = []
    asked = [asyncio.create_task(ask(limiter, time, starts)) for _ in range(6)]
    await settle()  # one started, two wait for their time, three for a place

    for question in asked[1:]:
        question.cancel()
    await asyncio.wait(asked)
    time.now += 1.1

    assert starts == [0]
    assert limiter.free() == 1
    await ask(limiter, time, starts)
    assert starts == [0, 1.1]


async def test_a_slow_down_holds_back_whoever_waits_already() -> None:
    time = Time(0)
    limiter = RateLimiter(10, 10, time, time.sleep)
    starts: list[float] = []

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(ask(limiter, time, starts))
        await settle()
        limiter.slow_down(timedelta(seconds=5))
        await time.run()

    assert starts == pytest.approx([0, 5, 5.1], abs=0.02)


async def test_a_slow_down_leaves_nothing_free_until_it_is_nearly_over() -> None:
    time = Time(0)
    limiter = RateLimiter(10, 10, time, time.sleep)

    limiter.slow_down(timedelta(seconds=5))

    assert (limiter.delay_left(), limiter.free()) == (5, 0)
    time.now = 4.6
    assert limiter.delay_left() == pytest.approx(0.4)
    assert limiter.free() == 1
    time.now = 6
    assert limiter.delay_left() == 0


async def test_a_shorter_slow_down_does_not_cut_a_longer_one() -> None:
    time = Time(0)
    limiter = RateLimiter(10, 10, time, time.sleep)

    limiter.slow_down(timedelta(seconds=60))
    limiter.slow_down(timedelta(seconds=1))

    assert limiter.delay_left() == 60


@pytest.mark.parametrize(
    ("rate", "concurrency"), [(0.0, 1), (-1.0, 1), (nan, 1), (inf, 1), (1.0, 0)]
)
def test_a_budget_of_nothing_is_refused(rate: float, concurrency: int) -> None:
    with pytest.raises(ValueError, match="rate above 0"):
        RateLimiter(rate, concurrency, Time())


def failing(
    health: Health, code: str = "unavailable", asked: timedelta | None = None, times: int = 1
) -> Slowdown:
    """Let so many stops happen, each by another task than the one that failed last."""
    slowdown = None
    for _ in range(times):
        other = "t2" if health.last_failed == "t1" else "t1"
        slowdown = health.failed(other, code, asked) or health.failed("t3", code, asked)
    assert slowdown is not None
    return slowdown


def test_one_task_that_fails_over_and_over_stops_no_provider() -> None:
    health = Health(jitter=lambda: 0.5)

    stops = [health.failed("t1", "timeout", None) for _ in range(100)]

    assert stops == [None] * 100
    assert not health.stopped


def test_different_tasks_that_fail_in_a_row_stop_their_provider() -> None:
    health = Health(jitter=lambda: 0.5)

    stops = [health.failed(task, "timeout", None) for task in ("t1", "t1", "t2", "t2")]

    assert [stop and stop.delay.total_seconds() for stop in stops] == [None, None, 1, 2]
    assert health.stopped
    assert health.last_failed == "t2"


def test_different_tasks_that_fail_with_an_answer_between_stop_nothing() -> None:
    health = Health(jitter=lambda: 0.5)

    stops = []
    for number in range(20):
        stops.append(health.failed(f"t{number}", "timeout", None))
        health.is_there()

    assert stops == [None] * 20


def test_delays_double_up_to_a_minute() -> None:
    health = Health(jitter=lambda: 0.5)

    delays = [failing(health).delay.total_seconds() for _ in range(9)]

    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize(("dice", "seconds"), [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)])
def test_jitter_moves_a_delay_by_a_fifth(dice: float, seconds: float) -> None:
    delay = failing(Health(jitter=lambda: dice)).delay

    assert delay.total_seconds() == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (timedelta(seconds=90), timedelta(seconds=90)),
        (timedelta(seconds=0), timedelta(seconds=1)),  # our own delay is longer
        (timedelta(minutes=10), timedelta(minutes=10)),
        (timedelta(hours=24), timedelta(minutes=10)),
    ],
)
def test_the_wait_asked_for_is_kept_up_to_ten_minutes(asked: timedelta, kept: timedelta) -> None:
    assert failing(Health(jitter=lambda: 0.5), "rate_limited", asked).delay == kept


def test_a_change_of_state_is_told_once() -> None:
    health = Health(jitter=lambda: 0.5)

    told = [
        health.is_there(),  # was never in trouble
        failing(health).changed,  # one stop alone is none yet
        failing(health).changed,
        failing(health).changed,
        failing(health, "key_refused").changed,
        health.is_there(),
        health.is_there(),
    ]

    assert told == [False, False, True, False, True, True, False]
    assert (health.state, health.stopped, health.last_failed) == ("ok", False, "")


def test_two_different_failures_in_a_row_are_told_as_the_second() -> None:
    health = Health(jitter=lambda: 0.5)

    failing(health, "timeout")
    second = failing(health, "unavailable")

    assert (second.changed, health.state) == (True, "unavailable")


def test_an_answer_starts_the_delays_anew() -> None:
    health = Health(jitter=lambda: 0.5)
    failing(health, times=5)

    health.is_there()

    assert failing(health) == Slowdown(timedelta(seconds=1), changed=False)
