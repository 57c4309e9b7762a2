"""Sends pushes as fast as they are answered, or at a rate: keep-alive, one process.

python tests/bench/sender.py URL COUNT CONNECTIONS FIRST [RATE]: pushes numbered from FIRST on.
Prints JSON: began (monotonic seconds), seconds, statuses, the answers' p50 and p99 in milliseconds,
its own CPU seconds, and with a rate the moment each push was due.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

_BODY = '{"task_id":"%d","status":"Success","file_id":"205258526306433","base_resp":{"status_code":0,"status_msg":"success"}}'


class Connection(asyncio.Protocol):
    """One request at a time. idle is called with it whenever the next one may go."""

    def __init__(self, idle: Callable[[Connection, int], None]) -> None:
        self._idle = idle
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass

    def send(self, request: bytes) -> None:
        assert self._transport is not None
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        if b"transfer-encoding: chunked" in head:
            whole = self._buffer.endswith(b"\r\n0\r\n\r\n")
        else:
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            whole = len(self._buffer) >= end + 4 + length
        if whole:
            status, self._buffer = int(head[9:12]), b""
            self._idle(self, status)

    def connection_lost(self, error: Exception | None) -> None:
        self._idle(self, 0)


class Load:
    """start() connects; finished is set when every push was answered."""

    def __init__(self, url: str, numbers: range) -> None:
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), int(parts.port or 80)
        self._head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
        )
        self._numbers = iter(numbers)
        self._left = len(numbers)
        self._started: dict[Connection, float] = {}
        self._free: deque[Connection] = deque()
        self._due: deque[float | None] = deque()
        self.finished = asyncio.Event()
        self.statuses: Counter[int] = Counter()
        self.latencies: list[float] = []
        self.sent: list[float] = []

    async def connect(self, connections: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, made = await loop.create_connection(
                lambda: Connection(self._answered), self.host, self.port
            )
            self._free.append(made)

    def wish(self, count: int, due: float | None) -> None:
        """That many more are to go as connections become free; their time counts from due.

        due None: from when each leaves.
        """
        self._due.extend([due] * count)
        self._go()

    def _go(self) -> None:
        while self._due and self._free:
            number = next(self._numbers, None)
            if number is None:
                return
            connection, due = self._free.popleft(), self._due.popleft() or time.monotonic()
            self._started[connection] = due
            self.sent.append(due)
            body = _BODY % number
            request = f"{self._head}Content-Length: {len(body)}\r\n\r\n{body}"
            connection.send(request.encode())

    def _answered(self, connection: Connection, status: int) -> None:
        if connection not in self._started:
            return  # closed while idle, at the end
        self.latencies.append(time.monotonic() - self._started.pop(connection))
        self.statuses[status] += 1
        self._left -= 1
        if not self._left:
            self.finished.set()
        if status:
            self._free.append(connection)
            self._go()
        elif not self._free and not self._started:
            self.finished.set()


async def pace(load: Load, count: int, rate: float) -> None:
    began, done = time.monotonic(), 0
    while done < count:
        now = time.monotonic()
        due = min(count, 1 + int((now - began) * rate))
        load.wish(due - done, now)
        done = due
        await asyncio.sleep(0.001)


async def main() -> None:
    url, count, connections, first = sys.argv[1], *map(int, sys.argv[2:5])
    rate = float(sys.argv[5]) if len(sys.argv) > 5 else None
    load = Load(url, range(first, first + count))
    await load.connect(connections)
    began = time.monotonic()
    if rate:
        await pace(load, count, rate)
    else:
        load.wish(count, None)
    await load.finished.wait()
    seconds = time.monotonic() - began
    ordered = sorted(load.latencies)
    report: dict[str, Any] = {
        "began": began,
        "seconds": seconds,
        "statuses": load.statuses,
        "p50": ordered[len(ordered) // 2] * 1000,
        "p99": ordered[len(ordered) * 99 // 100] * 1000,
        "cpu": time.process_time(),
        "sent": load.sent if rate else [],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    uvloop.run(main())
