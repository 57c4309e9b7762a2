"""The same with a million finished tasks in the tables, against empty ones.

Each has its task, event, delivery, attempt and receipt, so the tables hold five million rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from tests.bench.bench import Bench
from tests.bench.drain import drain
from tests.bench.figures import Line, at_least
from tests.bench.load import Sink, running_sink
from tests.bench.progress import say
from tests.bench.row import Row
from tests.bench.stock import add_finished, record_endings
from tests.bench.taskbell import subscribe


class Finished:
    name = "finished"
    about = "the same with a million finished tasks in the tables, against empty ones"

    def measure(self, bench: Bench) -> Iterator[Line]:
        for engine in bench.engines:
            with ExitStack() as stack:
                sink = stack.enter_context(running_sink())
                empty, full = (stack.enter_context(bench.database(engine)) for _ in range(2))
                subscribe(empty, [sink.url])
                subscribe(full, [sink.url])
                number = bench.size(1_000_000, quick=20_000)
                say(f"  filling {engine} with {number:,} finished tasks")
                add_finished(full, number)
                takers = {
                    "empty tables": partial(_deliveries, bench, sink, empty),
                    "taskbell": partial(_deliveries, bench, sink, full),
                }
                found = bench.measured(takers)
            what = "the same with 1 M finished"
            yield Line(what, engine, found["taskbell"], found["empty tables"], at_least(0.85))


def _deliveries(bench: Bench, sink: Sink, database: str) -> float:
    """Deliveries a second; all are delivered at the end, and finished for the next turn."""
    waiting = bench.size(20_000, quick=500)
    record_endings(database, waiting)
    return drain(bench, database, sink, waiting, seconds=120.0).per_second


ROW: Row = Finished()
