"""Health: is the process up, and can it do its work?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from receiver.endpoint import Call, Endpoint, Reply
from receiver.models import HealthView
from receiver.problems import Problem, store_away
from store.errors import SchemaError, StoreUnavailableError
from store.schema import usable
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
            fits = await self.store.read(usable)
        except StoreUnavailableError:
            raise store_away() from None
        except SchemaError:
            fits = False
        if not fits:
            raise Problem(503, "the database's schema is not one that this version works on")
        return Reply(200, HealthView(status="ok"))
