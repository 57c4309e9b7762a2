"""What was learned about keys and sessions, and when it must be learned anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from store import clock
from store.counting import ACCESS, read_counter
from store.store import Store

T = TypeVar("T")

REMEMBERED_SECONDS = 1.5
"""After that an answer of the store is asked for again, in case no notice of a change came."""

_REMEMBERED_MOST = 1_000


class Access:
    """Counts the changes that took something away: a key was revoked, a session has ended.

    A change of this process counts at once (`changed`), another's when its notice arrives, or with
    the next look. monotonic: seconds.
    """

    def __init__(self, store: Store, monotonic: Callable[[], float] = clock.monotonic) -> None:
        self.version = 0
        self.monotonic = monotonic
        self._store = store
        self._known: int | None = None
        self._listeners: list[Callable[[], object]] = []

    def watch(self) -> None:
        """Hear of changes in other processes. Call it on the event loop."""
        loop = asyncio.get_running_loop()
        self._store.listen(ACCESS, lambda: loop.call_soon_threadsafe(self.changed))

    def listen(self, told: Callable[[], object]) -> None:
        """Have `told` called after each change."""
        self._listeners.append(told)

    def changed(self) -> None:
        self.version += 1
        for told in self._listeners:
            told()

    async def look(self) -> None:
        """Ask the store, in case a notice was lost. Raises StoreUnavailableError."""
        found = await self._store.read(read_counter, ACCESS)
        before, self._known = self._known, found
        if before is not None and before != found:
            self.changed()


class Remembered(Generic[T]):
    """Answers of the store, for a moment, or until something changed."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._kept: dict[str, tuple[int, float, T]] = {}

    def get(self, name: str) -> T | None:
        version, until, value = self._kept.get(name, (-1, 0.0, None))
        if version != self._access.version or until <= self._access.monotonic():
            return None
        return value

    def asking(self) -> Callable[[str, T | None], None]:
        """Call it before the store is asked; what it returns takes the answer."""
        version, began = self._access.version, self._access.monotonic()

        def keep(name: str, value: T | None) -> None:
            if value is None:
                self._kept.pop(name, None)
                return
            if len(self._kept) >= _REMEMBERED_MOST:
                self._kept.clear()
            self._kept[name] = (version, began + REMEMBERED_SECONDS, value)

        return keep
