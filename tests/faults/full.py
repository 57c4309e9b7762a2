"""The disk with the SQLite file is full for a while."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tests.databases import copy_sqlite
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.pushes import Told, challenging
from tests.faults.scene import scene
from tests.faults.servers import Server, Tricks
from tests.faults.wire import status_of

_DISK_MEGABYTES = 16
_FULL_WITHIN = 5.0
_WEAK: dict[str, Tricks] = {"answers before the commit": {"answer_early": 0.1}}


class Full:
    name = "disk full"
    about = "the disk with the SQLite file is full, and then is not"
    engines = ("sqlite",)
    weaknesses = tuple(_WEAK)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        template = Path(rig.database_url.removeprefix("sqlite:///"))
        broken: list[str] = []
        with _disk(rig.folder / "disk") as disk:
            url = copy_sqlite(template, disk.folder / "taskbell.db")
            async with (
                scene(rig, database_url=url, tricks=_WEAK.get(weakness)) as playing,
                challenging(*playing.server.door) as challenges,
            ):
                async with playing.pushed(100) as told:
                    await asyncio.sleep(0.5)
                    disk.fill(playing.server)
                    filled = time.monotonic()
                    broken += await _answered(told, 503, filled, rig.limit(_FULL_WITHIN))
                    await asyncio.sleep(rig.size(5, 1))
                    broken += await _reads(playing.server)
                    disk.empty(playing.server)
                    emptied = time.monotonic()
                    broken += await _answered(told, 200, emptied, rig.limit(_FULL_WITHIN))
                broken += challenges.broken(rig.limit(1.0)) + told.odd(rig.limit(3.0))
                outcome = await playing.end(told, most_doubled=1000)
        return outcome.also(broken)


async def _answered(told: Told, status: int, since: float, seconds: float) -> list[str]:
    while time.monotonic() - since < seconds:
        if told.statuses(since=since)[status]:
            return []
        await asyncio.sleep(0.02)
    full = "full" if status == 503 else "no longer full"
    return [f"no push was answered {status} while the disk was {full}"]


async def _reads(server: Server) -> list[str]:
    pages = ("/healthz", "/v1/events", "/v1/deliveries")
    said = {page: await status_of(server.port, page) for page in pages}
    return [f"{page} said {status} while full" for page, status in said.items() if status != 200]


class _Disk(Protocol):
    """One that can be full."""

    folder: Path

    def fill(self, server: Server) -> None: ...

    def empty(self, server: Server) -> None: ...


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[_Disk]:
    """A small disk in memory where we may mount one, else a limit on files' sizes."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MEGABYTES}m", "taskbell", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        yield _Limit(folder)
        return
    try:
        yield _Mounted(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class _Mounted:
    """Full in truth: SQLITE_FULL."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, _server: Server) -> None:
        with contextlib.suppress(OSError), self._ballast.open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))

    def empty(self, _server: Server) -> None:
        self._ballast.unlink()


class _Limit:
    """No file may grow: SQLITE_IOERR_WRITE."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._was = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, server: Server) -> None:
        largest = max(file.stat().st_size for file in self.folder.iterdir())
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (largest, self._was[1]))

    def empty(self, server: Server) -> None:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, self._was)


FAULT: Fault = Full()
