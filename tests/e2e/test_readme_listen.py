"""The README's way to try a subscriber on a machine that nobody can reach, word for word but for the port."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.server import LocalServer
from deploy.demo.simulator import Simulator
from tests.e2e.test_readme import KEY, ROOT, blocks, reader, run

EVENTS = {"task.succeeded": 1, "task.failed": 1}


async def test_a_reader_sees_made_up_pushes_arrive_at_a_port(tmp_path: Path) -> None:
    listen, trigger = blocks("While you write the subscriber")
    arrived: asyncio.Queue[str] = asyncio.Queue()

    async def take(request: Request) -> Response:
        await arrived.put(request.headers["ce-type"])
        return Response()

    program = Starlette(routes=[Route("/", take, methods=["POST"])])
    async with (
        reader(tmp_path, Simulator(KEY), has_keys=False) as environ,
        LocalServer(program) as local,
    ):
        listener = await asyncio.create_subprocess_exec(
            *("sh", "-eu", "-c", listen.replace("3000", local.url.rpartition(":")[2])),
            cwd=ROOT,
            env=environ,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code, output = await run(trigger, environ)
            async with asyncio.timeout(20):
                types = Counter([await arrived.get() for _ in range(sum(EVENTS.values()))])
        finally:
            os.killpg(listener.pid, signal.SIGTERM)
            await listener.wait()

    assert code == 0, output
    assert types == EVENTS
