"""What a power cut would lose, seen from the system calls: no 200 before the file is synced."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.faults.fault import Fault, NotHere, Outcome, Rig
from tests.faults.servers import Tricks, nursery, servers
from tests.faults.wire import Connection

_CALLS = "trace=write,writev,sendto,sendmsg,pwrite64,fsync,fdatasync"
_PUSHES = 20
_WRITTEN = re.compile(r"pwrite64\(\d+<[^>]*-wal>")
_SYNCED = re.compile(r"(?:fdatasync|fsync)(?:\(\d+<[^>]*-wal>\)| resumed>\)) += 0")
_ANSWERED = re.compile(r'(?:write|writev|sendto|sendmsg)\(.*"HTTP/1\.1 200')
_WEAK: dict[str, Tricks] = {"synchronous = NORMAL": {"sync_rarely": None}}


class Order:
    name = "order of calls"
    about = "a trace of system calls shows every 200 after the sync of what it acknowledges"
    engines = ("sqlite",)
    weaknesses = tuple(_WEAK)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        await asyncio.to_thread(_make_sure_of_strace)
        trace = rig.folder / "trace"
        under = ("strace", "-f", "-y", "-qq", "-s", "32", "-e", _CALLS, "-o", str(trace))
        tricks = _WEAK.get(weakness, {})
        with nursery(*under) as traced:
            async with servers(rig, "receive", tricks=tricks, home=traced) as (server,):
                said_before = _answers(trace)
                acknowledged = await _push(server.door)
                await server.stop()
        early, answers = _early(trace.read_text().splitlines())
        broken = [f"{early} answers before the sync"] if early else []
        if answers - said_before != acknowledged:
            broken += [f"{acknowledged} answers, of which the trace shows {answers - said_before}"]
        return Outcome(sent=_PUSHES, acknowledged=acknowledged, lost=early, broken=tuple(broken))


def _make_sure_of_strace() -> None:
    if shutil.which("strace") is None:
        raise NotHere("strace is not installed")
    tried = subprocess.run(["strace", "-f", "true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        raise NotHere(f"strace may not trace here: {tried.stderr.strip()[-200:]}")


async def _push(door: tuple[int, str]) -> int:
    """One after the other, so that each answer follows its own commit; how many were taken."""
    port, path = door
    taken = 0
    with contextlib.closing(Connection(port)) as connection:
        for number in range(_PUSHES):
            body = {"task_id": f"t{number}", "status": "Success", "file_id": "1"}
            taken += await connection.post(path, body) == 200
    return taken


def _answers(trace: Path) -> int:
    return _early(trace.read_text().splitlines())[1]


def _early(calls: Iterable[str]) -> tuple[int, int]:
    """Answers of 200 that were given while something written was not yet synced; and all of them."""
    early = answers = 0
    unsynced = False
    for call in calls:
        if _WRITTEN.search(call):
            unsynced = True
        elif _SYNCED.search(call):
            unsynced = False
        elif _ANSWERED.search(call):
            answers += 1
            early += unsynced
    return early, answers


FAULT: Fault = Order()
