"""A subscriber that costs next to nothing: reads a request's length, answers 204, counts.

Run as a process of its own: python tests/bench/sink.py. Prints its port, then a line of
`count first last` (monotonic seconds) whenever a line comes in on stdin.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import uvloop

_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Sink(asyncio.Protocol):
    count = 0
    first = 0.0
    last = 0.0

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._answer()

    def _answer(self) -> None:
        now = time.monotonic()
        Sink.first = Sink.first or now
        Sink.last = now
        Sink.count += 1
        assert self._transport is not None
        self._transport.write(_ANSWER)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        print(Sink.count, Sink.first, Sink.last, flush=True)
        if line.strip() == b"reset":
            Sink.count, Sink.first, Sink.last = 0, 0.0, 0.0


if __name__ == "__main__":
    uvloop.run(main())
