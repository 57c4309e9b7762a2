"""Two subscribers, servers between them and a provider's pushes: what most faults happen to."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.taskbell import subscribe
from tests.faults.arrivals import Arrivals
from tests.faults.fault import Outcome, Rig
from tests.faults.promises import check, settled
from tests.faults.pushes import Pushes, Told
from tests.faults.servers import ALL, LEASE_SECONDS, Server, Tricks, servers

_REFUSED_ONE_IN = 50
_HURRY: Tricks = {"lease_margin": 0.2, "retry_sooner": 0.1}


@dataclass(frozen=True, slots=True)
class Scene:
    database_url: str
    servers: Sequence[Server]
    subscribers: Sequence[Arrivals]

    @property
    def server(self) -> Server:
        return self.servers[0]

    @contextlib.asynccontextmanager
    async def pushed(self, per_second: float) -> AsyncIterator[Told]:
        """Pushes at every server while the block runs."""
        async with Pushes([one.door for one in self.servers], per_second).going() as told:
            yield told

    async def end(
        self, told: Told, *, most_doubled: int, within: float = LEASE_SECONDS + 15
    ) -> Outcome:
        """Wait until nothing is owed, stop, and check everything."""
        broken: tuple[str, ...] = ()
        recovered = None
        try:
            recovered = await settled(self.database_url, within)
        except TimeoutError as error:
            broken = (str(error),)
        for server in self.servers:
            await server.stop()
        found = check(self.database_url, told, self.subscribers, most_doubled=most_doubled)
        return Outcome(
            sent=len(told.sent),
            acknowledged=len(told.acknowledged),
            lost=found.lost,
            doubled=found.doubled,
            recovered_seconds=recovered,
            broken=broken + found.broken,
        )


@contextlib.asynccontextmanager
async def scene(
    rig: Rig,
    *roles: str,
    tricks: Tricks | None = None,
    database_url: str = "",
    **settings: Any,
) -> AsyncIterator[Scene]:
    """Servers with these roles, else one with all; one subscriber refuses a fiftieth for good."""
    url = database_url or rig.database_url
    chosen = {**(_HURRY if rig.short else {}), **(tricks or {})}
    async with (
        Arrivals().listening() as willing,
        Arrivals(refuses=_one_in_fifty).listening() as picky,
    ):
        await subscribe_all(url, (willing, picky))
        async with servers(
            rig, *(roles or (ALL,)), tricks=chosen, database_url=url, **settings
        ) as running:
            yield Scene(url, running, (willing, picky))


async def subscribe_all(url: str, subscribers: Sequence[Arrivals]) -> None:
    await asyncio.to_thread(subscribe, url, [one.url for one in subscribers])


def _one_in_fifty(task: str) -> bool:
    return zlib.crc32(task.encode()) % _REFUSED_ONE_IN == 0
