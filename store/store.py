"""The door to the store for code that runs on an event loop.

The store itself is synchronous: writes run in the writer's thread, reads in a few threads of their
own. `await store.write(record, report)` returns after the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from store.clock import Clock, system_clock
from store.database import Database, contended, hold_sqlite_file, translated
from store.errors import StoreUnavailableError
from store.notices import Notices
from store.outlet import Outlet
from store.writer import Answer, Item, Operation, Watch, Writer

logger = logging.getLogger("taskbell.store")

P = ParamSpec("P")
T = TypeVar("T")

_READERS = 4
_READ_TRIES = 3


class Store:
    """One open database. close() when done; it finishes the writes that are waiting."""

    def __init__(self, database: Database, clock: Clock = system_clock) -> None:
        self.database = database
        self._clock = clock
        self._file = hold_sqlite_file(database)
        self._listeners: dict[str, list[Callable[[], object]]] = {}
        self._answered: list[_Waiting] = []
        self._notices = Notices(database, self._wake)
        self._writer = Writer(database, clock, self._notices.announce, self._committed)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="taskbell-reader")

    async def write(self, operation: Operation[Item, Answer], item: Item) -> Answer:
        """Do it, together with whatever else is waiting; return after the commit.

        Raises StoreUnavailableError when nothing is known to be written, and what the operation
        itself raises.
        """
        waiting = _Waiting(self._answered)
        self._writer.put(operation, item, waiting)
        answer: Answer = await waiting.answer()
        return answer

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
        try:
            reading = asyncio.get_running_loop().run_in_executor(self._readers, call)
        except RuntimeError:  # its threads have ended
            raise StoreUnavailableError("the store is closed") from None
        return await reading

    def read_now(
        self,
        question: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """The same from a thread without an event loop."""
        for _ in range(_READ_TRIES):
            try:
                with translated(), self.database.reader.begin() as connection:
                    return question(connection, *args, **kwargs)
            except DBAPIError as error:
                if not contended(error):
                    raise
        raise StoreUnavailableError(f"others were in the way {_READ_TRIES} times")

    def listen(self, topic: str, wake: Callable[[], object]) -> None:
        """Have `wake` called, in a thread of the store's, after commits that concern a topic.

        Commits of other processes count when their notices arrive; a look now and then must cover
        those that do not.
        """
        self._listeners.setdefault(topic, []).append(wake)
        self._notices.listen()

    def watch(self, watch: Watch) -> None:
        """Have `watch` called, in the writer's thread, with what each transaction came to."""
        self._writer.watch = watch

    def attach(self, outlet: Outlet) -> None:
        """From the next transaction on hand new deliveries to a dispatcher of this process."""
        self._writer.outlet = outlet

    async def detach(self) -> None:
        """Hand over nothing more; return when the last transaction that did is over.

        Raises StoreUnavailableError.
        """
        self._writer.outlet = None
        await self.write(_nothing, None)

    def close(self) -> None:
        self._notices.close()
        self._writer.close()
        self._readers.shutdown()
        self.database.dispose()
        if self._file:
            self._file.close()

    def _committed(self, topics: set[str]) -> None:
        """In the writer's thread: tell everybody who waited, with one call into each event loop."""
        answered = self._answered[:]
        self._answered.clear()
        for loop in {waiting.loop for waiting in answered}:
            mine = [waiting for waiting in answered if waiting.loop is loop]
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_tell, mine)
        self._wake(topics)

    def _wake(self, topics: Collection[str]) -> None:
        for wake in [wake for topic in topics for wake in self._listeners.get(topic, ())]:
            try:
                wake()
            except Exception:  # what is committed stays so, whatever a listener does
                logger.exception("a listener failed")


_nothing: Operation[None, None] = Operation("nothing", lambda _tx, items: [None] * len(items))


class _Waiting:
    """A caller on an event loop (store.writer.Caller).

    concurrent.futures.Future does the same for threads, at the price of a lock for each.
    """

    __slots__ = ("_answered", "_error", "_future", "_gone", "_result", "loop")

    def __init__(self, answered: list[_Waiting]) -> None:
        """Adds itself to `answered` when it is: many are told with one call into the loop."""
        self.loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Any] = self.loop.create_future()
        self._answered = answered
        self._result: Any = None
        self._error: BaseException | None = None
        self._gone = False

    async def answer(self) -> Any:
        try:
            return await self._future
        except asyncio.CancelledError:
            self._gone = True
            raise

    def set_running_or_notify_cancel(self) -> bool:
        return not self._gone

    def set_result(self, result: Any, /) -> None:
        self._result = result
        self._answered.append(self)

    def set_exception(self, exception: BaseException, /) -> None:
        self._error = exception
        self._answered.append(self)

    def tell(self) -> None:
        """Called on the loop."""
        if self._future.done():
            return
        if self._error is not None:
            self._future.set_exception(self._error)
        else:
            self._future.set_result(self._result)


def _tell(answered: list[_Waiting]) -> None:
    for waiting in answered:
        waiting.tell()
