"""The loop over what waits in the store: look, do what was claimed side by side, rest until woken.

The poller and the dispatcher are such loops. A wake-up is only a hint: a look now and then covers
those that got lost, and what a dead process had claimed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from store.errors import StoreError
from store.store import Store

LOOK_SECONDS = 1.0
_BREATH_SECONDS = 0.02


class Rounds:
    """look claims what is due, hands it to start(), and answers how long to rest, in seconds.

    topic: what the store wakes us for. places: how much may be under way, when look goes by that:
    then the end of what took the last one wakes the next look.
    Neither an error of a look nor of some piece of work ends the loop: what was claimed is due
    again when its lease runs out.
    """

    def __init__(
        self,
        store: Store,
        topic: str,
        look: Callable[[], Awaitable[float]],
        *,
        places: int | None = None,
        logger: logging.Logger,
    ) -> None:
        self.under_way: set[asyncio.Task[None]] = set()
        self._store = store
        self._topic = topic
        self._look = look
        self._places = places
        self._logger = logger
        self._looking: asyncio.Task[float] | None = None
        self._news = asyncio.Event()
        self._store_away = False

    async def run(self) -> None:
        """Look and rest, until canceled. drain() lets what is under way end."""
        loop = asyncio.get_running_loop()
        self._store.listen(self._topic, lambda: loop.call_soon_threadsafe(self._news.set))
        while True:
            self._news.clear()
            # a claim that is cut off may be committed all the same: drain() sees to what it took
            self._looking = asyncio.create_task(self.once())
            await self._rest(await asyncio.shield(self._looking))

    async def once(self) -> float:
        """One look; how long to rest after it."""
        try:
            seconds = await self._look()
        except StoreError as error:
            self._note(error)
            return LOOK_SECONDS
        except Exception:  # a bug must not end the loop
            self._logger.exception("a look failed")
            return LOOK_SECONDS
        self._note(None)
        return seconds

    def start(self, work: Coroutine[Any, Any, None], about: str) -> None:
        """Do a piece of work beside the others. about: an id, for the log."""
        task = asyncio.create_task(self._guarded(work, about))
        self.under_way.add(task)
        task.add_done_callback(self._ended)

    async def drain(self, seconds: float) -> None:
        """Wait for what is under way, a look included; then cut it off."""
        if self._looking:
            await asyncio.wait([self._looking], timeout=seconds)
        if self.under_way:
            _, unfinished = await asyncio.wait(self.under_way, timeout=seconds)
            for task in unfinished:
                task.cancel()

    async def _guarded(self, work: Coroutine[Any, Any, None], about: str) -> None:
        try:
            await work
        except StoreError as error:
            self._note(error)
        except Exception:  # one must not end the others; its claims are counted
            self._logger.exception("a piece of work failed", extra={"about": about})

    def _ended(self, task: asyncio.Task[None]) -> None:
        full = self._places is not None and len(self.under_way) >= self._places
        self.under_way.discard(task)
        if full:
            self._news.set()  # the wake-up from its commit came while the place was still taken

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(min(max(seconds, _BREATH_SECONDS), LOOK_SECONDS)):
                await self._news.wait()
        except TimeoutError:
            return
        await asyncio.sleep(0)  # let everything that was woken together be claimed together

    def _note(self, error: StoreError | None) -> None:
        """Log once that the store went away, and once that it is back."""
        if (error is not None) != self._store_away:
            self._store_away = error is not None
            self._logger.warning("the store is %s", f"away: {error}" if error else "back")
