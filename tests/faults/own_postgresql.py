"""A PostgreSQL server of a fault's own, to be stopped and started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg

from tests.databases import PostgreSQL, migrate_and_close, start_postgresql
from tests.faults.handle import Handle

FAST, IMMEDIATE = signal.SIGINT, signal.SIGQUIT
_SECONDS = 30


class OwnPostgreSQL:
    """database_url: a migrated database."""

    def __init__(self, server: PostgreSQL) -> None:
        self._server = server
        self.database_url = server.url("own")
        with psycopg.connect(server.url("postgres")) as connection:
            [(folder,)] = connection.execute("SHOW data_directory")
        self._data = Path(folder)
        first = Path("/proc", str(self._pid()))
        self._command = first.joinpath("cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        self._owner = first.stat()
        self._ours: subprocess.Popen[bytes] | None = None

    async def stop(self, way: signal.Signals) -> None:
        """Returns when it is down."""
        with contextlib.closing(Handle(self._pid())) as handle:
            handle.send(way)
            await handle.end(_SECONDS)
        if self._ours:
            self._ours.wait()

    async def start(self) -> None:
        """Returns when it takes connections."""
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        with self._data.parent.joinpath("log").open("ab") as log:
            self._ours = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                process_group=0,
                **self._as_owner(),
            )
        give_up = time.monotonic() + _SECONDS
        while True:
            try:
                return self._server.run("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.01)  # nobody tells when a server is up; called in a thread

    def _as_owner(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        return {"user": self._owner.st_uid, "group": self._owner.st_gid, "extra_groups": []}

    def _pid(self) -> int:
        return int(self._data.joinpath("postmaster.pid").read_text().split()[0])


@contextlib.asynccontextmanager
async def own_postgresql() -> AsyncIterator[OwnPostgreSQL]:
    server = await asyncio.to_thread(start_postgresql)
    try:
        await asyncio.to_thread(server.run, "CREATE DATABASE own")
        await asyncio.to_thread(migrate_and_close, server.url("own"))
        own = OwnPostgreSQL(server)
        yield own
        await own.stop(FAST)  # the one we started ends with nobody else
    finally:
        await asyncio.to_thread(server.stop)
