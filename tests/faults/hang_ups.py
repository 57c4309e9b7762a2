"""Clients that are gone before their answer: after the head, in the body, or after all of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from dataclasses import replace

from sqlalchemy import text

from deploy.crowd import Limits
from tests.faults.bounded import Bounds, bounded_server, connected
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.promises import asked, check
from tests.faults.pushes import Pushes, Told
from tests.faults.slow_clients import SLOWEST_SECONDS, served

_PER_SECOND = 200
_HONEST_PER_SECOND = 20
_GONE_SECONDS = 3.0
_THEY_STAY = "they stay, and there are no deadlines"
_IDLE_IN_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'
"""


class HangUps:
    name = "hang-ups"
    about = f"{_PER_SECOND} clients a second are gone before their answer"
    engines = ("sqlite", "postgresql")
    weaknesses = (_THEY_STAY,)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        limits = Limits()
        if weakness == _THEY_STAY:
            limits = replace(limits, receive_seconds=3600.0, idle_seconds=3600.0)
        async with bounded_server(rig.folder, rig.database_url, Bounds(limits)) as server:
            with contextlib.ExitStack() as staying:
                async with Pushes([server.door], _HONEST_PER_SECOND).going() as told:
                    await _hang_up(rig, server.door, told, staying if weakness else None)
                broken = (*await _left(server.port, rig.limit(_GONE_SECONDS)), *_half_done(rig))
            await server.stop()
        found = check(rig.database_url, told, [], most_doubled=0)
        return Outcome(
            sent=len(told.sent),
            acknowledged=len(told.acknowledged),
            lost=found.lost,
            broken=(*found.broken, *served(told, rig.limit(SLOWEST_SECONDS)), *broken),
        )


async def _hang_up(
    rig: Rig, door: tuple[int, str], told: Told, staying: contextlib.ExitStack | None
) -> None:
    end = time.monotonic() + rig.size(10, 1)
    for number in itertools.count(1):
        if time.monotonic() > end:
            return
        task = f"gone{number}"
        told.sent.add(task)
        _, writer = await asyncio.open_connection("127.0.0.1", door[0])
        writer.write(_part(door[1], task, number % 3))
        await asyncio.sleep(1 / _PER_SECOND)
        if staying is None:
            writer.transport.abort()
        else:
            staying.callback(writer.close)  # which keeps it, too


def _part(path: str, task: str, which: int) -> bytes:
    body = json.dumps({"task_id": task, "status": "Success", "file_id": "1"})
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    whole = (head + body).encode()
    return (whole[: len(head)], whole[:-10], whole)[which]


async def _left(port: int, seconds: float) -> tuple[str, ...]:
    give_up = time.monotonic() + seconds
    while count := connected(port):
        if time.monotonic() > give_up:
            return (f"{count} connections stayed open",)
        await asyncio.sleep(0.05)
    return ()


def _half_done(rig: Rig) -> tuple[str, ...]:
    if rig.engine != "postgresql":
        return ()
    with asked(rig.database_url) as connection:
        count = connection.execute(text(_IDLE_IN_TRANSACTION)).scalar_one()
    return (f"{count} transactions were left open",) if count else ()


FAULT: Fault = HangUps()
