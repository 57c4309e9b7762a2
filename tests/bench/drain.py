"""How fast a dispatcher works off what waits: what several rows measure."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.bench.bench import Bench
from tests.bench.load import Count, Sink
from tests.bench.processes import peak_memory_bytes
from tests.bench.taskbell import serving


@dataclass(frozen=True, slots=True)
class Drained:
    """Deliveries a second from the first one on, and the most memory the process took."""

    per_second: float
    peak_megabytes: float


def drain(bench: Bench, database: str, sink: Sink, waiting: int, seconds: float = 10.0) -> Drained:
    """Start a process with the role `dispatch` alone; watch it until nothing waits or time is up."""
    sink.reset()
    with bench.folder() as folder, serving(folder, database, roles="dispatch") as taskbell:
        count = watch(sink, waiting, seconds)
        return Drained(count.per_second, peak_memory_bytes(taskbell.pid) / 1e6)


def watch(sink: Sink, wanted: int, seconds: float) -> Count:
    """The count when all are there, or when so much time has passed since the first."""
    seen = sink.wait(1)
    while seen.requests < wanted and time.monotonic() < seen.first + seconds:
        time.sleep(0.01)
        seen = sink.count()
    return seen
