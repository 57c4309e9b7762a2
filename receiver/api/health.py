"""Health: is the process up, and can it do its work?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from receiver.endpoint import Call, Endpoint, Reply
from receiver.models import HealthView
from receiver.problems import Problem, store_away
from store.errors import StoreUnavailableError
from store.schema import HEAD, current_version
from store.store import Store


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
            version = await self.store.read(current_version)
        except StoreUnavailableError:
            raise store_away() from None
        if version != HEAD:
            raise Problem(503, "the database's schema is not this version's")
        return Reply(200, HealthView(status="ok"))
