"""A subscriber on a real socket that does as it is told, and remembers what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.server import LocalServer
from store.clock import Clock
from tests.patience import PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class Taken:
    """One request; at is the test's time."""

    at: datetime
    headers: Mapping[str, str]
    body: bytes

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]


class Hook:
    """url is set while it is served. answers: the next ones; then `otherwise`.

    free: unset, every request waits. most: how many were ever open at once.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.url = ""
        self.taken: list[Taken] = []
        self.answers: deque[Response] = deque()
        self.otherwise: Callable[[], Response] = lambda: Response(status_code=204)
        self.free = asyncio.Event()
        self.free.set()
        self.open = self.most = 0
        self._news = asyncio.Condition()

    async def wait_for(self, count: int) -> None:
        """Return once that many requests came, answered or not."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._news:
            await self._news.wait_for(lambda: len(self.taken) >= count)

    @contextlib.asynccontextmanager
    async def served(self, path: str = "/hook") -> AsyncIterator[Hook]:
        app = Starlette(routes=[Route(path, self._take, methods=["POST"])])
        async with LocalServer(app) as server:
            self.url = f"{server.url}{path}"
            yield self
            self.free.set()

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        self.open += 1
        self.most = max(self.most, self.open)
        async with self._news:
            self.taken.append(Taken(self._clock(), request.headers, body))
            self._news.notify_all()
        try:
            await self.free.wait()
        finally:
            self.open -= 1
        return self.answers.popleft() if self.answers else self.otherwise()
