"""kill -9 once a second under load: one process on SQLite, one of two on PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools

from dispatch.worker import IN_FLIGHT
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.scene import scene
from tests.faults.servers import ALL, Tricks

_WEAK: dict[str, Tricks] = {
    "answers before the commit": {"answer_early": 0.1},
    "leases that never end": {"lease_margin": 3600.0, "keep_leases": None},
}


class Kills:
    name = "kill"
    about = "kill -9 hits the server once a second under load (on PostgreSQL one of two)"
    engines = ("sqlite", "postgresql")
    weaknesses = tuple(_WEAK)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        alone = rig.engine == "sqlite"
        kills = rig.size(20, 2) if not weakness else 3
        roles = (ALL,) if alone else (ALL, ALL)
        async with scene(rig, *roles, tricks=_WEAK.get(weakness)) as playing:
            async with playing.pushed(rig.size(500 if alone else 400, 300)) as told:
                for server in itertools.islice(itertools.cycle(playing.servers), kills):
                    await asyncio.sleep(0.5 if rig.short else 1.0)
                    await server.kill()
                    await server.start()
                await asyncio.sleep(0.2)
            return await playing.end(
                told,
                within=8 if weakness else 60,
                most_doubled=kills * IN_FLIGHT * len(playing.subscribers),
            )


FAULT: Fault = Kills()
