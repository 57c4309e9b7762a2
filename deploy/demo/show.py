"""`taskbell demo`: three simulated providers, Taskbell and a subscriber, on real sockets.

Prints what happens as it happens, then a table. True only if every task ended with exactly one
final event, delivered and verified.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.demo import stage
from deploy.demo.clock import QuickClock
from deploy.demo.faults import Faults
from deploy.demo.simulator import Simulator
from deploy.demo.stage import Job, Stage
from deploy.demo.subscriber import Subscriber
from receiver.provider import providers
from store.clock import system_clock

FACTOR = 20
LIMIT_SECONDS = 18.0
JOBS = (
    stage.MINIMAX_V1,
    stage.MINIMAX_V1,
    stage.MINIMAX_TEMPLATE,
    stage.MINIMAX_V2,
    stage.MINIMAX_SPEECH,
    stage.ATLAS_VIDEO,
    stage.ATLAS_IMAGE,
    stage.YUANJING_VIDEO,
    stage.YUANJING_IMAGE,
)
_FINAL = ("task.succeeded", "task.failed", "task.canceled")
# the clock of the demo is quick, but an attempt's own deadline is not: the lease must stay longer
_ENVIRONMENT = {"TASKBELL_ATTEMPT_TIMEOUT_SECONDS": "300"}

Say = Callable[[str], None]


async def run_demo(console: Console) -> bool:
    """Play the demo; whether everything ended as promised."""
    clock = QuickClock(system_clock(), FACTOR)
    faults = Faults(drop_first=1, duplicate_first=1)
    simulator = Simulator(
        stage.PROVIDER_KEY,
        durations=(1.0, 4.0),
        seed=7,
        provider_faults={"minimax": faults},
        clock=clock,
    )
    subscriber = Subscriber("", fail_first=1, clock=clock)
    with tempfile.TemporaryDirectory(prefix="taskbell-demo-") as folder:
        file = f"sqlite:///{Path(folder) / 'demo.db'}"
        async with stage.set_up(
            file, simulator, subscriber, clock=clock, environment=_ENVIRONMENT
        ) as scene:
            say = _teller(console, clock)
            console.print(
                f"Three simulated providers, Taskbell at {scene.url} and a subscriber are up."
                f" Time runs {FACTOR} times as fast.\n"
            )
            await _submit_all(scene, say)
            in_time = await _watch(scene, say)
            console.print()
            return await _sum_up(scene, console) and in_time


def _teller(console: Console, clock: QuickClock) -> Say:
    def say(text: str) -> None:
        minutes, seconds = divmod(int(clock.elapsed()), 60)
        console.print(
            f"{minutes:2}:{seconds:02}  {text}", markup=False, highlight=False, soft_wrap=True
        )

    return say


async def _submit_all(scene: Stage, say: Say) -> None:
    stats = scene.simulator.stats
    for job in JOBS:
        before = stats.challenges_answered
        await scene.submit(job, metadata={"job": job.label})
        if stats.challenges_answered > before:
            milliseconds = stats.challenge_seconds[-1] * 1000
            challenge = f"; challenge answered in {milliseconds:.0f} ms during the submit"
        else:
            challenge = ""
        say(f"{job.label}: submitted, {_way_in(job)}{challenge}")


def _way_in(job: Job) -> str:
    return "will push" if job.push else "will be polled"


async def _watch(scene: Stage, say: Say) -> bool:
    """Tell each event as the subscriber gets it, until all tasks have ended; False if too late."""
    labels = {task["id"]: task["metadata"]["job"] for task in scene.tasks}
    told = 0
    told_lost = told_repeated = told_failed = False
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                stats = scene.simulator.stats
                if not told_lost and stats.pushes_dropped:
                    told_lost = True
                    say("MiniMax: a final push is lost on the way (on purpose)")
                if not told_repeated and stats.pushes_repeated:
                    told_repeated = True
                    say("MiniMax: a final push comes twice (on purpose)")
                if not told_failed and scene.subscriber.attempts.total():
                    told_failed = True
                    say("the subscriber answers 500 once (on purpose); it is tried again")
                events = scene.subscriber.events
                for received in events[told:]:
                    say(_event_line(received.body, labels, received.attempts))
                told = len(events)
                if await _everything_arrived(scene):
                    return True
                await asyncio.sleep(0.05)
    except TimeoutError:
        say(f"not everything ended within {LIMIT_SECONDS:.0f} s")
        return False


def _event_line(event: Mapping[str, Any], labels: dict[str, str], attempts: int) -> str:
    task = event["data"]["task"]
    line = f"{labels.get(task['id'], task['provider'])}: {event['type']}"
    if event["type"] in _FINAL:
        line += f", by {event['data']['source']}"
        if task["rescued_by_poll"]:
            line += " (push missed, poll caught it)"
        line += "".join(f", {output['url']}" for output in task["outputs"][:1])
    tries = "" if attempts == 1 else f" at attempt {attempts}"
    return f"{line}; delivered{tries}, signature verified"


async def _everything_arrived(scene: Stage) -> bool:
    ended = {e.task_id for e in scene.subscriber.events if e.type in _FINAL}
    if len(ended) < len(scene.tasks):
        return False
    waiting = await scene.all("/v1/deliveries", status="pending")
    return not waiting and not await scene.all("/v1/deliveries", status="in_flight")


async def _sum_up(scene: Stage, console: Console) -> bool:
    events = await scene.all("/v1/events")
    deliveries = await scene.all("/v1/deliveries")
    tasks = await scene.all("/v1/tasks")
    table = Table("provider", "way in", "tasks", "events", "deliveries", "attempts")
    for name, provider in providers().items():
        mine = [task for task in tasks if task["provider"] == name]
        of_mine = {task["id"] for task in mine}
        sent = [delivery for delivery in deliveries if delivery["task_id"] in of_mine]
        table.add_row(
            provider.title,
            _ways(mine),
            str(len(mine)),
            str(sum(event["data"]["task"]["provider"] == name for event in events)),
            str(sum(delivery["status"] == "delivered" for delivery in sent)),
            str(sum(delivery["attempt_count"] for delivery in sent)),
        )
    console.print(table)
    finals = Counter(e["data"]["task"]["id"] for e in events if e["type"] in _FINAL)
    delivered = Counter(e.task_id for e in scene.subscriber.events if e.type in _FINAL)
    wanted = {task["id"]: 1 for task in scene.tasks}
    good = finals == wanted and delivered == wanted
    console.print(
        f"{len(tasks)} tasks, each with exactly one final event, each delivered and verified."
        if good
        else "Not every task ended with exactly one final event that was delivered."
    )
    return good


def _ways(tasks: list[dict[str, Any]]) -> str:
    ways = Counter(
        "poll, push missed" if task["rescued_by_poll"] else task["source"] for task in tasks
    )
    return ", ".join(f"{count} by {way}" for way, count in sorted(ways.items()))
