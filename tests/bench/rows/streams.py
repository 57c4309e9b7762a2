"""What a thousand idle event streams cost a process, beside the same process without any."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from tests.bench.bench import Bench
from tests.bench.figures import Line, Measured
from tests.bench.processes import cpu_seconds, memory_bytes
from tests.bench.row import Row
from tests.bench.system import Broken
from tests.bench.taskbell import API_KEY, Running, serving

_STREAMS = 1_000


@dataclass(frozen=True, slots=True)
class Cost:
    """Per cent of a core, and KiB a stream."""

    without: float
    percent: float
    kib: float


class Streams:
    name = "streams"
    about = "CPU and memory of a process that 1,000 clients follow while nothing happens"

    def measure(self, bench: Bench) -> Iterator[Line]:
        found = bench.in_turns({engine: partial(_cost, bench, engine) for engine in bench.engines})
        for engine in bench.engines:
            each = found[engine]
            without = each.figure(lambda cost: cost.without)
            alone = Measured("the same without streams", without.values, without.missing)
            percent = each.figure(lambda cost: cost.percent)
            yield Line(f"% of a core, {_STREAMS:,} idle streams", engine, percent, alone)
            yield Line("KiB a stream", engine, each.figure(lambda cost: cost.kib))


def _cost(bench: Bench, engine: str) -> Cost:
    seconds = bench.size(30, quick=4)
    with (
        bench.folder() as folder,
        bench.database(engine) as database,
        serving(folder, database) as taskbell,
    ):
        time.sleep(1)  # what is done once at the start is done
        return asyncio.run(_watched(taskbell, seconds))


async def _watched(taskbell: Running, seconds: float) -> Cost:
    without = await _percent(taskbell.pid, seconds)
    before = memory_bytes(taskbell.pid)
    async with _following(taskbell.url):
        await asyncio.sleep(1)
        percent = await _percent(taskbell.pid, seconds)
        grown = memory_bytes(taskbell.pid) - before
    return Cost(without, percent, grown / 1024 / _STREAMS)


async def _percent(pid: int, seconds: float) -> float:
    before = cpu_seconds([pid])
    await asyncio.sleep(seconds)
    return (cpu_seconds([pid]) - before) / seconds * 100


@asynccontextmanager
async def _following(url: str) -> AsyncIterator[None]:
    """A thousand streams, each begun."""
    writers = []
    try:
        for _ in range(_STREAMS):
            writers.append(await _follow(urlsplit(url).port))
        yield
    finally:
        for writer in writers:
            writer.close()


async def _follow(port: int | None) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"host: localhost\r\nauthorization: Bearer {API_KEY}\r\n\r\n"
    writer.write(f"GET /v1/events/stream HTTP/1.1\r\n{head}".encode())
    if b" 200 " not in await reader.readline():
        raise Broken("a stream was refused")
    return writer


ROW: Row = Streams()
