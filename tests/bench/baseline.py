"""What Taskbell is held against that is no peer: bare parts that store nothing, and the naive way."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.processes import output, server, until_ready
from tests.ports import free_port

_PARTS = "tests.bench.baselines"


@contextmanager
def bare_route(folder: Path) -> Iterator[str]:
    """A Starlette route that parses and answers; its URL."""
    with _app(folder, "bare") as url:
        yield url


class Naive:
    """A session and a commit per request, a table that is polled, httpx."""

    name = "naive"
    durability = "as Taskbell's, in the same database"

    @contextmanager
    def running(self, folder: Path, database: str | None, sinks: Sequence[str]) -> Iterator[str]:
        with _app(folder, "naive", database or f"sqlite:///{folder}/naive.db", *sinks) as url:
            yield url


def bare_client(url: str, seconds: float, rate: float | None = None) -> dict[str, float]:
    """Post with 64 in flight, or at a rate; the round trips' p50 and p99 in milliseconds."""
    words = [url, str(seconds), *([str(rate)] if rate else [])]
    took: dict[str, float]
    took = json.loads(output(sys.executable, "-m", f"{_PARTS}.client", *words))
    return took


@contextmanager
def _app(folder: Path, name: str, *arguments: str) -> Iterator[str]:
    port = free_port()
    here = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", f"{_PARTS}.{name}", str(port), *arguments]
    log = folder / f"{name}.log"
    with server(command, log) as process:
        until_ready(f"{here}/ready", process, log)
        yield f"{here}/push"
