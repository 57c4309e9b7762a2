"""A subscriber that counts what arrives, by webhook-id, and refuses some of it for good."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import cast

_ID = re.compile(rb"webhook-id: *([^\r]+)", re.IGNORECASE)
_TASK = re.compile(rb'"provider_task_id": ?"([^"]+)"')
_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
_TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"
_REFUSED = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"


@dataclass(slots=True)
class Arrivals:
    """counts: how often each event came. ids: the events of each task.

    refuses: whether it answers 500 to a task, every time.
    """

    refuses: Callable[[str], bool] = lambda _task: False
    counts: Counter[str] = field(default_factory=Counter)
    ids: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    url: str = ""

    def take(self, request: bytes) -> bytes:
        found, named = _ID.search(request), _TASK.search(request)
        event_id = found[1].decode() if found else ""
        task = named[1].decode() if named else ""
        if task and self.refuses(task):
            return _REFUSED
        self.counts[event_id] += 1
        if task:
            self.ids[task].add(event_id)
        return _TAKEN

    @property
    def doubled(self) -> int:
        """Requests more than events."""
        return self.counts.total() - len(self.counts)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Arrivals]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Reading(self), "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        try:
            yield self
        finally:
            server.close()


class _Reading(asyncio.Protocol):
    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._buffer, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            request, self._buffer = self._buffer[:whole], self._buffer[whole:]
            assert self._transport is not None
            self._transport.write(self._arrivals.take(request))
