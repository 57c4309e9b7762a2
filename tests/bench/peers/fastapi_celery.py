"""FastAPI + Celery on Redis + requests.

A process for each core, as Celery has it by itself. Measured here too and no faster: 8 processes,
64 threads, 64 greenlets.
"""

from __future__ import annotations

from tests.bench.peers.queue_peer import FastAPIPeer
from tests.bench.peers.redis_server import DURABILITY
from tests.bench.system import System

SYSTEM: System = FastAPIPeer(
    name="FastAPI + Celery + requests",
    durability=f"{DURABILITY}; acks late: a killed worker's jobs come back after an hour,"
    " but for one it had popped and not yet noted",
    app="celery_app",
    worker=["celery", "--app=celery_app", "worker", "--concurrency=2", "--loglevel=WARNING"],
    processes=2,
)
