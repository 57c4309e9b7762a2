"""Another process holds the SQLite file's write lock: for a moment, and for longer than we wait."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

from store.database import BUSY_TIMEOUT_SECONDS
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.pushes import Told, challenging
from tests.faults.scene import scene
from tests.faults.servers import Tricks

_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""
_TAKEN_SECONDS = 5.0
_ATTEMPT_SECONDS = "30"  # no subscriber is slow enough, on a busy machine, to be asked twice
_WEAK: dict[str, Tricks] = {"answers before the commit": {"answer_early": 0.1}}


class Locked:
    name = "sqlite locked"
    about = "another process locks the SQLite file for 1 s, then for 20 s"
    engines = ("sqlite",)
    weaknesses = tuple(_WEAK)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        file = rig.database_url.removeprefix("sqlite:///")
        patience = 0.5 if rig.short else BUSY_TIMEOUT_SECONDS
        # what was sent cannot be written down while the lock lasts: its lease must last longer
        tricks = {"busy_timeout": patience, "lease_margin": 60, **_WEAK.get(weakness, {})}
        async with (
            scene(rig, tricks=tricks, ATTEMPT_TIMEOUT_SECONDS=_ATTEMPT_SECONDS) as playing,
            challenging(*playing.server.door) as challenges,
        ):
            async with playing.pushed(100) as told:
                began = time.monotonic()
                await lock(file, patience * 0.4)
                await asyncio.sleep(0.2)
                refused = told.statuses()[503]
                await lock(file, patience * rig.size(8, 3))
                unlocked = time.monotonic()
                await _taken(told, unlocked, rig.limit(_TAKEN_SECONDS))
            # one that comes while a batch waits for the lock waits for that, then for its own
            broken = challenges.broken(rig.limit(1.0)) + told.odd(rig.limit(2 * patience + 1))
            broken += _verdict(told, refused, began, unlocked)
            outcome = await playing.end(told, most_doubled=0)
            broken += _snapshots(playing.server.log.read_text())
        return outcome.also(broken)


async def lock(file: str, seconds: float) -> None:
    """Hold the write lock of a SQLite file for so long."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _LOCK, file),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    assert await process.stdout.readline() == b"locked\n"
    await asyncio.sleep(seconds)
    process.stdin.close()
    await process.wait()


async def _taken(told: Told, since: float, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not told.statuses(since)[200]:  # noqa: ASYNC110 - a record of what was sent
                await asyncio.sleep(0.02)


def _verdict(told: Told, refused: int, began: float, unlocked: float) -> list[str]:
    said = [f"{refused} pushes were refused in a moment's lock"] if refused else []
    if not told.statuses(began, unlocked)[503]:
        said += ["no push was refused during the long lock"]
    if not told.statuses(unlocked)[200]:
        said += ["no push was taken after the lock"]
    return said


def _snapshots(log: str) -> list[str]:
    return ["SQLITE_BUSY_SNAPSHOT in the log"] if "snapshot" in log.lower() else []


FAULT: Fault = Locked()
