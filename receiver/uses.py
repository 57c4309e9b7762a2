"""When callback tokens were last used: noted in memory, written down together now and then."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta

from store.callback_urls import Uses, note_uses
from store.errors import StoreUnavailableError
from store.store import Store

COARSE = timedelta(minutes=5)
"""A token that is used all the time is written down this often, by each process."""

_WRITE_SECONDS = 5.0
_REMEMBERED_MOST = 10_000  # tokens


class LastUses:
    """Notes uses without waiting for anything: no push and no challenge writes for this.

    wait_seconds: how long uses are collected before they are written in one transaction.
    """

    def __init__(self, store: Store, *, wait_seconds: float = _WRITE_SECONDS) -> None:
        self._store = store
        self._wait_seconds = wait_seconds
        self._noted: dict[str, datetime] = {}
        self._unwritten: dict[str, datetime] = {}
        self._writing: asyncio.Task[None] | None = None

    def note(self, token_id: str, now: datetime) -> None:
        """A good token came. Call it on the event loop."""
        noted_at = self._noted.get(token_id)
        if noted_at is not None and timedelta(0) <= now - noted_at < COARSE:
            return
        self._noted.pop(token_id, None)
        if len(self._noted) >= _REMEMBERED_MOST:
            del self._noted[next(iter(self._noted))]
        self._noted[token_id] = self._unwritten[token_id] = now
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_later())

    async def flush(self) -> None:
        """Write down what is noted. What cannot be written now is noted again at its next use."""
        uses, self._unwritten = self._unwritten, {}
        if not uses:
            return
        try:
            await self._store.write(note_uses, Uses(uses))
        except StoreUnavailableError:
            for token_id in uses:
                self._noted.pop(token_id, None)

    async def close(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writing
        await self.flush()

    async def _write_later(self) -> None:
        while self._unwritten:
            await asyncio.sleep(self._wait_seconds)
            await self.flush()
