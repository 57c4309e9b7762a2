"""What must be true at the end of every run, and how to see that the end has come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from deploy.demo.simulator import Simulator
from deploy.demo.stage import Stage
from deploy.demo.subscriber import Received, Subscriber

FINAL = ("succeeded", "failed", "canceled")
FINAL_TYPES = tuple(f"task.{status}" for status in FINAL)


async def tracked(scene: Stage) -> list[dict[str, Any]]:
    """The tasks that were submitted, as they stand; not those that a forged push named."""
    ids = {task["id"] for task in scene.tasks}
    return [task for task in await scene.all("/v1/tasks") if task["id"] in ids]


async def all_ended(scene: Stage) -> bool:
    return all(task["status"] in FINAL for task in await tracked(scene))


async def all_sent(scene: Stage) -> bool:
    """Whether nothing waits for its delivery."""
    for status in ("pending", "in_flight"):
        if await scene.all("/v1/deliveries", status=status):
            return False
    return True


async def follow(scene: Stage, *, limit: int) -> list[dict[str, Any]]:
    """Every event, read in pages as a reader does that keeps its cursor."""
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        query = {"after": str(after), "limit": str(limit)}
        page = (await scene.api.get("/v1/events", params=query)).json()["data"]
        if not page:
            return found
        assert page[0]["cursor"] > after
        found += page
        after = page[-1]["cursor"]


def check_tasks(simulator: Simulator, tasks: Iterable[Mapping[str, Any]]) -> None:
    """Each task that was submitted ended as the provider knows it, with the provider's URL."""
    fates = {task.id: task for task in simulator.tasks}
    shown = {task["provider_task_id"]: task for task in tasks}
    assert shown.keys() == fates.keys()
    for task_id, fate in fates.items():
        task = shown[task_id]
        assert task["status"] == ("failed" if fate.output is None else "succeeded"), task
        urls = [output["url"] for output in task["outputs"]]
        assert fate.output is None or fate.output in urls, task


def check_arrivals(subscriber: Subscriber, tasks: Iterable[Mapping[str, Any]]) -> None:
    """Each task's final event came, one and the right one, and what was not retried in order."""
    statuses = {task["id"]: task["status"] for task in tasks}
    finals = [event for event in subscriber.events if event.type in FINAL_TYPES]
    assert Counter(event.task_id for event in finals) == dict.fromkeys(statuses, 1)
    assert {e.task_id: e.type.removeprefix("task.") for e in finals} == statuses
    for task_id in statuses:
        versions = [
            _version(event)
            for event in subscriber.events
            if event.task_id == task_id and event.attempts == 1
        ]
        assert versions == sorted(set(versions)), task_id


def _version(event: Received) -> int:
    version: int = event.body["data"]["task"]["version"]
    return version
