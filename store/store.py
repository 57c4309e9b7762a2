"""The door to the store for code that runs on an event loop.

The store itself is synchronous: writes run in the writer's thread, reads in a few threads of their
own. `await store.write(record, report)` returns after the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from store.clock import Clock, system_clock
from store.database import Database, hold_sqlite_file, translated
from store.writer import Answer, Item, Operation, Writer

logger = logging.getLogger("taskbell.store")

P = ParamSpec("P")
T = TypeVar("T")

_READERS = 4


class Store:
    """One open database. close() when done; it finishes the writes that are waiting."""

    def __init__(self, database: Database, clock: Clock = system_clock) -> None:
        self.database = database
        self._clock = clock
        self._file = hold_sqlite_file(database)
        self._listeners: dict[str, list[Callable[[], object]]] = {}
        self._settled: list[_Settled] = []
        self._writer = Writer(database, clock, self._committed)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="taskbell-reader")

    async def write(self, operation: Operation[Item, Answer], item: Item) -> Answer:
        """Do it, together with whatever else is waiting; return after the commit.

        Raises StoreUnavailableError when nothing is known to be written, and what the operation
        itself raises.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Answer] = loop.create_future()
        future = self._writer.submit(operation, item)
        future.add_done_callback(lambda done: self._settled.append((loop, waiter, done)))
        try:
            return await waiter
        except asyncio.CancelledError:
            future.cancel()
            raise

    def write_now(self, operation: Operation[Item, Answer], item: Item) -> Answer:
        """The same from a thread without an event loop."""
        return self._writer.submit(operation, item).result()

    async def read(
        self,
        question: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Ask in one consistent read transaction. Raises StoreUnavailableError."""
        call = functools.partial(self.read_now, question, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._readers, call)

    def read_now(
        self,
        question: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """The same from a thread without an event loop."""
        with translated(), self.database.reader.begin() as connection:
            return question(connection, *args, **kwargs)

    def listen(self, topic: str, wake: Callable[[], object]) -> None:
        """Have `wake` called, in the writer's thread, after commits that concern a topic."""
        self._listeners.setdefault(topic, []).append(wake)

    def close(self) -> None:
        self._writer.close()
        self._readers.shutdown()
        self.database.dispose()
        if self._file:
            self._file.close()

    def _committed(self, topics: set[str]) -> None:
        """In the writer's thread: tell everybody who waited, with one call into each event loop."""
        settled, self._settled = self._settled, []
        for loop in {loop for loop, _, _ in settled}:
            mine = [(waiter, done) for its, waiter, done in settled if its is loop]
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_resolve, mine)
        for wake in [wake for topic in topics for wake in self._listeners.get(topic, ())]:
            try:
                wake()
            except Exception:  # what is committed stays so, whatever a listener does
                logger.exception("a listener failed")


_Settled = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", "Future[Any]"]


def _resolve(settled: list[tuple[asyncio.Future[Any], Future[Any]]]) -> None:
    for waiter, done in settled:
        if waiter.done() or done.cancelled():
            continue
        error = done.exception()
        if error is None:
            waiter.set_result(done.result())
        else:
            waiter.set_exception(error)
