"""PostgreSQL is away for a while: what can be answered without it is, and nothing else is."""

from __future__ import annotations

import asyncio
import time

from dispatch.worker import IN_FLIGHT
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.own_postgresql import FAST, own_postgresql
from tests.faults.pushes import Told, challenging
from tests.faults.scene import scene
from tests.faults.servers import Server, Tricks
from tests.faults.wire import status_of

_BACK_SECONDS = 5.0
_ANSWER_SECONDS = 3.0
_NOTICED_SECONDS = 0.5
_WEAK: dict[str, Tricks] = {"answers before the commit": {"answer_early": 0.1}}


class Away:
    name = "postgresql away"
    about = "PostgreSQL is stopped for 20 s under load"
    engines = ("postgresql",)
    weaknesses = tuple(_WEAK)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        seconds = 1.5 if weakness or rig.short else 20.0
        async with (
            own_postgresql() as own,
            scene(rig, database_url=own.database_url, tricks=_WEAK.get(weakness)) as playing,
            challenging(*playing.server.door) as challenges,
        ):
            async with playing.pushed(100) as told:
                await asyncio.sleep(0.5)
                await own.stop(FAST)
                stopped = time.monotonic()
                await asyncio.sleep(seconds)
                broken = await _health(playing.server)
                back = time.monotonic()
                broken += _taken(told, stopped + _NOTICED_SECONDS, back)
                await own.start()
                broken += await _back(playing.server, told, rig.limit(_BACK_SECONDS))
            longest = rig.limit(_ANSWER_SECONDS)
            broken += challenges.broken(longest) + told.odd(longest)
            most = IN_FLIGHT * len(playing.subscribers)
            outcome = await playing.end(told, most_doubled=most)
        return outcome.also(broken)


async def _health(server: Server) -> list[str]:
    wanted = {"/healthz": 200, "/readyz": 503}
    said = {path: await status_of(server.port, path) for path in wanted}
    return [f"{path} said {said[path]}" for path in wanted if said[path] != wanted[path]]


async def _back(server: Server, told: Told, seconds: float) -> list[str]:
    """Wait until it is ready, and takes a push."""
    began = time.monotonic()
    while await status_of(server.port, "/readyz") != 200 or not told.statuses(since=began)[200]:
        if time.monotonic() - began > seconds:
            return [f"not back {seconds:g} s after PostgreSQL was"]
        await asyncio.sleep(0.02)
    return []


def _taken(told: Told, since: float, until: float) -> list[str]:
    statuses = told.statuses(since, until)
    wrong = {status: count for status, count in statuses.items() if status != 503}
    if not statuses:
        return ["no push was answered while it was away"]
    return [f"while it was away pushes were answered {wrong}"] if wrong else []


FAULT: Fault = Away()
