"""The bare client of a provider: asks about task after task, httpx over our transport.

python -m tests.bench.baselines.asker URL SECONDS: 64 in flight. The provider counts.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from itertools import count

import httpx
import uvloop

from receiver.transport import AiohttpTransport

IN_FLIGHT = 64


async def ask(client: httpx.AsyncClient, numbers: Iterator[int], until: float) -> None:
    while time.monotonic() < until:
        answer = await client.get(f"/model/prediction/{next(numbers)}")
        answer.raise_for_status().json()


async def main() -> None:
    url, until, numbers = sys.argv[1], time.monotonic() + float(sys.argv[2]), count()
    transport = AiohttpTransport(IN_FLIGHT)
    async with httpx.AsyncClient(base_url=url, transport=transport, trust_env=False) as client:
        await asyncio.gather(*(ask(client, numbers, until) for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    uvloop.run(main())
