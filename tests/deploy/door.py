"""A door on a real socket: an app behind our connections, and clients that send raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.crowd import Crowd, Limits
from deploy.listening import BoundedServer

TOO_LONG = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])


def answers(stream: bytes) -> list[Answer]:
    """Every answer in what came, each with a Content-Length."""
    found = []
    while stream:
        head, _, rest = stream.partition(b"\r\n\r\n")
        length = _length(head)
        found.append(Answer(head, rest[:length]))
        stream = rest[length:]
    return found


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


@dataclass(frozen=True, slots=True)
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *packets: bytes) -> None:
        """Send each so that the server reads it by itself."""
        for packet in packets:
            self.writer.write(packet)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def take(self, number: int) -> list[Answer]:
        found = []
        async with asyncio.timeout(TOO_LONG):
            for _ in range(number):
                head = await self.reader.readuntil(b"\r\n\r\n")
                found.append(Answer(head, await self.reader.readexactly(_length(head))))
        return found

    async def rest(self) -> bytes:
        """What comes until the server ends the connection; it must."""
        read = b""
        async with asyncio.timeout(TOO_LONG):
            with contextlib.suppress(ConnectionError):
                while part := await self.reader.read(65536):
                    read += part
        return read


@dataclass(slots=True)
class Door:
    """seen: method, path and body of each request that the app was given."""

    port: int
    crowd: Crowd
    server: BoundedServer
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    ever_seen: list[tuple[str, str, bytes]] = field(default_factory=list)
    _taken: int = 0

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.transport.abort()

    async def ask(self, *packets: bytes) -> bytes:
        """Send, and read to the end of the connection."""
        async with self.connected() as client:
            await client.send(*packets)
            return await client.rest()

    def take_seen(self) -> list[tuple[str, str, bytes]]:
        """What was seen since the last time."""
        new, self._taken = self.ever_seen[self._taken :], len(self.ever_seen)
        return new

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be the app: read each request whole, and answer /wait when the gate is open."""
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.ever_seen.append((scope["method"], scope["path"], body))
        if scope["path"] == "/wait":
            await self.gate.wait()
        text = scope["path"].encode()
        headers = [(b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


@contextlib.asynccontextmanager
async def door_to(app: ASGIApp | None = None, limits: Limits | None = None) -> AsyncIterator[Door]:
    """Serve an app whose lifespan has begun, or one that tells what it was given."""
    listener, crowd = socket.create_server(("127.0.0.1", 0)), Crowd(limits or Limits())
    server = BoundedServer("later", listener, crowd, lifespan="off")
    door = Door(listener.getsockname()[1], crowd, server)
    server.config.app = app or door
    running = asyncio.create_task(server.serve())
    try:
        yield door
    finally:
        door.gate.set()
        server.should_exit = True
        crowd.disperse()
        await running
    assert crowd.busy == 0  # whatever happened, everybody was counted off again
