"""A stream under load whose server and client are killed again and again: no gap, no repeat."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.process import Process, processes, until
from tests.faults.servers import Nursery
from tests.patience import PATIENCE_SECONDS
from tests.streams import taken_apart

KILLS = 1
PUSHES_BETWEEN = 60
PUSHERS = 4
CLIENT_STAYS_FOR = 23
"""Events, before the client breaks off without a word."""


class Reader:
    """Follows the stream as a browser does: it comes back, and says what it saw last."""

    def __init__(self, server: Process) -> None:
        self._server = server
        self.cursors: list[int] = []
        self.ids: list[str] = []
        self.visits = 0

    async def run(self) -> None:
        while True:
            try:
                await self._visit()
            except httpx.HTTPError:
                await asyncio.sleep(0.05)

    async def _visit(self) -> None:
        self.visits += 1
        last = {"last-event-id": str(self.cursors[-1] if self.cursors else 0)}
        stream = self._server.api.stream("GET", "/v1/events/stream", headers=last)
        async with stream as answer:
            if answer.status_code != 200:
                return
            seen, text = 0, b""
            async for part in answer.aiter_raw():
                text += part
                whole, _, text = text.rpartition(b"\n\n")
                for sent in taken_apart(whole + b"\n\n" if whole else b""):
                    assert sent.id is not None
                    self.cursors.append(sent.id)
                    self.ids.append(sent.data["id"])
                    seen += 1
                    if seen == CLIENT_STAYS_FOR:
                        return


async def test_a_stream_has_no_gap_and_no_repeat_whoever_is_killed(
    database_url: str, tmp_path: Path, home: Nursery
) -> None:
    async with processes(tmp_path, database_url, {}, home=home) as (server,):
        made = await server.api.post("/v1/callback-urls", json={"provider": "minimax"})
        reader, numbers = Reader(server), itertools.count()
        async with httpx.AsyncClient(
            timeout=PATIENCE_SECONDS, trust_env=False, verify=False
        ) as client:
            url = made.json()["url"]
            pushing = [asyncio.create_task(_push(client, url, numbers)) for _ in range(PUSHERS)]
            reading = asyncio.create_task(reader.run())
            for _ in range(KILLS):
                await _grown(reader, by=PUSHES_BETWEEN)
                server.kill()
                await server.start()
            await _grown(reader, by=PUSHES_BETWEEN)
            for pusher in pushing:
                pusher.cancel()
            await asyncio.gather(*pushing, return_exceptions=True)
        every = await _events(server)
        await until(lambda: _reached(reader, every[-1]["cursor"]), PATIENCE_SECONDS, every=0.01)
        stopping = asyncio.create_task(server.stop())
        exit_code = await asyncio.wait_for(stopping, 9)  # of the 10 that what is open may have
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    assert reader.cursors == [event["cursor"] for event in every]
    assert reader.ids == [event["id"] for event in every]
    assert reader.visits > KILLS + len(every) // CLIENT_STAYS_FOR
    assert exit_code == 0


async def _push(client: httpx.AsyncClient, url: str, numbers: Iterator[int]) -> None:
    for number in numbers:
        for word in ("Processing", "Success"):
            body = {"task_id": f"t{number}", "status": word}
            await until(partial(_accepted, client, url, body), PATIENCE_SECONDS, every=0.05)
            await asyncio.sleep(0.01)


async def _accepted(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> bool:
    try:
        return (await client.post(url, json=body)).status_code == 200
    except httpx.HTTPError:
        return False


async def _grown(reader: Reader, *, by: int) -> None:
    goal = len(reader.cursors) + by

    async def reached() -> bool:
        return len(reader.cursors) >= goal

    await until(reached, PATIENCE_SECONDS, every=0.01)


async def _reached(reader: Reader, cursor: int) -> bool:
    return bool(reader.cursors) and reader.cursors[-1] >= cursor


async def _events(server: Process) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        after = str(found[-1]["cursor"]) if found else "0"
        page = await server.api.get("/v1/events", params={"after": after, "limit": "200"})
        if not page.json()["data"]:
            return found
        found += page.json()["data"]
