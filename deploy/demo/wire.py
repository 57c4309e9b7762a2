"""What the simulated providers' HTTP faces share."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from typing import Any, assert_never

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from deploy.demo.book import Book
from deploy.demo.faults import Trouble

ErrorShape = Callable[[int], Response]
"""Writes an HTTP status as this provider's error."""


def authorized(request: Request, api_key: str) -> bool:
    given = request.headers.get("authorization", "")
    return hmac.compare_digest(given.encode(), f"Bearer {api_key}".encode())


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object; anything else counts as an empty one."""
    try:
        body = await request.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def trouble(book: Book, provider: str, error: ErrorShape) -> Response | None:
    """The answer to a query that goes wrong, or None when it goes well."""
    dice = book.dice(provider)
    match dice.trouble():
        case None:
            return None
        case Trouble.RATE_LIMITED:
            book.stats.rate_limited += 1
            response = error(429)
            if dice.faults.retry_after_seconds is not None:
                response.headers["Retry-After"] = str(dice.faults.retry_after_seconds)
            return response
        case Trouble.UNAVAILABLE:
            return error(dice.queries.choice((500, 502, 503)))
        case Trouble.HTML:
            return HTMLResponse("<!doctype html><title>Maintenance</title><p>Back soon.")
        case Trouble.HANG:
            return Hang(dice.faults.hang_seconds)
        case unknown:
            assert_never(unknown)


class Hang(Response):
    """Nothing for a while, then a connection that closes before the body came."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                while (await receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            # ASGI cannot close silently: a promised byte that never comes makes the server cut off
            headers = [(b"content-length", b"1")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
