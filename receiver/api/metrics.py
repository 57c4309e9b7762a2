"""What this process counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import ASGIApp

from receiver.endpoint import Call, Endpoint


@dataclass(frozen=True, slots=True)
class MetricsApi:
    """page: the text, and its media type."""

    page: Callable[[], Awaitable[tuple[bytes, str]]]

    def endpoints(self) -> list[Endpoint]:
        summary = "Metrics of this process, and what is open in the store, for Prometheus"
        return [Endpoint("GET", "/metrics", summary, self.show, {200: "text/plain"})]

    async def show(self, _call: Call) -> ASGIApp:
        text, media_type = await self.page()
        return Response(text, media_type=media_type)
