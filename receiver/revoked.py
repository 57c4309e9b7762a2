"""The revoked callback tokens, in memory: a challenge must not wait for the database."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from store import clock
from store.callback_tokens import NONE_REVOKED, TOKENS, read_revoked
from store.errors import StoreUnavailableError
from store.store import Store

_LOOK_SECONDS = 1.0
_OLD_SECONDS = 2.0


class RevokedTokens:
    """What the store said last.

    A notice makes it look again at once. Should notices get lost, it looks every second in which
    callbacks come; when none come, it does not look, and the first push afterwards waits for it.
    """

    def __init__(self, store: Store, monotonic: Callable[[], float] = clock.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._known = NONE_REVOKED
        self._looked_at = self._known_at = -math.inf
        self._looking: asyncio.Task[StoreUnavailableError | None] | None = None
        self._news = False

    def watch(self) -> None:
        """Hear of revocations in other processes. Call it on the event loop."""
        loop = asyncio.get_running_loop()
        self._store.listen(TOKENS, lambda: loop.call_soon_threadsafe(self._look_again))

    def has(self, token_id: str) -> bool:
        """Whether it was revoked as far as is known, from memory."""
        if self._monotonic() - self._looked_at > _LOOK_SECONDS:
            self._look()
        return token_id in self._known.ids

    async def has_now(self, token_id: str) -> bool:
        """The same, from a memory two seconds old at most. Raises StoreUnavailableError."""
        if self._monotonic() - self._known_at > _OLD_SECONDS:
            await self._wait_for(self._look())
        return self.has(token_id)

    async def refresh(self) -> None:
        """Know all that is committed now. Raises StoreUnavailableError."""
        await self._wait_for(self._look_again())

    async def _wait_for(self, looking: asyncio.Task[StoreUnavailableError | None]) -> None:
        error = await asyncio.shield(looking)
        if error is not None:
            raise error

    def _look_again(self) -> asyncio.Task[StoreUnavailableError | None]:
        self._news = True  # a look that is under way may have come too early
        return self._look()

    def _look(self) -> asyncio.Task[StoreUnavailableError | None]:
        """Start to look, unless somebody does already."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._read())
        return self._looking

    async def _read(self) -> StoreUnavailableError | None:
        """Read until there is no more news; the error, if any: often nobody waits for it."""
        self._news = True
        while self._news:
            self._news = False
            self._looked_at = began = self._monotonic()
            try:
                self._known = await self._store.read(read_revoked, self._known)
            except StoreUnavailableError as error:
                return error
            self._known_at = began
        return None
