"""Clients that hold connections and give nothing for them, and open new ones when they are closed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

_DRIP_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Habit:
    """What one sends at first, and then now and then."""

    sent: bytes = b""
    drop: bytes = b""


def half_a_head() -> Habit:
    return Habit(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: ", b"x")


def half_a_body(path: str) -> Habit:
    return Habit(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n".encode(), b" ")


@dataclass(slots=True)
class Idlers:
    """lives: how many seconds each connection lasted, those still open included."""

    lives: list[float] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def idling(
        self, port: int, habits: Sequence[Habit], *, again: bool
    ) -> AsyncIterator[None]:
        """All of them, all the while. again: they come back."""
        crowd = [asyncio.create_task(self._idle(port, habit, again)) for habit in habits]
        try:
            yield
        finally:
            for each in crowd:
                each.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)

    async def _idle(self, port: int, habit: Habit, again: bool) -> None:
        while True:
            with contextlib.suppress(OSError):
                await self._hold(port, habit)
            if not again:
                return
            await asyncio.sleep(_DRIP_SECONDS)

    async def _hold(self, port: int, habit: Habit) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        try:
            writer.write(habit.sent)
            await _until_closed(reader, writer, habit.drop)
        finally:
            self.lives.append(time.monotonic() - began)
            writer.transport.abort()


async def _until_closed(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, drop: bytes
) -> None:
    while not reader.at_eof():
        try:
            async with asyncio.timeout(_DRIP_SECONDS if drop else None):
                await reader.read(4096)
        except TimeoutError:
            writer.write(drop)
