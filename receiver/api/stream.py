"""The event stream: every event as it is recorded, for as long as the client stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp

from receiver.api.tasks import known_provider
from receiver.endpoint import Call, Endpoint
from receiver.feed import Feed
from receiver.models import StreamQuery
from receiver.problems import Problem
from receiver.provider import Provider
from receiver.sse import MEDIA_TYPE, PROGRESS, EventStream
from store.eventlog import Wanted
from store.events import types_of

_LAST_CURSOR = 2**63 - 1


@dataclass(frozen=True, slots=True)
class StreamApi:
    feed: Feed
    providers: Mapping[str, Provider]

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                "GET",
                "/v1/events/stream",
                "Follow the events: from now on, after a cursor (Last-Event-ID, or after), or since",
                self.stream,
                {200: MEDIA_TYPE},
                query=StreamQuery,
                problems=(410,),
            )
        ]

    async def stream(self, call: Call) -> ASGIApp:
        query = call.query(StreamQuery)
        for name in query.provider or ():
            known_provider(self.providers, name, "query parameter 'provider'")
        # a browser that comes back repeats the address it began with, and adds the header
        after = _last_event_id(call.headers)
        if after is None:
            after = query.after
        if after is None:
            after = await self.feed.now(query.since)
        else:
            await self.feed.check_cursor(after)
        wanted = Wanted(_types(query.type), _set(query.provider), _set(query.task))
        progress = query.type is None or not {"task.*", PROGRESS}.isdisjoint(query.type)
        return EventStream(self.feed, wanted, after, call.admit, progress)


def _last_event_id(headers: Mapping[str, str]) -> int | None:
    text = headers.get("last-event-id", "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _LAST_CURSOR):
        raise Problem(422, "Last-Event-ID is not a cursor of this stream")
    return int(text)


def _types(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else types_of(names)


def _set(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)
