"""A subscriber that costs next to nothing: reads a request's length, answers 204, counts.

Run as a process of its own: python tests/bench/sink.py [HOST]. Prints its port, then answers lines
on stdin: `count` with "count first last cpu" (monotonic seconds of the first and the last request,
CPU seconds of its own), `reset`, `record` (from now on remember when each push's number arrived),
`arrivals` with those as JSON. Every path and every address of HOST is the same to it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import cast

import uvloop

_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_NUMBER = re.compile(rb'task_id": ?"(\d+)"')


class Book:
    def __init__(self) -> None:
        self.count, self.first, self.last = 0, 0.0, 0.0
        self.arrivals: dict[int, float] | None = None

    def take(self, request: bytes) -> None:
        now = time.monotonic()
        self.first = self.first or now
        self.last = now
        self.count += 1
        if self.arrivals is not None and (number := _NUMBER.search(request)):
            self.arrivals.setdefault(int(number[1]), now)

    def obey(self, line: str) -> str:
        match line:
            case "count":
                return f"{self.count} {self.first} {self.last} {time.process_time()}"
            case "reset":
                self.__init__()  # type: ignore[misc]
            case "record":
                self.arrivals = {}
            case "arrivals":
                return json.dumps(self.arrivals or {})
        return ""


class Connection(asyncio.Protocol):
    def __init__(self, book: Book) -> None:
        self._book = book
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            whole = end + 4 + length
            if len(self._buffer) < whole:
                return
            request, self._buffer = self._buffer[:whole], self._buffer[whole:]
            self._book.take(request)
            assert self._transport is not None
            self._transport.write(_ANSWER)


async def main() -> None:
    loop, book = asyncio.get_running_loop(), Book()
    host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
    server = await loop.create_server(lambda: Connection(book), host, 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        print(book.obey(line.decode().strip()), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
