"""Carries challenges and pushes to the address a task was submitted with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from deploy.demo.book import Stats
from deploy.demo.faults import Push

PUSH_TIMEOUT_SECONDS = 5.0
RETRY_GAP_SECONDS = 0.05
CONNECTIONS = 16

Sign = Callable[[bytes, bool], Mapping[str, str]]
"""Headers for a body; the flag says that a forger, who has not the key, writes them."""


class Courier:
    """Sends in the background. Each task's pushes go out one after the other, tasks side by side."""

    def __init__(self, stats: Stats, monotonic: Callable[[], float]) -> None:
        self._stats = stats
        self._monotonic = monotonic
        self._client: httpx.AsyncClient | None = None
        self._rounds: set[asyncio.Task[None]] = set()
        # waiting for a connection happens here: it must not count against a challenge's deadline,
        # and httpx becomes slow when hundreds wait inside it
        self._free_connection = asyncio.Semaphore(CONNECTIONS)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """What is not sent when the block ends stays unsent."""
        async with httpx.AsyncClient(
            trust_env=False,
            verify=False,  # noqa: S501 - made-up news for an address that may be self-signed
            timeout=PUSH_TIMEOUT_SECONDS,
            headers={"User-Agent": "simulated-provider"},
            # shorter than the receiver's, which would else close a connection that is about to be used
            limits=httpx.Limits(max_connections=CONNECTIONS, keepalive_expiry=1),
        ) as self._client:
            try:
                yield
            finally:
                for round_ in self._rounds:
                    round_.cancel()
                await asyncio.gather(*self._rounds, return_exceptions=True)
        self._client = None

    async def challenge(self, url: str, value: Any, deadline_seconds: float) -> bool:
        """Whether the address echoes the value, as the same JSON, in time."""
        async with self._free_connection:
            self._stats.challenges_sent += 1
            began = self._monotonic()
            try:
                async with asyncio.timeout(deadline_seconds):
                    response = await self._open_client().post(url, json={"challenge": value})
            except (TimeoutError, httpx.HTTPError, httpx.InvalidURL):
                return False
            if not _echoes(response, value):
                return False
            self._stats.challenges_answered += 1
            self._stats.challenge_seconds.append(self._monotonic() - began)
            return True

    def send(self, url: str, pushes: Iterable[Push], *, tries: int, sign: Sign) -> None:
        """Send each push when it is due; an answer outside 2xx is tried again up to `tries`."""
        round_ = asyncio.create_task(self._round(url, list(pushes), tries, sign))
        self._rounds.add(round_)
        round_.add_done_callback(self._rounds.discard)

    async def idle(self) -> None:
        """Return when nothing is left to send."""
        while self._rounds:
            await asyncio.gather(*self._rounds)

    async def until(self, moment: float) -> None:
        # a sleep may end a little early; there is no event to wait for, only time
        while (wait := moment - self._monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(wait)

    async def _round(self, url: str, pushes: list[Push], tries: int, sign: Sign) -> None:
        for push in pushes:
            await self.until(push.due)
            body = json.dumps(push.body, ensure_ascii=False, separators=(",", ":")).encode()
            self._count(push)
            for _ in range(push.copies):
                await self._deliver(url, body, push, tries, sign)

    def _count(self, push: Push) -> None:
        if push.copies == 0:
            self._stats.pushes_dropped += 1
        else:
            self._stats.pushes_repeated += push.copies - 1

    async def _deliver(self, url: str, body: bytes, push: Push, tries: int, sign: Sign) -> None:
        for tried in range(tries):
            if tried:
                await asyncio.sleep(RETRY_GAP_SECONDS)
            headers = {"Content-Type": "application/json", **sign(body, push.forged)}
            accepted = await self._post(url, body, headers)
            if push.forged:
                self._stats.pushes_forged += 1
                return
            self._stats.pushes_sent += 1
            if accepted:
                return
            self._stats.pushes_refused += 1

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> bool:
        try:
            async with self._free_connection:
                response = await self._open_client().post(url, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL):
            return False
        return response.is_success

    def _open_client(self) -> httpx.AsyncClient:
        if self._client is None:
            raise RuntimeError("the simulator's lifespan has not started; serve it on a socket")
        return self._client


def _echoes(response: httpx.Response, value: Any) -> bool:
    if not response.is_success:
        return False
    try:
        answer = response.json()
    except ValueError:
        return False
    # as JSON text, because to Python 1 is True
    return isinstance(answer, dict) and json.dumps(answer.get("challenge")) == json.dumps(value)
