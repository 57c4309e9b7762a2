"""Two dispatchers share one database and a backlog."""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from tests.bench.stock import record_endings
from tests.faults.arrivals import Arrivals
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.promises import asked, check, settled
from tests.faults.pushes import Told
from tests.faults.scene import subscribe_all
from tests.faults.servers import Tricks, servers

_WEAK: dict[str, Tricks] = {
    "a lease shorter than an attempt": {"lease_margin": -0.98, "send_slowly": 0.05}
}
_SECONDS = 60


class Dispatchers:
    name = "two dispatchers"
    about = "two processes send one backlog: nothing twice"
    engines = ("postgresql",)
    weaknesses = tuple(_WEAK)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        count = 1_000 if weakness else rig.size(8_000, 1_000)
        tricks = _WEAK.get(weakness, {})
        async with Arrivals().listening() as one, Arrivals().listening() as other:
            await subscribe_all(rig.database_url, (one, other))
            await asyncio.to_thread(record_endings, rig.database_url, count)
            everything = _tasks(rig.database_url)
            told = Told(everything, everything)
            # a subscriber that is slow on a busy machine must not be asked twice
            attempt = "1" if weakness else "30"
            async with servers(
                rig, "dispatch", "dispatch", tricks=tricks, ATTEMPT_TIMEOUT_SECONDS=attempt
            ) as running:
                seconds = await settled(rig.database_url, _SECONDS)
                for server in running:
                    await server.stop()
            found = check(rig.database_url, told, (one, other), most_doubled=0)
        return Outcome(count, count, found.lost, found.doubled, seconds, found.broken)


def _tasks(url: str) -> set[str]:
    with asked(url) as connection:
        return set(connection.execute(text("SELECT provider_task_id FROM tasks")).scalars())


FAULT: Fault = Dispatchers()
