"""FastAPI + dramatiq on Redis + requests.

A process for each core with 8 threads each, as dramatiq has it by itself. Measured here too and no
faster: 32 threads each.
"""

from __future__ import annotations

from tests.bench.peers.queue_peer import FastAPIPeer
from tests.bench.peers.redis_server import DURABILITY
from tests.bench.system import System

SYSTEM: System = FastAPIPeer(
    name="FastAPI + dramatiq + requests",
    durability=f"{DURABILITY}; a killed worker's jobs come back after a minute",
    app="dramatiq_app",
    worker=["dramatiq", "dramatiq_app", "--processes", "2", "--threads", "8"],
    processes=2,
)
