"""What a process with all roles and nothing to do costs: CPU of one core, and queries to its database."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from tests.bench.bench import Bench
from tests.bench.figures import Line, at_most, below
from tests.bench.processes import cpu_seconds
from tests.bench.row import Row
from tests.bench.taskbell import serving, subscribe


@dataclass(frozen=True, slots=True)
class Cost:
    percent: float
    statements: float
    transactions: float


class Idle:
    name = "idle"
    about = "CPU and queries a second of an idle process with all roles"

    def measure(self, bench: Bench) -> Iterator[Line]:
        takers = {engine: partial(_cost, bench, engine) for engine in bench.engines}
        found = bench.in_turns(takers)
        for engine in bench.engines:
            percent = found[engine].figure(lambda cost: cost.percent)
            yield Line("% of a core, idle", engine, percent, goal=below(1))
            statements = found[engine].figure(lambda cost: cost.statements)
            yield Line("queries/s, idle", engine, statements, goal=at_most(2))
            transactions = found[engine].figure(lambda cost: cost.transactions)
            yield Line("transactions/s, idle", engine, transactions)


def _cost(bench: Bench, engine: str) -> Cost:
    seconds = 2.0 if bench.quick else 30.0
    with bench.folder() as folder, bench.database(engine) as database:
        subscribe(database, ["http://127.0.0.1:65000/"])
        file = folder / "counted"
        command = (sys.executable, "-m", "tests.bench.counting", file)
        with serving(folder, database, command=command) as taskbell:
            time.sleep(1)  # what is done once at the start is done
            began, before = time.monotonic(), cpu_seconds([taskbell.pid])
            time.sleep(seconds)
            ended, used = time.monotonic(), cpu_seconds([taskbell.pid]) - before
        counted: dict[str, list[float]] = json.loads(file.read_text())
    inside = {what: sum(began <= at < ended for at in moments) for what, moments in counted.items()}
    return Cost(
        used / seconds * 100, inside["statements"] / seconds, inside["transactions"] / seconds
    )


ROW: Row = Idle()
