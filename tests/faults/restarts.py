"""PostgreSQL is restarted under load: politely, and as after a crash."""

from __future__ import annotations

import asyncio
import time

from dispatch.worker import IN_FLIGHT
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.own_postgresql import FAST, IMMEDIATE, own_postgresql
from tests.faults.pushes import Told, challenging
from tests.faults.scene import scene
from tests.faults.servers import Tricks

_BACK_SECONDS = 5.0
_ANSWER_SECONDS = 3.0
_WEAK: dict[str, Tricks] = {"answers before the commit": {"answer_early": 0.1}}


class Restarts:
    name = "postgresql restarted"
    about = "PostgreSQL is restarted under load, fast and immediately"
    engines = ("postgresql",)
    weaknesses = tuple(_WEAK)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        ways = (IMMEDIATE,) if rig.short or weakness else (FAST, IMMEDIATE) * 3
        broken: list[str] = []
        async with (
            own_postgresql() as own,
            scene(rig, database_url=own.database_url, tricks=_WEAK.get(weakness)) as playing,
            challenging(*playing.server.door) as challenges,
        ):
            async with playing.pushed(300) as told:
                for way in ways:
                    await asyncio.sleep(3 if not rig.short else 0.5)
                    stopped = time.monotonic()
                    await own.stop(way)
                    await own.start()
                    broken += await _back(told, stopped, way.name, rig.limit(_BACK_SECONDS))
                await asyncio.sleep(0.2)
            most = len(ways) * IN_FLIGHT * len(playing.subscribers)
            longest = rig.limit(_ANSWER_SECONDS)
            broken += challenges.broken(longest) + told.odd(longest)
            outcome = await playing.end(told, most_doubled=most)
        return outcome.also(broken)


async def _back(told: Told, since: float, way: str, seconds: float) -> list[str]:
    """Wait for the first push that is taken again."""
    while not told.statuses(since=since)[200]:
        if time.monotonic() - since > seconds:
            return [f"no push was taken for {seconds:g} s after {way}"]
        await asyncio.sleep(0.02)
    return []


FAULT: Fault = Restarts()
