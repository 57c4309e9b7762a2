"""The bare client: signs 1 KiB and posts it, over and over, with aiohttp as it comes.

python -m tests.bench.baselines.client URL SECONDS [RATE]: 64 in flight, or at a rate. Prints the
round trips' p50 and p99 in milliseconds as JSON. The sink counts.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from itertools import count

import aiohttp
import uvloop

from dispatch.signing import new_secret, signed_headers

IN_FLIGHT = 64
_FILL = "x" * 1000


async def post(session: aiohttp.ClientSession, url: str, number: int, secret: str) -> float:
    started = time.monotonic()
    body = f'{{"task_id":"{number}","fill":"{_FILL}"}}'.encode()
    headers = signed_headers([secret], f"evt_{number}", time.time_ns() // 10**9, body)
    headers["content-type"] = "application/json"
    async with session.post(url, data=body, headers=headers) as answer:
        await answer.read()
    return time.monotonic() - started


async def as_fast_as_it_goes(
    session: aiohttp.ClientSession, url: str, until: float, numbers: Iterator[int]
) -> list[float]:
    secret, took = new_secret(), []
    while time.monotonic() < until:
        took.append(await post(session, url, next(numbers), secret))
    return took


async def at_rate(
    session: aiohttp.ClientSession, url: str, seconds: float, rate: float
) -> list[float]:
    secret, began, posts = new_secret(), time.monotonic(), list[asyncio.Task[float]]()
    while (passed := time.monotonic() - began) < seconds:
        while len(posts) < passed * rate:
            posts.append(asyncio.create_task(post(session, url, len(posts), secret)))
        await asyncio.sleep(0.001)
    return list(await asyncio.gather(*posts))


async def main() -> None:
    url, seconds = sys.argv[1], float(sys.argv[2])
    async with aiohttp.ClientSession() as session:
        if len(sys.argv) > 3:
            took = await at_rate(session, url, seconds, float(sys.argv[3]))
        else:
            numbers, until = count(), time.monotonic() + seconds
            loops = (as_fast_as_it_goes(session, url, until, numbers) for _ in range(IN_FLIGHT))
            took = [one for many in await asyncio.gather(*loops) for one in many]
    took.sort()
    print(
        json.dumps({"p50": took[len(took) // 2] * 1000, "p99": took[len(took) * 99 // 100] * 1000})
    )


if __name__ == "__main__":
    uvloop.run(main())
