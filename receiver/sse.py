"""Server-sent events (the HTML standard, 9.2): what a follower hears, as one long answer.

sse-starlette would add three tasks and a timer a stream, and has no place in a log to go on from.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope, Send

from receiver.feed import Feed, Follower
from receiver.problems import Problem
from store.errors import StoreUnavailableError
from store.eventlog import Entry, Wanted
from store.events import Task, rfc3339, task_json
from store.text import json_bytes

logger = logging.getLogger("taskbell.stream")

MEDIA_TYPE = "text/event-stream"
PROGRESS = "task.progress"
TAKE_SECONDS = 20.0
"""How long a client may leave what it is sent lying. deploy's own limit on connections is shorter."""

ADMIT_SECONDS = 15.0
"""How often a client's key is looked at again: it may have been revoked."""

# No blank line behind either: httpx-sse (its issue 35) would make an empty event of them.
_RETRY = b"retry: 2000\n"  # milliseconds
_HEARTBEAT = b":\n"

_HEADERS = (
    (b"content-type", MEDIA_TYPE.encode()),
    # proxies that compress would hold events back until a block is full
    (b"cache-control", b"no-cache, no-transform"),
    # nginx compresses all the same, unless the answer says that it has an encoding
    (b"content-encoding", b"identity"),
    (b"x-accel-buffering", b"no"),  # nginx would collect events before it passes them on
)
_END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


def _event(entry: Entry) -> bytes:
    # the body is one line: JSON as we write it holds no bare line break
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (entry.cursor, entry.type.encode(), entry.body)


def _progress(task: Task) -> bytes:
    """Without an id: there is nothing to resume, and the last event's stays the client's place."""
    body = {
        "type": PROGRESS,
        "timestamp": rfc3339(task.updated_at),
        "data": {"task": task_json(task)},
    }
    return b"event: %s\ndata: %s\n\n" % (PROGRESS.encode(), json_bytes(body))


@dataclass(frozen=True, slots=True)
class EventStream:
    """The answer: an ASGI app. It ends when the client leaves, or is too slow, or we stop.

    admit: raises Problem when the client may hear no more. tell, tell_progress: how an event, or
    a task's progress, is written.
    """

    feed: Feed
    wanted: Wanted
    after: int
    admit: Callable[[], Awaitable[object]]
    progress: bool = False
    tell: Callable[[Entry], bytes] = _event
    tell_progress: Callable[[Task], bytes] = _progress
    take_seconds: float = TAKE_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.feed.follow(self.wanted, self.after, progress=self.progress) as follower:
            await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS]})
            if scope["method"] != "HEAD":
                try:
                    async with follower.leaving_with(receive):
                        await self._pass_on(follower, send)
                except TimeoutError:
                    logger.info("a stream's client is too slow: cut off")
                    return  # no end can be sent either; the server closes the connection
            await send(_END)

    async def _pass_on(self, follower: Follower, send: Send) -> None:
        await self._send(send, _RETRY)
        admitted_at, rechecks = self.feed.monotonic(), self.feed.rechecks
        while True:
            try:
                entries = await follower.next()
            except StoreUnavailableError:
                return  # the client comes back, and goes on where it was
            if follower.over:
                return
            long_ago = self.feed.monotonic() - admitted_at >= ADMIT_SECONDS
            if long_ago or self.feed.rechecks != rechecks:
                admitted_at, rechecks = self.feed.monotonic(), self.feed.rechecks
                if not await self._still_admitted():
                    return
            moved = follower.take_progress()
            news = b"".join([*map(self.tell, entries), *map(self.tell_progress, moved)])
            await self._send(send, news or _HEARTBEAT)

    async def _still_admitted(self) -> bool:
        try:
            await self.admit()
        except Problem as problem:
            return problem.status == 503  # nobody can tell
        return True

    async def _send(self, send: Send, chunk: bytes) -> None:
        async with asyncio.timeout(self.take_seconds):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
