"""Durable pushes a second: task, event and one delivery row are committed, then comes the 200.

Taskbell has the role `receive` alone and one subscription, so nothing is sent meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.bench.baseline import Naive, bare_route
from tests.bench.bench import Bench
from tests.bench.figures import Goal, Line, at_least
from tests.bench.flow import pushes_taken
from tests.bench.row import Row
from tests.bench.taskbell import serving, subscribe

_NOWHERE = "http://127.0.0.1:65000/"


class Pushes:
    name = "pushes"
    about = "pushes taken a second, each committed, against a bare route and the naive way"

    def measure(self, bench: Bench) -> Iterator[Line]:
        takers = {"bare route": partial(_bare, bench)}
        for engine in bench.engines:
            takers[f"naive, {engine}"] = partial(_naive, bench, engine)
            takers[f"taskbell, {engine}"] = partial(_taskbell, bench, engine)
        found = bench.measured(takers)
        for engine in bench.engines:
            ours = found[f"taskbell, {engine}"]
            goals: dict[str, Goal] = {"bare route": at_least(0.3), f"naive, {engine}": at_least(5)}
            for name, goal in goals.items():
                yield Line("durable pushes/s", engine, ours, found[name], goal)


def _bare(bench: Bench) -> float:
    with bench.folder() as folder, bare_route(folder) as url:
        return pushes_taken(url, _seconds(bench))


def _naive(bench: Bench, engine: str) -> float:
    with (
        bench.folder() as folder,
        bench.database(engine) as database,
        Naive().running(folder, database, sinks=[]) as url,
    ):
        return pushes_taken(url, _seconds(bench))


def _taskbell(bench: Bench, engine: str) -> float:
    with bench.folder() as folder, bench.database(engine) as database:
        subscribe(database, [_NOWHERE])
        with serving(folder, database, roles="receive") as taskbell:
            return pushes_taken(taskbell.url, _seconds(bench))


def _seconds(bench: Bench) -> float:
    return 0.5 if bench.quick else 5.0


ROW: Row = Pushes()
