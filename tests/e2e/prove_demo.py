"""`taskbell demo --stay`, as a person types it and looks at it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from tests.docs.pages import page
from tests.e2e.process import TASKBELL, until
from tests.pages import Browser
from tests.patience import PATIENCE_SECONDS

_, LONG = (
    [os.fspath(TASKBELL), *command.split()[1:]]
    for block in page("README.md").blocks(heading="Look at it")
    for command in block.commands
)


@contextlib.asynccontextmanager
async def staying(folder: Path) -> AsyncIterator[tuple[subprocess.Popen[str], str]]:
    """The demo that goes on, and what it says at its start."""
    process = await asyncio.to_thread(_start_staying, folder)
    assert process.stdout is not None
    try:
        said = ""
        while "Ctrl-C" not in said:
            line = await asyncio.to_thread(process.stdout.readline)
            assert line, said
            said += line
        yield process, said
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _start_staying(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        LONG,
        cwd=folder,
        env={"PYTHONUTF8": "1", "COLUMNS": "100", "TMPDIR": os.fspath(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_who_stays_sees_tasks_and_repeats_what_failed(tmp_path: Path) -> None:
    async with staying(tmp_path) as (process, said):
        link = re.search(r"(http://127.0.0.1:\d+)(/login\?once=(\S+))", said)
        key = re.search(r"TASKBELL_API_KEY=(\S+)", said)
        assert link
        assert key
        async with httpx.AsyncClient(
            base_url=link[1], timeout=PATIENCE_SECONDS, trust_env=False, verify=False
        ) as client:
            person = Browser(client, origin=link[1])
            await person.press(link[2], "/login", once=link[3])

            async def shown() -> bool:
                return (await person.see("/")).count('<tr id="task_') > 3

            await until(shown, PATIENCE_SECONDS)
            client.headers["authorization"] = f"Bearer {key[1]}"

            async def dead() -> list[str]:
                page = await client.get("/v1/deliveries", params={"status": "dead"})
                return [delivery["id"] for delivery in page.json()["data"]]

            async def any_dead() -> bool:
                return bool(await dead())

            await until(any_dead, PATIENCE_SECONDS)
            (first, *_) = await dead()
            detail = (await client.get(f"/v1/deliveries/{first}")).json()
            await client.post(f"/v1/deliveries/{first}/retry")

            async def delivered() -> bool:
                again = await client.get(f"/v1/deliveries/{first}")
                return bool(again.json()["status"] == "delivered")

            await until(delivered, PATIENCE_SECONDS)
        process.send_signal(signal.SIGINT)
        code = await asyncio.to_thread(process.wait, PATIENCE_SECONDS)

    assert "the CRM has not been told yet" in str(detail["attempts"])
    assert code == 0
    assert os.listdir(tmp_path) == []
