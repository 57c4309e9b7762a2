"""The two ends of every measurement, each a process: the sender of pushes, the sink of deliveries."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tests.bench.processes import output, program
from tests.bench.system import Broken

CONNECTIONS = 64
_HERE = Path(__file__).parent
_numbers = count(10**15, 10**6)


@dataclass(frozen=True, slots=True)
class Sent:
    """began: monotonic seconds. p50, p99: of the answers, in milliseconds. moments: by number."""

    count: int
    began: float
    seconds: float
    p50: float
    p99: float
    cpu_seconds: float
    moments: Mapping[int, float]

    @property
    def per_second(self) -> float:
        return self.count / self.seconds


def send(url: str, pushes: int, *, rate: float | None = None) -> Sent:
    """Push, each a task nobody has heard of; rate per second, or as fast as they are answered.

    Raises Broken when one was not answered with 2xx.
    """
    first = next(_numbers)
    words = [url, pushes, CONNECTIONS, first, *([rate] if rate else [])]
    told: dict[str, Any]
    told = json.loads(output(sys.executable, _HERE / "sender.py", *map(str, words)))
    taken = sum(n for status, n in told["statuses"].items() if status.startswith("2"))
    if taken != pushes:
        raise Broken(f"of {pushes} pushes not every one was taken: {told['statuses']}")
    moments = {first + place: moment for place, moment in enumerate(told["sent"])}
    return Sent(
        pushes, told["began"], told["seconds"], told["p50"], told["p99"], told["cpu"], moments
    )


@dataclass(frozen=True, slots=True)
class Count:
    """Requests so far, and when the first and the last came, in monotonic seconds."""

    requests: int
    first: float
    last: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return (self.requests - 1) / (self.last - self.first) if self.requests > 1 else 0.0


class Sink:
    """The sink's process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin
        assert process.stdout
        self._in, self._out = process.stdin, process.stdout
        self.port = int(self._out.readline())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def urls(self, number: int) -> list[str]:
        return [f"{self.url}/{place}" for place in range(number)]

    def count(self) -> Count:
        requests, first, last, cpu = self._ask("count").split()
        return Count(int(requests), float(first), float(last), float(cpu))

    def reset(self) -> None:
        self._ask("reset")

    def record(self) -> None:
        """From now on remember when each push arrived."""
        self._ask("record")

    def arrivals(self) -> dict[int, float]:
        told: dict[str, float] = json.loads(self._ask("arrivals"))
        return {int(number): moment for number, moment in told.items()}

    def wait(self, wanted: int, patience: float = 30.0) -> Count:
        """The count once it is `wanted`. Raises Broken when nothing came for a long time."""
        seen, since = self.count(), time.monotonic()
        while seen.requests < wanted:
            time.sleep(0.02)
            now = self.count()
            if now.requests > seen.requests:
                since = time.monotonic()
            elif time.monotonic() - since > patience:
                raise Broken(f"{now.requests} of {wanted} deliveries came, then no more")
            seen = now
        return seen

    def _ask(self, word: str) -> str:
        self._in.write(word + "\n")
        self._in.flush()
        return self._out.readline()


@contextmanager
def running_sink(host: str = "127.0.0.1") -> Iterator[Sink]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with program(sys.executable, str(_HERE / "sink.py"), host, **pipes) as process:
        yield Sink(process)
