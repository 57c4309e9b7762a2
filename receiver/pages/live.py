"""What tells open pages that something happened: which task, and nothing else about it."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from receiver.feed import Feed
from receiver.models import Id, Query
from receiver.pages.frame import Page
from receiver.pages.visit import Visit
from receiver.problems import Problem
from receiver.sse import EventStream
from store.eventlog import Entry, Wanted
from store.events import Task
from store.text import json_bytes


class LiveQuery(Query):
    """task: only this one, and its progress, too."""

    task: Id | None = None


@dataclass(frozen=True, slots=True)
class LivePage:
    feed: Feed

    def pages(self) -> list[Page]:
        return [Page("/live", self.live)]

    async def live(self, visit: Visit) -> Response:
        task = visit.query(LiveQuery).task
        wanted = Wanted(task_ids=frozenset({task})) if task else Wanted()

        async def admit() -> None:
            if await visit.still_there() is None:
                raise Problem(401, "the session is over")

        stream = EventStream(
            self.feed,
            wanted,
            await self.feed.now(),
            admit,
            progress=task is not None,
            tell=_changed,
            tell_progress=_moved,
        )
        return Streamed(stream)


class Streamed(Response):
    """An answer that is an ASGI app, where a response is wanted; the frame sets no cookie on it."""

    def __init__(self, app: EventStream) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _changed(entry: Entry) -> bytes:
    said = json_bytes({"type": entry.type, "task": entry.task_id})
    return b"event: changed\ndata: %s\n\n" % said


def _moved(task: Task) -> bytes:
    said = json_bytes({"type": "task.progress", "task": task.id})
    return b"event: changed\ndata: %s\n\n" % said
