"""Two hosts behind a proxy: one is killed, and both are restarted politely. No push may be lost."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from dispatch.worker import IN_FLIGHT
from tests.faults.fault import Fault, NotHere, Outcome, Rig
from tests.faults.pushes import Pushes, Told
from tests.faults.scene import Scene, scene
from tests.faults.servers import ALL
from tests.services.proxies import CADDY, NGINX, Proxy, Running, running, substituted

_PER_SECOND = 100


class Way(Protocol):
    """What befalls the hosts while pushes come."""

    async def __call__(self, playing: Scene, seconds: float) -> None: ...


async def kill(playing: Scene, seconds: float) -> None:
    """One host dies, is away for some seconds, and comes back."""
    dying = playing.servers[0]
    await dying.kill()
    await asyncio.sleep(seconds)
    await dying.start()


async def roll(playing: Scene, seconds: float) -> None:
    """One host after the other is stopped as a service manager does it, and started again."""
    for server in playing.servers:
        await server.stop()
        await server.start()
        await asyncio.sleep(seconds / 4)


@dataclass(frozen=True, slots=True)
class TwoHosts:
    """The fault, behind one proxy, in the ways that are given."""

    proxy: Proxy
    weakness: str
    weakened: tuple[tuple[str, str], ...]
    ways: tuple[Way, ...] = (kill, roll)
    engines: tuple[str, ...] = ("postgresql",)

    @property
    def name(self) -> str:
        return f"two hosts behind {self.proxy.name}"

    @property
    def about(self) -> str:
        return f"{self.proxy.name} before two hosts: one is killed, then both are restarted"

    @property
    def weaknesses(self) -> tuple[str, ...]:
        return (self.weakness,)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        program = shutil.which(self.proxy.name)
        if program is None:
            raise NotHere(f"{self.proxy.name} is not installed")

        def edited(text: str) -> str:
            return substituted(text, *self.weakened) if weakness else text

        async with scene(rig, ALL, ALL) as playing:
            ports = [server.port for server in playing.servers]
            async with running(self.proxy, program, rig.folder / "proxy", ports, edited) as between:
                told = await self._suffer(rig, playing, between)
            outcome = await playing.end(told, most_doubled=4 * IN_FLIGHT * len(playing.subscribers))
        return outcome.also(_unanswered(told))

    async def _suffer(self, rig: Rig, playing: Scene, between: Running) -> Told:
        _, path = playing.server.door
        pushes = Pushes([(between.ports.plain, path)], _PER_SECOND)
        async with pushes.going() as told:
            for way in self.ways:
                await way(playing, rig.size(12, 4))
            await asyncio.sleep(0.2)
        return told


def _unanswered(told: Told) -> list[str]:
    """Each status but 200: with a host that is there, there is no reason for another one."""
    others = Counter(answer.status for answer in told.answers if answer.status != 200)
    return [f"{count} pushes were answered {status}" for status, count in others.items()]


BEHIND_NGINX = TwoHosts(
    NGINX,
    weakness="no push is sent to the other host",
    weakened=((r"proxy_next_upstream( +)error.*;", r"proxy_next_upstream\1off;"),),
)
BEHIND_CADDY = TwoHosts(
    CADDY,
    weakness="no push is sent to the other host",
    weakened=((r"lb_try_duration .*", "lb_try_duration 0"),),
)
FAULT: Fault = BEHIND_NGINX
