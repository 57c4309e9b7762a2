"""CPU seconds for 10,000 deliveries, by one dispatching process and by several that share the work.

On PostgreSQL. The deliveries become due when all processes are ready, so that no start is counted.
PostgreSQL's own CPU is told beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from tests.bench.bench import Bench
from tests.bench.figures import Line, at_most
from tests.bench.load import Sink, running_sink
from tests.bench.postgresql import cpu_of
from tests.bench.processes import cpu_seconds
from tests.bench.row import Row
from tests.bench.stock import put_off, record_endings
from tests.bench.taskbell import several, subscribe

_ONE = "1 process"
Copy = Callable[[], AbstractContextManager[str]]


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds for 10,000 deliveries."""

    taskbell: float
    postgresql: float


class Processes:
    name = "processes"
    about = "CPU seconds for 10,000 deliveries with 1, 2 and 4 processes on PostgreSQL"

    def measure(self, bench: Bench) -> Iterator[Line]:
        if "postgresql" not in bench.engines:
            return
        waiting = bench.size(30_000, quick=2_000)
        with (
            running_sink() as sink,
            bench.prepared("postgresql", partial(_fill, sink.url, waiting)) as copy,
        ):
            takers = {
                _named(number): partial(_cost, bench, sink, copy, waiting, number)
                for number in (1, 2, 4)
            }
            found = bench.in_turns(takers)
        ours = {name: turns.figure(lambda cost: cost.taskbell) for name, turns in found.items()}
        theirs = {name: turns.figure(lambda cost: cost.postgresql) for name, turns in found.items()}
        for number in (_named(2), _named(4)):
            what = f"CPU s for 10,000 deliveries, {number}"
            yield Line(what, "postgresql", ours[number], ours[_ONE], at_most(1.2))
        for number in (_named(2), _named(4)):
            what = f"PostgreSQL's CPU s meanwhile, {number}"
            yield Line(what, "postgresql", theirs[number], theirs[_ONE])


def _named(number: int) -> str:
    return f"{number} processes" if number > 1 else _ONE


def _fill(url: str, waiting: int, database: str) -> None:
    subscribe(database, [url])
    record_endings(database, waiting)
    put_off(database, timedelta(hours=1))


def _cost(bench: Bench, sink: Sink, copy: Copy, waiting: int, processes: int) -> Cost:
    server = bench.postgresql
    assert server is not None
    sink.reset()
    with (
        bench.folder() as folder,
        copy() as database,
        several(folder, database, processes, roles="dispatch") as running,
    ):
        pids = [taskbell.pid for taskbell in running]
        time.sleep(1)  # what is done once at the start is done
        before, before_there = cpu_seconds(pids), cpu_of(server)
        put_off(database, timedelta())
        sink.wait(waiting)
        used, used_there = cpu_seconds(pids) - before, cpu_of(server) - before_there
    return Cost(used / waiting * 10_000, used_there / waiting * 10_000)


ROW: Row = Processes()
