"""FastAPI + arq (on Redis) + httpx. A worker for each core, 64 jobs at a time each."""

from __future__ import annotations

from tests.bench.peers.queue_peer import FastAPIPeer
from tests.bench.peers.redis_server import DURABILITY
from tests.bench.system import System

SYSTEM: System = FastAPIPeer(
    name="FastAPI + arq + httpx",
    durability=f"{DURABILITY}; a killed worker's jobs come back after five minutes",
    app="arq_app",
    worker=("arq", "arq_app.WorkerSettings"),
    times=2,
)
