"""Providers say what cannot be used of some tasks, and other servers answer in their place.

In virtual time, all providers: tasks beside the poisoned ones end as if they were alone, and nothing
that only a gateway said ends a task.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import cycle

import httpx

from receiver.budget import Health, Slowdown
from receiver.failures import Blame
from receiver.poller import Line, logger
from receiver.provider import ProviderError
from store.clock import ManualClock
from store.database import open_database
from store.events import Failure, Status, Task
from store.store import Store
from tests.conftest import START
from tests.databases import migrate_and_close
from tests.faults.fault import Fault, Outcome, Rig
from tests.receiver.test_poison import (
    PLACES,
    POISON,
    STATUSES,
    Say,
    ended,
    of_provider,
    poisoned,
    questions,
)
from tests.receiver.test_poller import ATLAS, MINIMAX, YUANJING, Scene

_BLAMED = "what one task brings counts against its provider"
_BELIEVED = "whoever answers is believed"
_PROVIDERS = (MINIMAX, ATLAS, YUANJING)
_SHORT = ("500 for it alone",)
_MOST_SECONDS = 15.0
"""For twenty tasks that had ended before they were asked about, beside eight bad ones."""

_OUTAGE_SECONDS = 1_200.0


class Poisoned:
    name = "poisoned answers"
    about = (
        "8 of 28 tasks bring answers that cannot be used; gateways answer for all (virtual time)"
    )
    engines = ("sqlite",)
    weaknesses = (_BLAMED, _BELIEVED)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        small = rig.short or bool(weakness)
        logger.setLevel(logging.CRITICAL)  # trouble is what we make here
        try:
            course = _Course(rig, weakness)
            for provider in (ATLAS,) if small else _PROVIDERS:
                for name, say in POISON.items():
                    if not small or name in _SHORT:
                        await course.beside(provider, name, say)
                await course.in_its_place(provider, small=small)
        finally:
            logger.setLevel(logging.NOTSET)
        return Outcome(sent=course.sent, lost=course.lost, broken=tuple(course.broken))


@dataclass(slots=True)
class _Course:
    rig: Rig
    weakness: str
    sent: int = 0
    lost: int = 0
    broken: list[str] = field(default_factory=list)
    _number: int = 0

    async def beside(self, provider: str, name: str, say: Say) -> None:
        """Eight bad tasks, which are asked about first, and twenty good ones."""
        store, clock = self._store()
        async with poisoned(store, clock, say) as scene:
            self._weaken(scene)
            for number in range(8):
                scene.track(f"bad{number}", provider, says="")
            good = [
                scene.track(f"good{number}", provider, says="succeeded") for number in range(20)
            ]
            began = clock()
            await ended(scene, good)
            took = (clock() - began).total_seconds()
            alone = 2 if provider == MINIMAX else 1  # and one for the file
            if took > _MOST_SECONDS:
                self.broken.append(f"{provider}, {name}: the good ones took {took:.0f} s")
            if (asked := questions(scene, good)) > 2 * alone * len(good):
                self.broken.append(f"{provider}, {name}: {asked} questions about 20 good ones")
            self._count(scene, good, Status.SUCCEEDED, f"{provider}, {name}")
        store.close()

    async def in_its_place(self, provider: str, *, small: bool) -> None:
        """Something else answers for all tasks, and then it is the provider again."""
        store, clock = self._store()
        places = [PLACES["nginx"], PLACES["Kong"]] if small else list(PLACES.values())
        answers = cycle([(place, status) for place in places for status in STATUSES])

        def say(_provider: str, _task_id: str) -> httpx.Response:
            place, status = next(answers)
            return place(status)

        async with poisoned(store, clock, say) as scene:
            self._weaken(scene)
            tasks = [scene.track("bad", provider)]  # of several, refused at once, none would end
            await scene.look()
            await scene.pass_time(_OUTAGE_SECONDS, step=20)
            early = [task for task in tasks if scene.task(task).status.final]
            if early:
                self.broken.append(
                    f"{provider}: a gateway ended {len(early)} of {len(tasks)} tasks"
                )
            for task in tasks:
                scene.providers.words[task.provider_task_id] = "succeeded"
            for name, asker in scene.askers.items():
                asker._transport = httpx.MockTransport(of_provider(scene, name))
            await scene.pass_time(200, step=2)
            self._count(scene, tasks, Status.SUCCEEDED, f"{provider}, after a gateway")
        store.close()

    def _store(self) -> tuple[Store, ManualClock]:
        self._number += 1
        url = f"sqlite:///{self.rig.folder}/poisoned{self._number}.db"
        migrate_and_close(url)
        clock = ManualClock(START)
        return Store(open_database(url), clock), clock

    def _count(self, scene: Scene, tasks: list[Task], status: Status, what: str) -> None:
        missing = sum(scene.task(task).status is not status for task in tasks)
        self.sent += len(tasks)
        self.lost += missing
        if missing:
            self.broken.append(f"{what}: {missing} of {len(tasks)} tasks are not {status}")

    def _weaken(self, scene: Scene) -> None:
        if self.weakness == _BELIEVED:
            for asker in scene.askers.values():
                asker._owns = lambda _status, _body: True
        if self.weakness == _BLAMED:
            for line in scene.lines.values():
                line.health = _Touchy(lambda: 0.5)
            as_it_is = scene.poller._failed

            async def failed(
                line: Line, task: Task, error: ProviderError, trouble: Failure
            ) -> None:
                error.blame = Blame.PROVIDER
                await as_it_is(line, task, error, trouble)

            scene.poller._failed = failed  # type: ignore[method-assign]


class _Touchy(Health):
    """Takes each failure for its provider's, and tries it again with whatever comes first."""

    @property
    def stopped(self) -> bool:
        return False

    def failed(self, task_id: str, code: str, retry_after: timedelta | None) -> Slowdown | None:
        self.last_failed = "another"
        return super().failed(task_id, code, retry_after)


FAULT: Fault = Poisoned()
