"""An example subscriber: checks Taskbell's signature, answers soon, keeps every event once."""

import asyncio
import base64
import hmac
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from store.clock import Clock, system_clock


class BadSignature(Exception):
    """The request is not one that Taskbell signed just now for this secret."""


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """The event id, or BadSignature. Any Standard Webhooks library does the same."""
    try:
        event_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
        signatures = headers["webhook-signature"].encode().split(b" ")
        signed = f"{event_id}.{timestamp}.".encode() + body
    except (KeyError, UnicodeError):
        raise BadSignature("a webhook-… header is missing or malformed") from None
    # int() also takes full-width digits, and underscores between them
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 13):
        raise BadSignature("webhook-timestamp is not a number of seconds")
    if abs(now.timestamp() - int(timestamp)) > 300:
        raise BadSignature("webhook-timestamp is too far from now")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
    # during a rotation there are two signatures; one match is enough
    if not any(hmac.compare_digest(expected, given) for given in signatures):
        raise BadSignature("no signature matches")
    return event_id


@dataclass(frozen=True, slots=True)
class Received:
    """One event; order counts from 1 as they came in, attempts is how often it was sent so far."""

    id: str
    type: str
    task_id: str | None
    provider: str | None
    body: Mapping[str, Any]
    order: int
    attempts: int = 1


def received(event: Mapping[str, Any], order: int) -> Received:
    task = event["data"].get("task") or {}
    ids = task.get("id"), task.get("provider")
    return Received(event["id"], event["type"], *ids, body=event, order=order)


class Subscriber:
    """Serve `app`, subscribe to its /hook, look at `events`."""

    def __init__(self, secret: str, *, fail_first: int = 0, clock: Clock = system_clock) -> None:
        self.secret, self.clock = secret, clock
        self.fail_first = fail_first  # so many requests are answered with 500 and not kept
        self.status: int | None = None  # while set, every request is answered so and not kept
        self.attempts: Counter[str] = Counter()  # verified requests, by event id
        self.app = Starlette(routes=[Route("/hook", self._hook, methods=["POST"])])
        self._events: dict[str, Received] = {}
        self._news = asyncio.Event()

    @property
    def events(self) -> list[Received]:
        """Every event once, in the order of arrival."""
        return [replace(e, attempts=self.attempts[e.id]) for e in self._events.values()]

    async def wait_for(self, count: int) -> None:
        """Return once that many different events have arrived."""
        while len(self._events) < count:
            self._news.clear()
            await self._news.wait()

    async def _hook(self, request: Request) -> Response:
        body = await request.body()
        try:
            event_id = verify(self.secret, request.headers, body, self.clock())
        except BadSignature as problem:
            return Response(str(problem), 400)
        self.attempts[event_id] += 1
        status = 500 if self.fail_first > 0 else self.status
        self.fail_first -= 1
        if status is None and event_id not in self._events:
            self._events[event_id] = received(json.loads(body), order=len(self._events) + 1)
            self._news.set()
        return Response(status_code=status or 204)
