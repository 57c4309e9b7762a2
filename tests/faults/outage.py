"""Providers are out of order for minutes, with many tasks open. In virtual time: only we move it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

import httpx
from sqlalchemy import Connection, func, select

from receiver.budget import Health, RateLimiter
from receiver.poller import logger
from store.clock import ManualClock
from store.database import open_database
from store.events import Status, Task
from store.records import record
from store.store import Store
from store.tables import tasks
from tests.conftest import START
from tests.faults.fault import Fault, Outcome, Rig
from tests.making import push
from tests.receiver.test_poller import ATLAS, MINIMAX, Scene, down, html, opened, unreachable

RATE, CONCURRENCY = 20, 8
_STEP_SECONDS = 0.5
_BUSY_SHARE = 0.02
"""Of what the rate allows: more is not asked of a provider that is out of order."""

_AT_ONCE = timedelta(seconds=1)
_NO_BACKOFF = "no backoff"

Trouble = Callable[[], httpx.Response]


def _slow() -> httpx.Response:
    raise httpx.ReadTimeout("no answer in time")


def _error_in_a_200() -> httpx.Response:
    """Both providers' ways of it, for either reads the other's as none of its own."""
    busy = {"status_code": 1002, "status_msg": "rate limit"}
    return httpx.Response(200, json={"code": 500, "msg": "oops", "data": None, "base_resp": busy})


TROUBLES: tuple[Trouble, ...] = (
    down(429),
    down(500),
    _slow,
    html,
    _error_in_a_200,
    unreachable,
    down(429, **{"retry-after": "20"}),
    down(503),
)


class _Hasty(RateLimiter):
    """One that leaves nobody in peace."""

    def slow_down(self, delay: timedelta) -> None:
        pass


class Outage:
    name = "provider outage"
    about = "both providers out of order for minutes, 2,000 tasks open, pushes go on (virtual time)"
    engines = ("sqlite", "postgresql")
    weaknesses = (_NO_BACKOFF,)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        small = rig.short or bool(weakness)
        count, seconds = (80, 120.0) if small else (2_000, 600.0)
        clock = ManualClock(START)
        store = Store(open_database(rig.database_url), clock)
        logger.setLevel(logging.ERROR)  # trouble is what we make here
        try:
            async with _scene(store, clock, hasty=weakness == _NO_BACKOFF) as scene:
                course = _Course(scene, random.Random(0))
                return await course.run(count, seconds)
        finally:
            logger.setLevel(logging.NOTSET)
            store.close()


@asynccontextmanager
async def _scene(store: Store, clock: ManualClock, *, hasty: bool) -> AsyncIterator[Scene]:
    dice = random.Random(0)
    asked = (MINIMAX, ATLAS)
    async with opened(
        Scene(store, clock, asked=asked, rate=RATE, concurrency=CONCURRENCY)
    ) as scene:
        scene.poller._jitter = dice.random
        for line in scene.lines.values():
            line.health = Health(dice.random)
            if hasty:
                line.limiter = _Hasty(RATE, CONCURRENCY, line.limiter.monotonic, scene._sleep)
        yield scene


@dataclass(slots=True)
class _Course:
    """What happens: all is well, all is out of order, all is well again and the tasks are done."""

    scene: Scene
    dice: random.Random
    tasks: list[Task] = field(default_factory=list)
    pushed: set[str] = field(default_factory=set)

    async def run(self, count: int, seconds: float) -> Outcome:
        scene = self.scene
        self.tasks = [self._track(number) for number in range(count)]
        await scene.pass_time(30, step=_STEP_SECONDS)
        broke = scene.clock()
        await self._out_of_order(seconds)
        back = scene.clock()
        took = await self._done(patience=180 + 8 * count / RATE)
        broken = [
            *self._too_fast(),
            *self._impatient(broke, back),
            *self._endings(),
            *([] if took is not None else ["not every task had ended in time"]),
        ]
        finals = self._finals()
        return Outcome(
            sent=count,
            lost=sum(finals[task.id] == 0 for task in self.tasks),
            doubled=sum(finals[task.id] > 1 for task in self.tasks),
            recovered_seconds=took,
            broken=tuple(broken),
        )

    def _track(self, number: int) -> Task:
        if number % 2:
            return self.scene.track(f"a{number}", ATLAS)
        return self.scene.track(f"m{number}", MINIMAX, expect_push=number % 4 == 0)

    async def _out_of_order(self, seconds: float) -> None:
        """One trouble after the other; meanwhile some tasks end, and their pushes arrive."""
        every = seconds / len(TROUBLES)
        for trouble in TROUBLES:
            self.scene.providers.trouble = dict.fromkeys((MINIMAX, ATLAS), trouble)
            await asyncio.gather(
                self.scene.pass_time(every, step=_STEP_SECONDS),
                self._push(len(self.tasks) // 50),
            )
        self.scene.providers.trouble.clear()

    async def _push(self, count: int) -> None:
        """Endings of that many tasks, signed or not as their provider does it, some of them twice."""
        waiting = [task for task in self.tasks if task.id not in self.pushed]
        for task in self.dice.sample(waiting, count):
            self.pushed.add(task.id)
            signed = task.provider == ATLAS
            report = push(
                task.provider_task_id, provider=task.provider, trusted=signed, hold=not signed
            )
            writes = [
                self.scene.store.write(record, report) for _ in range(self.dice.choice((1, 2)))
            ]
            await asyncio.gather(*writes)

    async def _done(self, patience: float) -> float | None:
        """All tasks have ended: how long until each has its event. Pushes arrive all the while."""
        began = self.scene.clock()
        for task in self.tasks:
            self.scene.providers.words[task.provider_task_id] = "succeeded"
        while (waited := (self.scene.clock() - began).total_seconds()) < patience:
            if await self.scene.store.read(_ended) == len(self.tasks):
                return waited
            left = len(self.tasks) - len(self.pushed)
            await asyncio.gather(
                self.scene.pass_time(5, step=_STEP_SECONDS), self._push(min(left, 5))
            )
        return None

    def _finals(self) -> Counter[str]:
        """How many final events each task has."""
        bodies = (body["data"]["task"] for body in self.scene.events())
        return Counter(task["id"] for task in bodies if Status(task["status"]).final)

    # what must hold

    def _too_fast(self) -> list[str]:
        """No second with more requests than the rate."""
        said = []
        for name in (MINIMAX, ATLAS):
            times = self._asked(name)
            worst = _busiest_second(times)
            if worst > RATE:
                said.append(f"{name} was asked {worst} times in a second")
        return said

    def _impatient(self, broke: datetime, back: datetime) -> list[str]:
        """Out of order, a provider is asked seldom, at uneven times, and not forgotten.

        How long it is left alone is not looked at: whoever waits moves the clock for all.
        """
        said = []
        allowed = _BUSY_SHARE * RATE * (back - broke).total_seconds()
        for name in (MINIMAX, ATLAS):
            times = [at for at in self._asked(name) if broke <= at < back]
            gaps = [b - a for a, b in pairwise([*times, back]) if b - a > _AT_ONCE]
            if len(times) > allowed:
                said.append(f"{name} was asked {len(times)} times while it was out of order")
            if not times:
                said.append(f"{name} was not asked any more")
            if len({round(gap.total_seconds(), 1) for gap in gaps}) < len(gaps) / 2:
                said.append(f"{name} was asked at regular times")
        return said

    def _asked(self, name: str) -> list[datetime]:
        return [at for at, asked, _ in self.scene.providers.asked if asked == name]

    def _endings(self) -> list[str]:
        """Each task succeeded, once, and what the provider could say was what counted."""
        finals = self._finals()
        odd = Counter(self.scene.task(task).status for task in self.tasks)
        del odd[Status.SUCCEEDED]
        several = [task.id for task in self.tasks if finals[task.id] > 1]
        said = [f"{count} tasks {status}" for status, count in odd.items()]
        return said + ([f"{len(several)} tasks with two final events"] if several else [])


def _ended(connection: Connection) -> int:
    ended = select(func.count()).where(tasks.c.status == Status.SUCCEEDED)
    return int(connection.execute(ended).scalar_one())


def _busiest_second(times: Sequence[datetime]) -> int:
    most, start = 0, 0
    for end, at in enumerate(times):
        while at - times[start] >= timedelta(seconds=1):
            start += 1
        most = max(most, end - start + 1)
    return most


FAULT: Fault = Outage()
