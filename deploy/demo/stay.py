"""`taskbell demo --stay`: simulated tasks for the dashboard, until somebody stops it.

In real time: pushes get lost, tasks fail, and one of two subscribers is a step behind, so that its
deliveries end as dead letters. Who repeats one in the dashboard sees it delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from itertools import cycle
from pathlib import Path
from zlib import crc32

from rich.console import Console
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.demo import stage
from deploy.demo.faults import Faults
from deploy.demo.pictures import pictures
from deploy.demo.server import LocalServer
from deploy.demo.show import JOBS
from deploy.demo.simulator import Simulator
from deploy.demo.stage import Stage
from deploy.demo.subscriber import Subscriber

FIRST = 8
"""Tasks at the start: the first look shall find something."""

PAUSE_SECONDS = 4.0
_DURATIONS = (6.0, 45.0)
_FAULTS = Faults(drop=0.25, duplicate=0.2, fail=0.15, rate_limited=0.02)
_CUSTOMERS = ("Nordlicht Film", "青石影业", "Casa Verde")
_TRIES = 3
_ENVIRONMENT = {"TASKBELL_RETRY_SCHEDULE": "3,6"}  # two waits: a dead letter within ten seconds
_BEHIND = JSONResponse({"error": "unknown customer: the CRM has not been told yet"}, 503)


class Behind:
    """In front of a subscriber: refuses one event in five until it was sent three times."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._sent: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refuses = scope["type"] == "http" and self._refuses(Headers(scope=scope)["webhook-id"])
        await (_BEHIND if refuses else self._app)(scope, receive, send)

    def _refuses(self, event_id: str) -> bool:
        if crc32(event_id.encode()) % 5:
            return False
        self._sent[event_id] += 1
        return self._sent[event_id] <= _TRIES


async def run_until_stopped(console: Console) -> None:
    """Play, and say where to look; SIGINT and SIGTERM end it."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    with tempfile.TemporaryDirectory(prefix="taskbell-demo-") as folder:
        file = f"sqlite:///{Path(folder) / 'demo.db'}"
        async with (
            LocalServer(pictures) as gallery,
            stage.set_up(
                file, _simulator(gallery.url), Subscriber(""), environment=_ENVIRONMENT
            ) as scene,
            _crm(scene),
        ):
            console.print(_greeting(scene), markup=False, highlight=False, soft_wrap=True)
            await _submit_on(scene, stopped)
    console.print("Stopped. Nothing is left behind.")


def _simulator(gallery: str) -> Simulator:
    return Simulator(
        stage.PROVIDER_KEY, durations=_DURATIONS, seed=7, faults=_FAULTS, pictures=gallery
    )


@contextlib.asynccontextmanager
async def _crm(scene: Stage) -> AsyncIterator[None]:
    crm = Subscriber("")
    async with LocalServer(Behind(crm.app)) as server:
        wish = {"url": f"{server.url}/hook", "description": "CRM, a step behind"}
        crm.secret = (await scene.api.post("/v1/subscriptions", json=wish)).json()["secret"]
        yield


def _greeting(scene: Stage) -> str:
    return f"""Three simulated providers, Taskbell and two subscribers are up; a new task every {PAUSE_SECONDS:.0f} seconds.

Dashboard  {scene.sign_in}
           (the link signs in once, within ten minutes; later, sign in with the key)

For other commands, in another terminal of this folder:
  export TASKBELL_URL={scene.url} TASKBELL_API_KEY={scene.api_key}

Ctrl-C ends it.
"""


async def _submit_on(scene: Stage, stopped: asyncio.Event) -> None:
    customers = cycle(_CUSTOMERS)
    for number, job in enumerate(cycle(JOBS)):
        await scene.submit(job, metadata={"job": job.label, "customer": next(customers)})
        scene.tasks.clear()  # for ever is long
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), PAUSE_SECONDS if number >= FIRST else 0.2)
        if stopped.is_set():
            return
