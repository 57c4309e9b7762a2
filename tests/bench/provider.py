"""A provider that costs next to nothing: every task is still processing. It counts the questions.

Run as a process of its own: python tests/bench/provider.py. Prints its port; a line on stdin is
answered with what came since the last one, as JSON: the count, the monotonic moments of the first
and the last, and, of questions about one task, the seconds between them (median, 99th percentile).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

_BODY = b'{"data":{"status":"processing"}}'
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(_BODY),
    _BODY,
)


class Seen:
    """The questions since the last reset."""

    def __init__(self) -> None:
        self.moments: dict[bytes, float] = {}
        self.reset()

    def reset(self) -> None:
        self.count, self.first, self.last = 0, 0.0, 0.0
        self.gaps: list[float] = []

    def note(self, path: bytes) -> None:
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.count += 1
        before = self.moments.get(path)
        if before is not None:
            self.gaps.append(self.last - before)
        self.moments[path] = self.last

    def told(self) -> str:
        gaps = sorted(self.gaps) or [0.0]
        p50, p99 = gaps[len(gaps) // 2], gaps[len(gaps) * 99 // 100]
        return json.dumps([self.count, self.first, self.last, p50, p99])


class Provider(asyncio.Protocol):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            self._seen.note(self._buffer[: self._buffer.find(b" HTTP/")])
            self._buffer = self._buffer[end + 4 :]
            self._transport.write(_ANSWER)


async def main() -> None:
    loop, seen = asyncio.get_running_loop(), Seen()
    server = await loop.create_server(lambda: Provider(seen), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(seen.told(), flush=True)
        seen.reset()


if __name__ == "__main__":
    uvloop.run(main())
