"""Deliveries a second while 100,000 wait for one endpoint, and the memory that takes.

The bare client is an asyncio loop that signs 1 KiB and posts it, 64 in flight: no store, no guard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial

from tests.bench.baseline import bare_client
from tests.bench.bench import Bench
from tests.bench.drain import Drained, drain
from tests.bench.figures import Line, at_least, below
from tests.bench.load import Sink, running_sink
from tests.bench.row import Row
from tests.bench.stock import record_endings
from tests.bench.taskbell import subscribe

Copy = Callable[[], AbstractContextManager[str]]


class Backlog:
    name = "backlog"
    about = "deliveries a second while 100,000 wait, against a bare client that signs"

    def measure(self, bench: Bench) -> Iterator[Line]:
        waiting = bench.size(100_000, quick=2_000)
        with ExitStack() as stack:
            sink = stack.enter_context(running_sink())
            takers: dict[str, Callable[[], Drained]]
            takers = {"bare client": partial(_bare, bench, sink)}
            for engine in bench.engines:
                fill = partial(_fill, sink.url, waiting)
                copy = stack.enter_context(bench.prepared(engine, fill))
                takers[engine] = partial(_taskbell, bench, sink, copy, waiting)
            found = bench.in_turns(takers)
        speeds = {name: turns.figure(lambda one: one.per_second) for name, turns in found.items()}
        for engine in bench.engines:
            ours, bare = speeds[engine], speeds["bare client"]
            yield Line("deliveries/s from a backlog", engine, ours, bare, at_least(0.5))
            memory = found[engine].figure(lambda one: one.peak_megabytes)
            yield Line("MB of memory meanwhile", engine, memory, goal=below(200))


def _fill(url: str, waiting: int, database: str) -> None:
    subscribe(database, [url])
    record_endings(database, waiting)


def _bare(bench: Bench, sink: Sink) -> Drained:
    sink.reset()
    bare_client(sink.url, seconds=1.0 if bench.quick else 10.0)
    return Drained(sink.count().per_second, 0.0)


def _taskbell(bench: Bench, sink: Sink, copy: Copy, waiting: int) -> Drained:
    with copy() as database:
        return drain(bench, database, sink, waiting)


ROW: Row = Backlog()
