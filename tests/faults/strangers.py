"""Pushers and challengers that each come on a connection of their own, however many that are."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.pushes import Answer, Told
from tests.faults.wire import Connection

_PUSH, _CHALLENGE = "t", "c"


@dataclass(slots=True)
class Seen:
    """told: of the pushes. challenges: the seconds each took, or None when it was not echoed."""

    told: Told = field(default_factory=Told)
    challenges: list[float | None] = field(default_factory=list)

    def broken(self, seconds: float) -> list[str]:
        """What a provider would complain of, when challenges have to be echoed in so long."""
        wrong = Counter(a.status for a in self.told.answers if a.status not in (200, 503))
        said = [
            f"{count} pushes were answered {status or 'by nothing'}"
            for status, count in wrong.items()
        ]
        failed = sum(each is None for each in self.challenges)
        slow = [each for each in self.challenges if each is not None and each > seconds]
        if failed or not self.challenges:
            said.append(f"{failed} of {len(self.challenges)} challenges were not echoed")
        if slow:
            said.append(f"{len(slow)} challenges took up to {max(slow):.1f} s")
        return said


@contextlib.asynccontextmanager
async def coming(port: int, path: str, *, pushes: float, challenges: float) -> AsyncIterator[Seen]:
    """So many a second of each while the block runs; then wait until all are answered."""
    seen = Seen()

    async def push(number: int) -> None:
        began = time.monotonic()
        body = {"task_id": f"t{number}", "status": "Success", "file_id": str(number)}
        status = await _once(port, path, body)
        seen.told.note(Answer(number, status, began, time.monotonic() - began))

    async def challenge(number: int) -> None:
        began = time.monotonic()
        status = await _once(port, path, {"challenge": f"c{number}"})
        seen.challenges.append(time.monotonic() - began if status == 200 else None)

    async with asyncio.TaskGroup() as asking:
        pacing = [
            asyncio.create_task(_pace(asking, push, pushes)),
            asyncio.create_task(_pace(asking, challenge, challenges)),
        ]
        try:
            yield seen
        finally:
            for each in pacing:
                each.cancel()


async def _pace(
    asking: asyncio.TaskGroup, ask: Callable[[int], Awaitable[None]], per_second: float
) -> None:
    began = time.monotonic()
    for number in itertools.count(1):
        await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
        asking.create_task(_wait_for(ask(number)))


async def _wait_for(asking: Awaitable[None]) -> None:
    await asking


async def _once(port: int, path: str, body: dict[str, Any]) -> int:
    with contextlib.closing(Connection(port)) as connection:
        return await connection.post(path, body)
