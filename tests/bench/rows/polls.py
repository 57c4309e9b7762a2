"""Questions a second about 10,000 open tasks, and whether each task is asked about in time.

Taskbell has the role `poll` alone; budgets are set out of the way. Asked every 2 s (Atlas Cloud's
images) the tasks are more than one process can ask about: that is its speed, held against a bare
client loop. Asked every 5 s (videos; up to a tenth later, as Taskbell spreads them) they should
not wait longer than that.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from rich.console import Console

from store.events import Kind, Status, TaskUpdate
from store.records import Report, record
from tests.bench.bench import Bench
from tests.bench.figures import Line, at_least, at_most
from tests.bench.postgresql import running_postgresql
from tests.bench.processes import ROOT, cpu_seconds, program
from tests.bench.row import Row
from tests.bench.table import on_terminal
from tests.bench.taskbell import COMMAND, opened, serving
from tests.databases import ENGINES
from tests.making import registered

PACES = {Kind.IMAGE: 2.0, Kind.VIDEO: 5.0}
_IN_FLIGHT = 64
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions a second, the 99th percentile of the seconds between two about one task, CPU."""

    per_second: float
    between: float = 0.0
    cpu_percent: float = 0.0


class Polls:
    name = "polls"
    about = "questions a second about 10,000 open tasks, against a bare client loop"

    def measure(self, bench: Bench) -> Iterator[Line]:
        takers: dict[str, Callable[[], Asked]] = {"bare client": partial(_bare, bench)}
        for engine in bench.engines:
            for kind in PACES:
                takers[f"{engine}, {kind}"] = partial(_taskbell, bench, engine, kind)
        found = bench.in_turns(takers)
        bare = found["bare client"].figure(lambda asked: asked.per_second)
        for engine in bench.engines:
            fast, held = found[f"{engine}, image"], found[f"{engine}, video"]
            speed = fast.figure(lambda asked: asked.per_second)
            yield Line("polls/s, 10,000 open tasks", engine, speed, bare, at_least(0.5))
            between = held.figure(lambda asked: asked.between)
            yield Line("s between polls at 5 s, p99", engine, between, goal=at_most(6))
            cpu = held.figure(lambda asked: asked.cpu_percent)
            yield Line("% of a core meanwhile", engine, cpu)


def _bare(bench: Bench) -> Asked:
    with _provider() as (url, count):
        command = [sys.executable, "-m", "tests.bench.baselines.asker", url, str(_seconds(bench))]
        subprocess.run(command, check=True, cwd=ROOT)
        return count()


def _taskbell(bench: Bench, engine: str, kind: Kind) -> Asked:
    with bench.folder() as folder, bench.database(engine) as database, _provider() as (url, count):
        _open(database, bench.size(10_000, quick=1_000), kind)
        settings = {
            "BASE_URL": url,
            "API_KEY": "sk-bench-0123456789",
            "REQUESTS_PER_SECOND": "100000",
            "CONCURRENCY": str(_IN_FLIGHT),
        }
        named = [f"TASKBELL_ATLASCLOUD_{name}={value}" for name, value in settings.items()]
        with serving(folder, database, roles="poll", command=("env", *named, *COMMAND)) as taskbell:
            time.sleep(_seconds(bench) / 2)
            count()
            began, before = time.monotonic(), cpu_seconds([taskbell.pid])
            time.sleep(max(_seconds(bench), PACES[kind] * 1.5))
            used = (cpu_seconds([taskbell.pid]) - before) / (time.monotonic() - began)
            return replace(count(), cpu_percent=used * 100)


def _open(database: str, number: int, kind: Kind) -> None:
    """Tasks that are being processed, due evenly over their pace."""
    with opened(database) as store:
        writes = [
            store._writer.submit(record, _processing(f"task-{place}", kind, place / number))
            for place in range(number)
        ]
        for write in writes:
            write.result()


def _processing(task_id: str, kind: Kind, share: float) -> Report:
    due = timedelta(seconds=PACES[kind] * share)
    new = registered(task_id, provider="atlascloud", kind=kind, ask_in=due)
    return replace(new, update=TaskUpdate(Status.PROCESSING, "processing"))


@contextmanager
def _provider() -> Iterator[tuple[str, Callable[[], Asked]]]:
    """A provider's process: its base URL, and what it was asked since it was last looked at."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with program(sys.executable, str(_HERE.parent / "provider.py"), **pipes) as process:
        assert process.stdin
        assert process.stdout
        words, answers = process.stdin, process.stdout
        url = f"http://127.0.0.1:{int(answers.readline())}/api/v1"

        def count() -> Asked:
            words.write("\n")
            words.flush()
            number, first, last, _, between = json.loads(answers.readline())
            return Asked(number / (last - first) if last > first else 0.0, between)

        yield url, count


def _seconds(bench: Bench) -> float:
    return 1.0 if bench.quick else 10.0


ROW: Row = Polls()


def main() -> None:
    with running_postgresql() as server:
        bench = Bench("--quick" in sys.argv, 3, ENGINES, server)
        Console().print(on_terminal(list(ROW.measure(bench))))


if __name__ == "__main__":
    main()
