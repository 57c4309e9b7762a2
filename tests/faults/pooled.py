"""All of a server's transactions go through PgBouncer in transaction mode, on few connections."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator

import psycopg

from tests.faults.fault import Fault, NotHere, Outcome, Rig
from tests.faults.scene import scene
from tests.faults.servers import ALL, Tricks
from tests.services.pgbouncer import pgbouncer

_LENT = {"default_pool_size": "3", "server_round_robin": "1"}
_WEAK: dict[str, Tricks] = {
    "prepares no statement": {"prepare_on_lent_connections": None},
    "settings with each transaction": {"tell_lent_connections_nothing": None},
}
_ANSWER_SECONDS = 5.0


class Pooled:
    name = "pgbouncer"
    about = (
        "two servers behind PgBouncer in transaction mode, and a client that leaves settings there"
    )
    engines = ("postgresql",)
    weaknesses = tuple(_WEAK)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        if shutil.which("pgbouncer") is None:
            raise NotHere("there is no pgbouncer: tests/services/run brings it")
        try:
            return await self._run(rig, _WEAK.get(weakness, {}))
        except AssertionError:
            if not weakness:
                raise
            return Outcome(broken=("a server did not start",))

    async def _run(self, rig: Rig, tricks: Tricks) -> Outcome:
        with pgbouncer(rig.database_url, "transaction", _LENT) as pool:
            url = pool.url(rig.database_url)
            pooled = {"DATABASE_URL": url, "DIRECT_DATABASE_URL": rig.database_url}
            async with scene(rig, ALL, ALL, tricks=tricks, **pooled) as playing:
                async with playing.pushed(rig.size(200, 60)) as told, _meddling(url):
                    await asyncio.sleep(rig.size(15, 2))
                broken = told.odd(rig.limit(_ANSWER_SECONDS))
                outcome = await playing.end(told, most_doubled=0)
                broken += _said(playing.server.log.read_text())
        return outcome.also(broken)


@contextlib.asynccontextmanager
async def _meddling(url: str) -> AsyncIterator[None]:
    """Leave settings on whatever connections are lent to another client of the pool."""
    async with await psycopg.AsyncConnection.connect(
        url, autocommit=True, prepare_threshold=None
    ) as other:
        task = asyncio.create_task(_meddle(other))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _meddle(other: psycopg.AsyncConnection) -> None:
    while True:
        await other.execute("SET search_path = nowhere")
        await other.execute("SET DateStyle = 'German'")
        await other.execute("SET bytea_output = 'escape'")
        await asyncio.sleep(0.05)


def _said(log: str) -> list[str]:
    return ["prepared statements in the log"] if "_pg3_" in log else []


FAULT: Fault = Pooled()
