"""The same for 1,000 endpoints that each wait for their share, against one that waits for all.

Each endpoint has an address of its own (127.x.y.z), so each takes connections of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial

from tests.bench.bench import Bench
from tests.bench.drain import drain
from tests.bench.figures import Line, at_least
from tests.bench.load import Sink, running_sink
from tests.bench.row import Row
from tests.bench.stock import record_endings, share_out
from tests.bench.taskbell import subscribe


class Endpoints:
    name = "endpoints"
    about = "the same for 1,000 endpoints instead of one"

    def measure(self, bench: Bench) -> Iterator[Line]:
        waiting, endpoints = bench.size(100_000, quick=500), bench.size(1_000, quick=100)
        for engine in bench.engines:
            with ExitStack() as stack:
                sink = stack.enter_context(running_sink("0.0.0.0"))
                takers = {}
                for name, urls in {
                    "one": [sink.url],
                    "many": _addresses(sink.port, endpoints),
                }.items():
                    fill = partial(_fill, urls, waiting)
                    copy = stack.enter_context(bench.prepared(engine, fill))
                    takers[name] = partial(_deliveries, bench, sink, copy, waiting)
                found = bench.measured(takers)
            ours, one = (replace(found[each], name=f"{each} endpoint") for each in ("many", "one"))
            yield Line("the same to 1,000 endpoints", engine, ours, one, at_least(0.6))


def _fill(urls: Sequence[str], waiting: int, database: str) -> None:
    subscribe(database, urls[:1])
    record_endings(database, waiting)
    subscribe(database, urls[1:])
    share_out(database)


def _deliveries(
    bench: Bench, sink: Sink, copy: Callable[[], AbstractContextManager[str]], waiting: int
) -> float:
    with copy() as database:
        return drain(bench, database, sink, waiting).per_second


def _addresses(port: int, number: int) -> list[str]:
    return [f"http://127.0.{n // 250 + 1}.{n % 250 + 1}:{port}/hook" for n in range(number)]


ROW: Row = Endpoints()
