"""More connections than the process may have descriptors."""

from __future__ import annotations

import asyncio

from deploy.crowd import Limits
from tests.faults.arrivals import Arrivals
from tests.faults.bounded import Bounds, bounded_server
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.idlers import Habit, Idlers
from tests.faults.promises import check, settled
from tests.faults.pushes import Pushes
from tests.faults.scene import subscribe_all
from tests.faults.slow_clients import SLOWEST_SECONDS, served

DESCRIPTORS, CONNECTIONS = 256, 400
_PER_SECOND = 50
_NO_BOUND = "every connection is taken"


class FewDescriptors:
    name = "few descriptors"
    about = f"ulimit -n {DESCRIPTORS}, and {CONNECTIONS} connections that say nothing"
    engines = ("sqlite",)
    weaknesses = (_NO_BOUND,)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        limits = Limits(connections=10_000) if weakness == _NO_BOUND else None
        idlers = Idlers()
        async with Arrivals().listening() as subscriber:
            await subscribe_all(rig.database_url, [subscriber])
            async with bounded_server(
                rig.folder, rig.database_url, Bounds(limits, DESCRIPTORS)
            ) as server:
                async with idlers.idling(server.port, [Habit()] * CONNECTIONS, again=False):
                    await asyncio.sleep(0.5)  # until all are there
                    async with Pushes([server.door], _PER_SECOND).going() as told:
                        await asyncio.sleep(rig.size(8, 1))
                recovered, broken = await _settled(rig)
                await server.stop()
        found = check(rig.database_url, told, [subscriber], most_doubled=0)
        return Outcome(
            sent=len(told.sent),
            acknowledged=len(told.acknowledged),
            lost=found.lost,
            doubled=found.doubled,
            recovered_seconds=recovered,
            broken=(*broken, *found.broken, *served(told, rig.limit(SLOWEST_SECONDS))),
        )


async def _settled(rig: Rig) -> tuple[float | None, tuple[str, ...]]:
    try:
        return await settled(rig.database_url, rig.limit(10)), ()
    except TimeoutError as error:
        return None, (str(error),)


FAULT: Fault = FewDescriptors()
