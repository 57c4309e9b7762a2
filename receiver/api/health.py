"""Health: is the process up, and can it do its work?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from receiver.endpoint import Call, Endpoint, Reply
from receiver.models import HealthView
from receiver.problems import Problem, store_away
from store.errors import ReadOnlyError, SchemaError, StoreUnavailableError
from store.schema import usable
from store.store import Store
from store.writer import check_writable

READY_SECONDS = 5.0
"""Whoever asks for readiness must not wait longer for a database that hangs."""


@dataclass(frozen=True, slots=True)
class HealthApi:
    store: Store
    draining: Callable[[], bool]

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                "GET",
                "/healthz",
                "The process is up",
                self.healthy,
                {200: HealthView},
                scope=None,
            ),
            Endpoint(
                "GET",
                "/readyz",
                "The process can take and store pushes",
                self.ready,
                {200: HealthView},
                scope=None,
            ),
        ]

    async def healthy(self, _call: Call) -> Reply:
        return Reply(200, HealthView(status="ok"))

    async def ready(self, _call: Call) -> Reply:
        if self.draining():
            raise Problem(503, "shutting down")
        try:
            async with asyncio.timeout(READY_SECONDS):
                if not await self._fits():
                    raise Problem(
                        503, "the database's schema is not one that this version works on"
                    )
                await self.store.write(check_writable, None)
        except ReadOnlyError:
            raise Problem(503, "the database takes no writes: it is read-only") from None
        except (StoreUnavailableError, TimeoutError):
            raise store_away() from None
        return Reply(200, HealthView(status="ok"))

    async def _fits(self) -> bool:
        try:
            return await self.store.read(usable)
        except SchemaError:
            return False
