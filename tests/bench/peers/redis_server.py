"""A Redis of a peer's own that keeps what it has answered for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.peers.environment import redis_server
from tests.bench.peers.programs import free_port, program

DURABILITY = "Redis, on disk before the answer (appendfsync always)"
_SETTINGS = {
    "bind": "127.0.0.1",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
}


@contextmanager
def redis(folder: Path, database: str | None = None) -> Iterator[str]:
    """Its URL. The run's database is not needed. Raises Unavailable."""
    port = free_port()
    settings = {**_SETTINGS, "port": str(port), "dir": str(folder)}
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    with program([redis_server(), *words], folder, "redis.log") as server:
        server.listens_at(port)
        yield f"redis://127.0.0.1:{port}/0"
