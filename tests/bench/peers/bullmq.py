"""fastify + BullMQ on Redis + undici, in Node: a process for the web, one for the worker.

64 jobs at a time. undici's request() and not fetch(), which takes three times the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers.environment import node_program
from tests.bench.peers.programs import free_port, program
from tests.bench.peers.queue_peer import describe, ready
from tests.bench.peers.redis_server import DURABILITY, redis
from tests.bench.system import System


@dataclass(frozen=True, slots=True)
class BullMQ:
    name: str
    durability: str

    @contextmanager
    def running(self, folder: Path, database: str | None, sinks: Sequence[str]) -> Iterator[str]:
        programs = node_program("bullmq")
        port = free_port()
        with redis(folder) as broker:
            describe(folder, broker, sinks)
            with (
                program(["node", programs / "worker.mjs"], folder, "worker.log") as worker,
                program(["node", programs / "web.mjs", str(port)], folder, "web.log") as web,
            ):
                worker.ready_when(lambda: ready(folder) == 1)
                web.listens_at(port)
                yield f"http://127.0.0.1:{port}/push"


SYSTEM: System = BullMQ(
    name="fastify + BullMQ + undici",
    durability=f"{DURABILITY}; a killed worker's jobs come back after a minute",
)
