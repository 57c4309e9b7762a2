"""The wall clock is set an hour ahead, and back, and an hour behind, under load."""

from __future__ import annotations

import asyncio

from dispatch.worker import IN_FLIGHT
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.pushes import challenging
from tests.faults.scene import scene
from tests.faults.servers import Tricks

_HOUR = 3600.0
_STEPS = (_HOUR, 0.0, -_HOUR)
_WEAK: dict[str, Tricks] = {"due times by the wall clock": {"trust_the_clock": None}}


class Clock:
    name = "clock steps"
    about = "the wall clock is set an hour ahead, back, and an hour behind"
    engines = ("sqlite", "postgresql")
    weaknesses = tuple(_WEAK)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        ahead = rig.folder / "seconds-ahead"
        ahead.write_text("0")
        tricks = {"clock_file": str(ahead), **_WEAK.get(weakness, {})}
        async with (
            scene(rig, tricks=tricks) as playing,
            challenging(*playing.server.door) as challenges,
        ):
            async with playing.pushed(50) as told:
                for step in _STEPS:
                    await asyncio.sleep(rig.size(30, 4) / 10)
                    ahead.write_text(f"{step}")
                await asyncio.sleep(rig.size(30, 4) / 10)
            broken = challenges.broken(rig.limit(1.0)) + told.odd(rig.limit(2.0))
            most = len(_STEPS) * IN_FLIGHT * len(playing.subscribers)
            outcome = await playing.end(told, most_doubled=most)
        return outcome.also(broken)


FAULT: Fault = Clock()
