"""Taskbell on a real socket over a scene, as browsers see it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.routing import Mount

from deploy.demo.server import LocalServer, bound
from store.clock import ManualClock
from tests.app import Taskbell, good, running
from tests.seed.scene import Scene


@dataclass(frozen=True, slots=True)
class Site:
    """url: http://host:port. Its clock stands still at the scene's end."""

    url: str
    taskbell: Taskbell
    scene: Scene
    clock: ManualClock

    async def move(self, subscription: str, url: str) -> None:
        """Send what a subscription of the scene gets to another URL."""
        path = f"/v1/subscriptions/{self.scene.subscriptions[subscription]}"
        good(await self.taskbell.api.patch(path, json={"url": url, "headers": None}))


@contextlib.asynccontextmanager
async def serving(
    database_url: str, scene: Scene, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Site]:
    """Serve a copy of the scene's database. environ: more settings, without TASKBELL_."""
    clock = ManualClock(scene.end)
    with bound() as listener:
        own = {"PORT": str(listener.getsockname()[1])}
        async with running(database_url, clock, {**own, **(environ or {})}) as taskbell:
            # its lifespan runs already, and uvicorn wants one to run
            mounted = Starlette(routes=[Mount("/", taskbell.app)])
            async with LocalServer(mounted, listener=listener) as server:
                yield Site(server.url, taskbell, scene, clock)
