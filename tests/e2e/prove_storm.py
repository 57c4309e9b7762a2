"""Everything together on real sockets, while the providers and the network misbehave."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from deploy.demo import stage
from deploy.demo.clock import QuickClock
from deploy.demo.faults import Faults
from deploy.demo.server import LocalServer
from deploy.demo.simulator import Simulator
from deploy.demo.stage import PROVIDER_KEY, Job, Stage
from deploy.demo.subscriber import Subscriber
from receiver import poller
from store import records
from store.clock import system_clock
from tests.e2e.checks import (
    all_ended,
    all_sent,
    check_arrivals,
    check_tasks,
    follow,
    tracked,
)
from tests.e2e.process import until
from tests.patience import PATIENCE_SECONDS

JOBS = (
    stage.MINIMAX_V1,
    stage.MINIMAX_TEMPLATE,
    stage.MINIMAX_V2,
    stage.MINIMAX_SPEECH,
    stage.ATLAS_VIDEO,
    stage.ATLAS_IMAGE,
    stage.YUANJING_VIDEO,
    stage.YUANJING_IMAGE,
)
TASKS = 200
# an attempt's own deadline is real time, its lease is quick time: the lease must stay longer
QUICK = {"TASKBELL_ATTEMPT_TIMEOUT_SECONDS": "300"}


@contextlib.asynccontextmanager
async def playing(
    database_url: str,
    faults: Faults,
    *,
    factor: float = 20,
    durations: tuple[float, float] = (0.5, 2.0),
    subscriber: Subscriber | None = None,
) -> AsyncIterator[Stage]:
    clock = QuickClock(system_clock(), factor)
    simulator = Simulator(
        PROVIDER_KEY,
        durations=durations,
        seed=1,
        faults=faults,
        clock=clock,
        challenge_deadline_seconds=PATIENCE_SECONDS,
    )
    subscriber = subscriber or Subscriber("")
    subscriber.clock = clock
    async with stage.set_up(
        database_url, simulator, subscriber, clock=clock, environment=QUICK
    ) as scene:
        yield scene


async def submit(scene: Stage, jobs: tuple[Job, ...], count: int) -> None:
    for first in range(0, count, 20):
        chosen = [jobs[number % len(jobs)] for number in range(first, min(first + 20, count))]
        await asyncio.gather(*(scene.submit(job) for job in chosen))


async def end(scene: Stage) -> None:
    """Wait until all tasks have ended and everything is delivered."""
    await until(lambda: all_ended(scene), PATIENCE_SECONDS)
    await until(lambda: all_sent(scene), PATIENCE_SECONDS)


async def test_in_a_storm_each_task_ends_once_and_rightly_for_each_subscriber(
    database_url: str,
) -> None:
    faults = Faults(
        drop=0.3, duplicate=0.3, reorder=1.0, rate_limited=0.05, unavailable=0.05, fail=0.1
    )
    flaky = Subscriber("", fail_first=20)
    async with (
        playing(database_url, faults) as scene,
        LocalServer(flaky.app) as other,
    ):
        flaky.clock = scene.subscriber.clock
        wish = {"url": f"{other.url}/hook", "max_in_flight": 4, "description": "flaky"}
        flaky.secret = (await scene.api.post("/v1/subscriptions", json=wish)).json()["secret"]

        await submit(scene, JOBS, TASKS)
        await end(scene)

        tasks = await scene.all("/v1/tasks")
        events = await follow(scene, limit=37)
        stats = scene.simulator.stats

    check_tasks(scene.simulator, tasks)
    for subscriber in (scene.subscriber, flaky):
        check_arrivals(subscriber, tasks)
        assert {event.id for event in subscriber.events} == {event["id"] for event in events}
    assert len({event["id"] for event in events}) == len(events)
    assert max(event.attempts for event in scene.subscriber.events) == 1
    assert sum(flaky.attempts.values()) == len(flaky.events) + 20
    # the weather was bad
    assert stats.pushes_dropped > 20
    assert stats.pushes_repeated > 20
    assert stats.rate_limited > 5
    assert sum(task["rescued_by_poll"] for task in tasks) > 10
    ways = Counter((task["source"], task["confirmed"]) for task in tasks)
    assert ways.keys() == {("push", True), ("poll", True)}


async def test_forged_pushes_become_no_events(database_url: str) -> None:
    async with playing(database_url, Faults(forged=3)) as scene:
        await submit(scene, (stage.MINIMAX_V1, stage.MINIMAX_V2, stage.ATLAS_VIDEO), 9)
        await scene.simulator.settle()
        await end(scene)
        tasks = await tracked(scene)
        events = await follow(scene, limit=100)

    submitted = {task.id for task in scene.simulator.tasks}
    assert scene.simulator.stats.pushes_forged == 3 * (6 * 2 + 3)
    assert {event["data"]["task"]["provider_task_id"] for event in events} == submitted
    check_tasks(scene.simulator, tasks)
    check_arrivals(scene.subscriber, tasks)


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(Faults(html=1.0), id="HTML"),
        pytest.param(Faults(hang=1.0, hang_seconds=0.2), id="hang"),
        pytest.param(Faults(unavailable=1.0), id="5xx"),
        pytest.param(Faults(rate_limited=1.0, retry_after_seconds=10), id="429"),
    ],
)
async def test_an_outage_of_the_providers_passes(
    sqlite_url: str, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    # two minutes of the quick clock are six seconds, which a busy machine may need to recover
    for module in (poller, records):
        monkeypatch.setattr(module, "HELD_FOR", timedelta(days=1))
    async with playing(sqlite_url, faults) as scene:
        await submit(scene, JOBS, len(JOBS))
        await scene.simulator.settle()
        in_between = await scene.all("/v1/tasks")
        scene.simulator.change_faults(Faults())
        await end(scene)
        tasks = await scene.all("/v1/tasks")

    # Atlas Cloud signs its pushes: they need nobody's word
    ended = [task["provider"] for task in in_between if task["status"] == "succeeded"]
    assert set(ended) <= {"atlascloud"}
    assert not any(task["status"] in ("failed", "timed_out") for task in in_between)
    check_tasks(scene.simulator, tasks)
    check_arrivals(scene.subscriber, tasks)
