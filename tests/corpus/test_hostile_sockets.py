"""Hostile bytes on a socket of a live Taskbell, as rows of the corpus say."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.crowd import Crowd, Limits
from deploy.listening import BoundedServer
from store.clock import ManualClock
from tests.app import Taskbell
from tests.conftest import START
from tests.corpus.live import database_in, live
from tests.corpus.rows import SLOWEST_SECONDS, Row, chosen, cpu_seconds, is_raw, joined

PATH = "/callbacks/minimax/"
LIMITS = Limits(receive_seconds=0.3, look_seconds=0.02)
DROP_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Scene:
    """A Taskbell on a port of this machine, and a token that it knows."""

    taskbell: Taskbell
    port: int
    token: str


@pytest.fixture(scope="module")
async def scene(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    url = database_in(tmp_path_factory.mktemp("sockets"), sqlite_template)
    async with live(url, ManualClock(START), ROLES="receive") as taskbell:
        listener, crowd = socket.create_server(("127.0.0.1", 0)), Crowd(LIMITS)
        # as `taskbell serve` does it; the app's lifespan has begun
        server = BoundedServer(taskbell.app, listener, crowd, lifespan="off")
        running = asyncio.create_task(server.serve())
        token = taskbell.path(token_id="tok_raw").rpartition("/")[2]
        yield Scene(taskbell, listener.getsockname()[1], token)
        server.should_exit = True
        crowd.disperse()
        await running


@pytest.mark.parametrize("row", chosen(is_raw))
async def test_hostile_bytes_get_their_verdict(
    row: Row, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
    start = cpu_seconds()

    sending = asyncio.create_task(send(row, scene, writer))
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    seconds = cpu_seconds() - start
    sending.cancel()
    writer.close()

    assert int(head.split(" ", 2)[1]) in row["expected"]["status"]
    assert seconds < SLOWEST_SECONDS
    assert scene.token not in head
    assert await scene.taskbell.events() == []
    assert not [record for record in caplog.records if record.exc_info]


async def send(row: Row, scene: Scene, writer: asyncio.StreamWriter) -> None:
    """The row's bytes, drop by drop when it says so."""
    if "raw" in row:
        text = joined(row["raw_gen"]) if "raw_gen" in row else row["raw"]
        raw = text.replace("/cb/", PATH).replace("{TOKEN}", scene.token)
        writer.write(raw.encode("latin-1"))
        return
    body = row["raw_drip"]["body"].encode()
    head = f"POST {PATH}{scene.token} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode())
    for number in range(len(body)):
        await asyncio.sleep(DROP_SECONDS)
        writer.write(body[number : number + 1])
