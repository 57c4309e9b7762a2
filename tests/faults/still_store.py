"""The store stands still while more pushes come than there may be connections."""

from __future__ import annotations

import asyncio

from tests.faults.bounded import Bounds, bounded_server
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.locked import lock
from tests.faults.promises import check
from tests.faults.strangers import coming

DESCRIPTORS = 256
_PUSHES, _CHALLENGES = 100, 20
_STILL_SECONDS = 6.0
_ECHO_SECONDS = 1.0
_NO_BOUND = "nothing that waits is bounded"


class StillStore:
    name = "still store"
    about = f"the store is locked for {_STILL_SECONDS:g} s, {_PUSHES} pushes/s on connections of their own"
    engines = ("sqlite",)
    weaknesses = (_NO_BOUND,)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        file = rig.database_url.removeprefix("sqlite:///")
        bounds = Bounds(descriptors=DESCRIPTORS, unbounded=weakness == _NO_BOUND)
        async with bounded_server(rig.folder, rig.database_url, bounds) as server:
            async with coming(*server.door, pushes=_PUSHES, challenges=_CHALLENGES) as seen:
                await asyncio.sleep(0.2)
                await lock(file, 1.0 if rig.short else _STILL_SECONDS)
                await asyncio.sleep(0.2)
            await server.stop()
        found = check(rig.database_url, seen.told, [], most_doubled=0)
        refused = seen.told.statuses()[503]
        return Outcome(
            sent=len(seen.told.sent),
            acknowledged=len(seen.told.acknowledged),
            lost=found.lost,
            broken=(
                *found.broken,
                *seen.broken(rig.limit(_ECHO_SECONDS)),
                *(() if refused else ("no push was refused: the store was not still enough",)),
            ),
        )


FAULT: Fault = StillStore()
