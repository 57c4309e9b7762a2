"""HTTP as a provider speaks it, on bare streams: kept open, and opened again when it broke."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any

API_KEY = "only-for-the-faults-and-nobody-needs-to-guess-it"
NO_ANSWER = 0
"""In a status's place: the request left, and nobody knows what became of it."""

_ANSWER_SECONDS = 15.0
_CONNECT_AGAIN_SECONDS = 0.02
_BROKEN = (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError)


class Connection:
    """One request at a time to a server on this machine, whether or not it is up."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: Mapping[str, Any]) -> int:
        """The answer's status, or NO_ANSWER. Waits for a server to connect to."""
        text = json.dumps(body)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        return await self._ask(f"{head}Content-Length: {len(text)}\r\n\r\n{text}")

    async def call(self, path: str) -> int:
        """POST nothing, with the API key."""
        key = f"Authorization: Bearer {API_KEY}"
        return await self._ask(f"POST {path} HTTP/1.1\r\nHost: x\r\n{key}\r\n\r\n")

    async def get(self, path: str) -> int:
        return await self._ask(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n\r\n"
        )

    def close(self) -> None:
        if self._streams:
            self._streams[1].transport.abort()
            self._streams = None

    async def _ask(self, request: str) -> int:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._exchange(request)
        except _BROKEN:
            self.close()
            return NO_ANSWER

    async def _exchange(self, request: str) -> int:
        reader, writer = await self._open()
        writer.write(request.encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length or 0))
        if b"connection: close" in head:
            self.close()
        return int(head[9:12])

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams and self._streams[0].at_eof():
            self.close()  # the server ended while we said nothing
        while not self._streams:
            try:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(_CONNECT_AGAIN_SECONDS)
        return self._streams


async def status_of(port: int, path: str) -> int:
    """What one GET is answered with; NO_ANSWER when nobody listens."""
    connection = Connection(port)
    with contextlib.closing(connection):
        return await connection.get(path)
