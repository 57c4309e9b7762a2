"""Sends pushes as fast as they are answered, or at a rate: raw sockets, keep-alive, one process.

python tests/bench/sender.py URL COUNT CONNECTIONS [RATE]: prints seconds, answers by status, and
the latencies' p50 and p99 in milliseconds as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

import uvloop

_BODY = '{"task_id":"%d","status":"Success","file_id":"205258526306433","base_resp":{"status_code":0,"status_msg":"success"}}'


class Load:
    def __init__(self, url: str, count: int, rate: float | None, start: int) -> None:
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), int(parts.port or 80)
        self._head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
        )
        self._numbers = iter(range(start, start + count))
        self._rate = rate
        self._began = time.monotonic()
        self._sent = 0
        self.statuses: Counter[str] = Counter()
        self.latencies: list[float] = []

    def request(self, number: int) -> bytes:
        body = _BODY % number
        return f"{self._head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    async def connection(self) -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        for number in self._numbers:
            if self._rate:
                self._sent += 1
                wait = self._began + self._sent / self._rate - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
            start = time.monotonic()
            writer.write(self.request(number))
            head = await reader.readuntil(b"\r\n\r\n")
            at = head.lower().find(b"content-length:")
            if at >= 0:
                await reader.readexactly(int(head[at + 15 :].split(b"\r\n", 1)[0]))
            self.latencies.append(time.monotonic() - start)
            self.statuses[head[9:12].decode()] += 1
        writer.close()


async def main() -> None:
    url, count, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rate = float(sys.argv[4]) if len(sys.argv) > 4 else None
    load = Load(url, count, rate, start=time.time_ns() // 1000)
    start = time.monotonic()
    await asyncio.gather(*(load.connection() for _ in range(connections)))
    seconds = time.monotonic() - start
    ordered = sorted(load.latencies)
    print(
        json.dumps(
            {
                "began": start,
                "seconds": seconds,
                "statuses": load.statuses,
                "p50": ordered[len(ordered) // 2] * 1000,
                "p99": ordered[len(ordered) * 99 // 100] * 1000,
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main())
