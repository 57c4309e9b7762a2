"""A new user's session at a terminal, against a server of its own: track, watch, listen, replay."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len

from deploy.demo.server import LocalServer
from deploy.demo.subscriber import Subscriber
from dispatch.signing import new_secret
from tests.e2e.process import TASKBELL, Process, processes
from tests.e2e.terminal import COLUMNS, HIDDEN, SHOWN, Terminal, opened
from tests.faults.servers import Nursery

TASK = "176843862716480"
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")


@dataclass(frozen=True, slots=True)
class Desk:
    """Where the user sits: a folder, and the way to the server."""

    folder: Path
    environment: Mapping[str, str]

    def terminal(self, *words: str, **more: str) -> AbstractAsyncContextManager[Terminal]:
        return opened([TASKBELL, *words], self.folder, {**self.environment, **more})

    async def pipe(self, *words: str) -> list[str]:
        """The lines of a command that writes to no terminal."""
        process = await asyncio.create_subprocess_exec(
            TASKBELL,
            *words,
            cwd=self.folder,
            env={"PYTHONUTF8": "1", **self.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        output, _ = await process.communicate()
        return output.decode().splitlines()


def at(server: Process, folder: Path) -> Desk:
    key = server.api.headers["authorization"].removeprefix("Bearer ")
    return Desk(folder, {"TASKBELL_URL": server.url, "TASKBELL_API_KEY": key})


async def test_a_session_from_track_to_replay(
    sqlite_url: str, tmp_path: Path, home: Nursery
) -> None:
    secret = new_secret()
    program = Subscriber(secret)
    async with (
        processes(tmp_path, sqlite_url, {}, home=home) as [server],
        LocalServer(program.app) as hook,
    ):
        desk = at(server, tmp_path)
        task = await _track(desk)
        await _watch(desk, task)
        await _listen(desk, task, f"{hook.url}/hook", secret)
        await asyncio.gather(_listen_without_colour(desk, task), _listen_in_a_pipe(desk, task))
        wish = {"url": f"{hook.url}/hook"}
        made = (await server.api.post("/v1/subscriptions", json=wish)).json()
        await _replay(desk, made["id"])

    assert [event.type for event in program.events] == ["task.queued", "task.succeeded"]


async def _track(desk: Desk) -> str:
    async with desk.terminal("track", "minimax", TASK, "--kind", "video") as terminal:
        assert await terminal.end() == 0
    *warning, line = terminal.lines
    assert "MINIMAX_API_KEY" in "".join(warning)  # this server has none
    task, *rest = line.split("  ")
    assert task.startswith("task_")
    assert rest == ["minimax", TASK, "queued"]
    return task


async def _watch(desk: Desk, task: str) -> None:
    async with desk.terminal("watch", task) as terminal:
        live = await terminal.until("queued")
        told = await desk.pipe("trigger", "minimax.success", "--task", TASK)
        assert await terminal.end() == 0
    assert told[-1] == f"{task}  minimax  {TASK}  succeeded"
    assert HIDDEN in live
    assert terminal.text.rindex(SHOWN) > terminal.text.rindex(HIDDEN)
    assert "✓ succeeded" in terminal.text
    assert COLOUR.search(terminal.text)
    _fits(terminal)


async def _listen(desk: Desk, task: str, url: str, secret: str) -> None:
    words = ("listen", url, "--replay", "10m", "--secret", secret)
    async with desk.terminal(*words) as terminal:
        await terminal.until("<-- 204", times=2)
        terminal.press("\x03")
        assert await terminal.end() == 0
    shown = "\n".join(terminal.lines)
    assert f"--> task.queued  {task}" in shown
    assert f"--> task.succeeded  {task}" in shown
    assert len(re.findall(r"^<-- 204  \d+ ms  evt_\w{26}$", shown, re.MULTILINE)) == 2
    assert shown.endswith("2 events came, 2 answered with 2xx, 0 not")
    assert COLOUR.search(terminal.text)
    _fits(terminal)


async def _listen_without_colour(desk: Desk, task: str) -> None:
    async with desk.terminal("listen", "--replay", "10m", NO_COLOR="1") as terminal:
        await terminal.until("succeeded")
        terminal.press("\x03")
        assert await terminal.end() == 0
    assert not COLOUR.search(terminal.text)
    assert f"--> task.succeeded  {task}" in terminal.lines


async def _listen_in_a_pipe(desk: Desk, task: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(TASKBELL, "listen", "--replay", "10m", "--json"),
        cwd=desk.folder,
        env={"PYTHONUTF8": "1", **desk.environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(2)]
    process.terminate()
    _, said = await process.communicate()
    assert process.returncode == 0
    assert said.endswith(b"2 events came\n")
    assert [json.loads(line)["data"]["task"]["id"] for line in lines] == [task] * 2


async def _replay(desk: Desk, subscription: str) -> None:
    async with desk.terminal("replay", "--subscription", subscription) as terminal:
        await terminal.until("[y/N]")
        terminal.press("y\n")
        assert await terminal.end() == 0
    asked = " ".join("".join(terminal.lines).split())
    assert "Replay 2 deliveries to http://127.0.0.1" in asked


def _fits(terminal: Terminal) -> None:
    for line in terminal.lines:
        plain = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", line).rpartition("\r")[2]
        if "whsec_" not in plain and "http" not in plain:
            assert cell_len(plain) <= COLUMNS, plain
