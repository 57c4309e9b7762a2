"""FastAPI + taskiq on Redis streams, the broker of taskiq-redis that acknowledges, + aiohttp.

Two processes with up to 100 jobs at a time each, as taskiq has it by itself.
"""

from __future__ import annotations

from tests.bench.peers.queue_peer import FastAPIPeer
from tests.bench.peers.redis_server import DURABILITY
from tests.bench.system import System

SYSTEM: System = FastAPIPeer(
    name="FastAPI + taskiq + aiohttp",
    durability=f"{DURABILITY}; a killed worker's jobs come back after ten minutes",
    app="taskiq_app",
    worker=["taskiq", "worker", "taskiq_app:broker", "--workers", "2", "--log-level", "WARNING"],
    processes=2,
)
