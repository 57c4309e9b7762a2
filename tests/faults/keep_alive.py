"""Clients that push again and again on one connection, across pauses and stops of the server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace

from deploy.crowd import Limits
from tests.faults.bounded import Bounded, Bounds, bounded_server
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.promises import check
from tests.faults.pushes import Answer, Told
from tests.faults.wire import NO_ANSWER

PUSHERS = 60
_PAUSE_SECONDS = 0.2
_ANSWER_SECONDS = 15.0
_IDLE = "idle connections are closed after as long as clients pause"
_AT_ONCE = "idle connections are closed at once at a stop"


class KeepAlive:
    name = "keep-alive"
    about = f"{PUSHERS} pushers on connections that they keep, across pauses and stops"
    engines = ("sqlite",)
    weaknesses = (_IDLE, _AT_ONCE)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        limits = Limits()
        if weakness == _IDLE:
            limits = replace(limits, idle_seconds=_PAUSE_SECONDS, look_seconds=0.01)
        if weakness == _AT_ONCE:
            limits = replace(limits, last_seconds=0.0)
        stops = 0 if weakness == _IDLE else rig.size(8, 1)
        told = Told()
        pushers = _Pushers(told)
        if not rig.short:
            await _push_on(rig, limits, pushers, _PAUSE_SECONDS, 20)
        for _ in range(stops):
            await _push_on(rig, limits, pushers, _PAUSE_SECONDS / 4, 0.5)
        unanswered = told.statuses()[NO_ANSWER]
        found = check(rig.database_url, told, [], most_doubled=0)
        broken = [f"{unanswered} of {len(told.answers)} pushes got no answer"] if unanswered else []
        return Outcome(
            sent=len(told.sent),
            acknowledged=len(told.acknowledged),
            lost=found.lost,
            broken=(*found.broken, *broken),
        )


async def _push_on(
    rig: Rig, limits: Limits, pushers: _Pushers, pause: float, seconds: float
) -> None:
    """Push for so long, and on while the server is stopped."""
    bounds = Bounds(limits)
    async with (
        bounded_server(rig.folder, rig.database_url, bounds) as server,
        pushers.pushing(server, pause),
    ):
        await asyncio.sleep(seconds)
        await server.stop()


@dataclass(slots=True)
class _Pushers:
    """Each pushes, pauses, and pushes on; it sees when its connection was closed before it sent."""

    told: Told
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    @contextlib.asynccontextmanager
    async def pushing(self, server: Bounded, pause: float) -> AsyncIterator[None]:
        """While the block runs, and as long as the server is there."""
        over = asyncio.Event()
        port, path = server.door
        pushers = [asyncio.create_task(self._push(port, path, pause, over)) for _ in range(PUSHERS)]
        try:
            yield
        finally:
            over.set()
            await asyncio.wait(pushers)

    async def _push(self, port: int, path: str, pause: float, over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return  # the server is gone, and nothing was sent
            with contextlib.closing(writer.transport):
                while not over.is_set() and not reader.at_eof():
                    if not await self._once(reader, writer, path):
                        break
                    await asyncio.sleep(pause * self.chance.uniform(0.95, 1.15))

    async def _once(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str
    ) -> bool:
        """Whether the connection is kept."""
        number, began, status, head = next(self.numbers), time.monotonic(), NO_ANSWER, b""
        text = json.dumps({"task_id": f"t{number}", "status": "Success", "file_id": "1"})
        length = f"Content-Length: {len(text)}"
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n{text}".encode())
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(size or 0))
                status = int(head[9:12])
        self.told.note(Answer(number, status, began, time.monotonic() - began))
        return status != NO_ANSWER and b"connection: close" not in head


FAULT: Fault = KeepAlive()
