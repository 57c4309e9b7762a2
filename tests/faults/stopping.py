"""SIGTERM with everybody attached who could hold a process up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from deploy.crowd import Limits
from tests.bench.taskbell import subscribe
from tests.faults.bounded import Bounded, Bounds, bounded_server, connected
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.idlers import Habit, Idlers, half_a_body, half_a_head
from tests.faults.promises import asked
from tests.faults.wire import Connection
from tests.patience import PATIENCE_SECONDS

_MOST_SECONDS = 25
_NO_DEADLINES = "no deadlines"
_HOUR = 3600
_MUCH = 80
"""Answers of 57 KB; the kernel takes nearly 3 MB."""
USUAL = Bounds(Limits(queued=_MUCH))
"""But that so many requests may be sent at once."""


class Stopping:
    name = "sigterm"
    about = "it comes with silent, dripping and deaf clients and a hanging subscriber attached"
    engines = ("sqlite",)
    weaknesses = (_NO_DEADLINES,)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        bounds = USUAL
        if weakness == _NO_DEADLINES:
            patient = Limits(
                receive_seconds=_HOUR, take_seconds=_HOUR, shutdown_seconds=_HOUR, queued=_MUCH
            )
            bounds = Bounds(patient, grace=_HOUR)
        attempt = {"ATTEMPT_TIMEOUT_SECONDS": str(rig.size(15, 1))}
        async with held_up(rig.folder, rig.database_url, bounds, **attempt) as server:
            pushing = await _half_a_push(server, "halfway")
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            acknowledged = 1 + await _rest_of(pushing)
            broken = await _ended_well(server, rig.limit(_MOST_SECONDS))
            took = time.monotonic() - began
        with asked(rig.database_url) as connection:
            recorded = connection.execute(text("SELECT count(*) FROM tasks")).scalar_one()
        if acknowledged < 2:
            broken = (*broken, "a push that was half here was not answered")
        return Outcome(2, acknowledged, acknowledged - recorded, None, took, broken)


@contextlib.asynccontextmanager
async def held_up(
    folder: Path, database_url: str, bounds: Bounds, **settings: str
) -> AsyncIterator[Bounded]:
    """A server with such clients, and a delivery on its way to a subscriber that does not answer."""
    async with Hanging().listening() as hook:
        await asyncio.to_thread(subscribe, database_url, [hook.url])
        async with bounded_server(folder, database_url, bounds, **settings) as server:
            port, path = server.door
            crowd = [Habit(), half_a_head(), half_a_body(path), half_a_body("/nowhere")]
            async with Idlers().idling(port, crowd, again=False), _not_reading(port):
                with contextlib.closing(Connection(port)) as provider:
                    assert await provider.post(path, _body("hanging")) == 200
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await hook.asked.wait()
                    while connected(port) <= len(crowd):  # noqa: ASYNC110 - the kernel's word
                        await asyncio.sleep(0.01)
                yield server


@contextlib.asynccontextmanager
async def _not_reading(port: int) -> AsyncIterator[None]:
    """A client that asks for much, and takes none of it."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * _MUCH)
        yield


@dataclass(slots=True)
class Hanging:
    """A subscriber that takes a request and says nothing."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Hanging]:
        server = await asyncio.start_server(self._hang, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        async with server:
            yield self

    async def _hang(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while await reader.read(4096):
                self.asked.set()


def _body(task: str) -> dict[str, str]:
    return {"task_id": task, "status": "Success", "file_id": "1"}


@dataclass(frozen=True, slots=True)
class _Half:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    rest: bytes


async def _half_a_push(server: Bounded, task: str) -> _Half:
    port, path = server.door
    body = json.dumps(_body(task)).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body))
    assert b"100" in await reader.readline()  # so it is being read
    await reader.readline()
    writer.write(body[:9])
    return _Half(reader, writer, body[9:])


async def _rest_of(push: _Half) -> bool:
    """Whether it was acknowledged, though the end had begun before it was here."""
    await asyncio.sleep(0.3)
    with contextlib.closing(push.writer):
        push.writer.write(push.rest)
        with contextlib.suppress(OSError):
            return b" 200 " in await push.reader.readline()
    return False


async def _ended_well(server: Bounded, seconds: float) -> tuple[str, ...]:
    try:
        code = await server.exit_code(seconds)
    except TimeoutError:
        return (f"still running after {seconds:g} s",)
    return (f"exit code {code}",) if code else ()


FAULT: Fault = Stopping()
