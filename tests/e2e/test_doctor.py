"""`taskbell doctor` and `taskbell replay` beside a server as it is really started."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.settings import process_environment
from tests.app import HOOK, good, minimax
from tests.e2e.process import TASKBELL, Process, processes


async def run(process: Process, *arguments: str, **changed: str) -> tuple[int, str, str]:
    """A command in the server's folder, with its settings; exit code, stdout, stderr."""
    environ = {**process.environment, "TASKBELL_URL": process.url, "PATH": path()}
    command = await asyncio.create_subprocess_exec(
        TASKBELL,
        *arguments,
        cwd=process.log.parent,
        env={**environ, **changed},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await command.communicate()
    return command.returncode or 0, out.decode(), err.decode()


def path() -> str:
    return process_environment()["PATH"]


async def test_a_server_that_is_well_is_found_so_and_its_troubles_are_found_too(
    sqlite_url: str, tmp_path: Path
) -> None:
    async with processes(tmp_path, sqlite_url, {"TASKBELL_ROLES": "receive"}) as [process]:
        code, out, err = await run(process, "doctor", "--json")
        well = by_check(out)
        made = good(
            (await process.api.post("/v1/callback-urls", json={"provider": "minimax"})), 201
        )
        await process.api.post(made["url"].removeprefix(process.url), json=minimax())
        wish = {"url": HOOK + "/webhook-test/7"}
        subscription = good(await process.api.post("/v1/subscriptions", json=wish), 201)
        sick = await run(process, "doctor", TASKBELL_PROT="1")
        replayed = await run(process, "replay", "--subscription", subscription["id"], "--yes")

    assert (code, err) == (0, ""), out
    assert {name: each["level"] for name, each in well.items() if each["level"] != "ok"} == {
        "Atlas Cloud key": "skip",
        "MiniMax key": "skip",
        "元境 key": "skip",
        "public URL": "warn",
    }
    assert "answered in" in well["challenge"]["text"]
    assert well["API key"]["text"] == "accepted, with scope admin"
    assert sick[0] == 1
    assert "did you mean TASKBELL_PORT?" in sick[1]
    assert "is a test URL of n8n" in sick[1]
    assert replayed == (
        0,
        f"1 delivery to {HOOK}/webhook-test/7 made; see them with: taskbell deliveries\n",
        "",
    )


def by_check(out: str) -> Mapping[str, Any]:
    found = [json.loads(line) for line in out.splitlines()]
    return {each["check"]: each for each in found}
