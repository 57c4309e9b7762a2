"""`taskbell listen` with real processes: either side goes away under load, and nothing is missed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx

from deploy.demo.server import LocalServer
from deploy.demo.subscriber import Subscriber
from dispatch.signing import new_secret
from tests.e2e.process import TASKBELL, Process, processes, until
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port

PART = 40


async def test_nothing_is_missed_whichever_side_is_restarted(
    sqlite_url: str, tmp_path: Path
) -> None:
    program, port = Subscriber(new_secret()), free_port()

    async def arrived(count: int) -> bool:
        return len(program.events) >= count

    async with processes(tmp_path, sqlite_url, {}) as [server], httpx.AsyncClient() as client:
        push = partial(_push, client, await _callback_url(server))
        async with _listening(server, port, program.secret, tmp_path) as said:
            async with LocalServer(program.app, port=port):
                await until(partial(_has, said, "go to"), PATIENCE_SECONDS)
                await push(0)
                server.kill()
                await server.start()
                await push(1)
                await until(partial(arrived, 2 * PART), PATIENCE_SECONDS)
            await push(2)  # the program is away
            await until(partial(_has, said, "nobody is at"), PATIENCE_SECONDS)
            async with LocalServer(program.app, port=port):
                await until(partial(arrived, 3 * PART), PATIENCE_SECONDS)
        log = (await server.api.get("/v1/events", params={"limit": "200"})).json()["data"]

    assert [event.id for event in program.events] == [event["id"] for event in log]
    assert set(program.attempts.values()) <= {1, 2}  # cut off between answer and note: once more


async def _callback_url(server: Process) -> str:
    made = await server.api.post("/v1/callback-urls", json={"provider": "minimax"})
    return str(made.json()["url"])


async def _push(client: httpx.AsyncClient, url: str, part: int) -> None:
    for number in range(PART):
        answer = await client.post(url, json={"task_id": f"{part}-{number}", "status": "Success"})
        assert answer.status_code == 200


@contextlib.asynccontextmanager
async def _listening(server: Process, port: int, secret: str, folder: Path) -> AsyncIterator[Path]:
    """The command, and the file that holds what it says."""
    said = folder / "listen.txt"
    key = server.api.headers["authorization"].removeprefix("Bearer ")
    settings = {"URL": server.url, "API_KEY": key, "WEBHOOK_SECRET": secret}
    with said.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(TASKBELL, "listen", f"{port}/hook"),
            cwd=folder,
            env={"PYTHONUTF8": "1"} | {f"TASKBELL_{name}": text for name, text in settings.items()},
            stdout=file,
            stderr=file,
        )
        try:
            yield said
            process.terminate()
            assert await asyncio.wait_for(process.wait(), PATIENCE_SECONDS) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


async def _has(file: Path, words: str) -> bool:
    return words in await asyncio.to_thread(file.read_text)
