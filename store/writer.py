"""The writer: one thread that runs whatever is waiting in one transaction, then says so.

A caller's future is resolved after the commit, so "done" means durable, and the price of the
commit is shared by everybody who waited for it.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection, false

from store.bulk import Bulk
from store.clock import Clock, monotonic
from store.database import Database, contended, lock_statement, overtaken, translated
from store.errors import ReadOnlyError, StoreError, StoreUnavailableError
from store.matching import COUNTER, SUBSCRIPTIONS_VERSION, Subscription, SubscriptionBook
from store.outlet import Delivery, Outlet
from store.sessions import Statement
from store.set_back import set_back
from store.tables import counters

logger = logging.getLogger("taskbell.store")

Item = TypeVar("Item")
Answer = TypeVar("Answer")

BATCH = 512
WAITING = 20_000
TRIES = 3
"""Of a transaction that other processes got in the way of."""

_SET_BACK = timedelta(seconds=5)  # less is corrected all the time, and hurts nobody


@dataclass(slots=True)
class Tx:
    """What an operation works with: the open transaction, its time, and whom to wake after it.

    handed: deliveries that the outlet, the dispatcher of this process, gets after the commit.
    """

    _connection: Connection
    _version: int | None
    database: Database
    now: datetime
    book: SubscriptionBook
    outlet: Outlet | None = None
    handed: list[Delivery] = field(default_factory=list)
    topics: set[str] = field(default_factory=set)
    news: set[str] = field(default_factory=set)
    events: list[str] = field(default_factory=list)
    """Types of the events it wrote."""
    _subscriptions: Mapping[str, Subscription] | None = None
    _reserved: list[tuple[Outlet, int]] = field(default_factory=list)
    _unsent: list[Statement] = field(default_factory=list)

    @property
    def connection(self) -> Connection:
        """Where to ask and to write at once. It knows of all that was written before."""
        if self._unsent:
            unsent, self._unsent = self._unsent, []
            self.database.send(self._connection, unsent)
        return self._connection

    def write(self, bulk: Bulk, rows: Sequence[Mapping[str, Any]]) -> None:
        """Do it for each row, at the latest with the commit.

        On PostgreSQL such statements go together, and what they cost is one round trip.
        """
        if rows and self.database.postgresql:
            self._unsent.append(bulk.statement(self._connection.dialect, rows))
        elif rows:
            bulk.run(self._connection, rows)

    def ask(self, bulk: Bulk, row: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """What a SELECT finds after all that was written, as the driver has it."""
        if not self.database.postgresql:
            return [tuple(found) for found in bulk.ask(self._connection, [row])]
        unsent, self._unsent = self._unsent, []
        question = bulk.statement(self._connection.dialect, [row])
        return self.database.ask(self._connection, [*unsent, question])

    def lock(self, number: int) -> None:
        """Wait for an advisory lock, before anything that comes after this, to the end."""
        if self.database.postgresql:
            self._unsent.append(lock_statement(number))

    def commit(self, *last: Statement) -> None:
        """Only for the writer, and after all operations. last: PostgreSQL's business."""
        if self.database.postgresql:
            self.database.send(self._connection, [*self._unsent, *last], commit=True)

    @property
    def subscriptions(self) -> Mapping[str, Subscription]:
        """Every subscription that is not deleted, by id."""
        if self._subscriptions is None:
            self._subscriptions = self.book.current(self.connection, self._version)
        return self._subscriptions

    def subscriptions_changed(self) -> None:
        """Count a change to the subscriptions table, so that every process reads it again."""
        self.connection.execute(
            counters.update().where(counters.c.name == COUNTER).values(value=counters.c.value + 1)
        )
        self.book.forget()
        self._subscriptions = None

    def wake(self, topic: str, *, here_only: bool = False) -> None:
        """Tell the listeners of a topic once the transaction is committed.

        here_only: those of this process, which can do what is to be done.
        """
        self.topics.add(topic)
        if not here_only:
            self.news.add(topic)

    def reserve(self, outlet: Outlet, wanted: int) -> int:
        """Take up to so many of an outlet's places; a rollback gives them back."""
        granted = outlet.reserve(wanted)
        self._reserved.append((outlet, granted))
        return granted

    def give_back(self, outlet: Outlet, places: int) -> None:
        """Of those that were reserved."""
        outlet.release(places)
        self._reserved.append((outlet, -places))

    def undone(self) -> None:
        """The transaction was rolled back."""
        for outlet, places in self._reserved:
            outlet.release(places)


@dataclass(frozen=True, slots=True)
class Operation(Generic[Item, Answer]):
    """Something to do in a transaction, for many items at once.

    run answers in the items' order; an exception among the answers fails that item alone. order
    says which kind goes first within a transaction: what takes PostgreSQL's claim lock goes last,
    so that two processes never wait for each other crosswise.
    """

    name: str
    run: Callable[[Tx, Sequence[Item]], Sequence[Answer | StoreError]]
    order: int = 0


tell_time: Operation[None, datetime] = Operation("time", lambda tx, items: [tx.now] * len(items))
"""The time that leases and due times go by."""


def _look_whether_writable(tx: Tx, items: Sequence[None]) -> list[None]:
    tx.connection.execute(_CHANGE_NOTHING)
    return list(items)


_CHANGE_NOTHING = counters.update().where(false()).values(value=counters.c.value)
"""Refused by a connection that is good for reading only, and no work for another one."""


check_writable: Operation[None, None] = Operation("check", _look_whether_writable)
"""Raises ReadOnlyError when the writing connection, and a new one in its place, takes no writes."""


class Caller(Protocol):
    """Who waits for an operation; a concurrent Future is one. Called in the writer's thread."""

    def set_running_or_notify_cancel(self) -> bool:
        """False when nobody waits any more: it is left out."""

    def set_result(self, result: Any, /) -> None:
        """It is done, and durable."""

    def set_exception(self, exception: BaseException, /) -> None:
        """It is not done."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A transaction that is over: its operations' names, items and answers, and its events' types."""

    done: Sequence[tuple[str, Any, Any]]
    events: Sequence[str]
    seconds: float


Watch = Callable[[Committed], object]
"""Whoever counts what was committed. Called in the writer's thread when nobody waits any more."""


def _nobody(_committed: Committed) -> None:
    pass


@dataclass(frozen=True, slots=True)
class _Job:
    operation: Operation[Any, Any]
    item: Any
    caller: Caller


class Writer:
    """Owns the write connection. submit() from any thread; close() finishes what is waiting."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        announce: Callable[[set[str]], Sequence[Statement]],
        committed: Callable[[set[str]], None],
    ) -> None:
        """At the end of each transaction `announce` says how to tell other processes of their topics.

        After it, its futures resolved, `committed` gets all topics to wake.
        """
        self._database = database
        self._clock = clock
        self._announce = announce
        self._committed = committed
        self._book = SubscriptionBook()
        self._latest = clock()
        self.outlet: Outlet | None = None
        """The dispatcher of this process, if it has one."""
        self.watch: Watch = _nobody
        self._over: list[Committed] = []
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._door = threading.Lock()  # so that nothing is put in behind the end
        self._thread = threading.Thread(target=self._work, name="taskbell-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation[Item, Answer], item: Item) -> Future[Answer]:
        """Have an operation done. Raises StoreUnavailableError when too much is waiting."""
        future: Future[Answer] = Future()
        self.put(operation, item, future)
        return future

    def put(self, operation: Operation[Item, Any], item: Item, caller: Caller) -> None:
        """The same for whoever brings a caller of its own."""
        with self._door:
            if self._closed:
                raise StoreUnavailableError("the store is closed")
            if self._jobs.qsize() >= WAITING:
                raise StoreUnavailableError("too many writes are waiting")
            self._jobs.put(_Job(operation, item, caller))

    def close(self) -> None:
        with self._door:
            closed, self._closed = self._closed, True
        if not closed:
            self._jobs.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            # a caller who gave up before its turn cancelled the future: that write is left out
            wanted = [job for job in batch if job.caller.set_running_or_notify_cancel()]
            if wanted:
                self._committed(self._run(wanted))
                self._tell_watch()

    def _tell_watch(self) -> None:
        over, self._over = self._over, []
        for committed in over:
            try:
                self.watch(committed)
            except Exception:  # what is committed stays so, whoever counts it
                logger.exception("counting what was written failed")

    def _next_batch(self) -> list[_Job] | None:
        job = self._jobs.get()
        if job is None:
            return None
        batch = [job]
        while len(batch) < BATCH:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)  # close after this batch
                break
            batch.append(job)
        return batch

    def _run(self, batch: list[_Job], tries: int = TRIES) -> set[str]:
        """Do a batch and resolve its futures; the topics to wake."""
        began = monotonic()
        try:
            answers, tx = self._transaction(batch)
        except ReadOnlyError as error:
            self._book.forget()
            if tries > 1:  # nothing was written; another connection may lead to who takes writes
                return self._run(batch, 1)
            _fail(batch, error)
        except StoreUnavailableError as error:
            self._book.forget()  # it may have read what was then rolled back
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - one bad row must fail alone, whatever it raises
            self._book.forget()
            if tries > 1 and overtaken(error):
                return self._run(batch, tries - 1)
            if len(batch) == 1:
                away = StoreUnavailableError(f"others were in the way {TRIES} times")
                _fail(batch, away if contended(error) else error)
                return set()
            logger.warning(
                "a batch of %d writes failed (%s), trying them singly",
                len(batch),
                type(error).__name__,
            )
            return set().union(*(self._run([job]) for job in batch))
        else:
            if tx.outlet and tx.handed:
                tx.outlet.take(tx.handed)
            for job, answer in answers:
                if isinstance(answer, StoreError):
                    job.caller.set_exception(answer)
                else:
                    job.caller.set_result(answer)
            if self.watch is not _nobody:
                done = [(job.operation.name, job.item, answer) for job, answer in answers]
                self._over.append(Committed(done, tx.events, monotonic() - began))
            return tx.topics
        return set()

    def _transaction(self, batch: list[_Job]) -> tuple[list[tuple[_Job, Any]], Tx]:
        groups: dict[str, list[_Job]] = {}
        for job in batch:
            groups.setdefault(job.operation.name, []).append(job)
        answers: list[tuple[_Job, Any]] = []
        with translated(), self._begun() as tx:
            for jobs in sorted(groups.values(), key=lambda jobs: jobs[0].operation.order):
                results = jobs[0].operation.run(tx, [job.item for job in jobs])
                answers.extend(zip(jobs, results, strict=True))
            tx.commit(*self._announce(tx.news))
        return answers, tx

    @contextlib.contextmanager
    def _begun(self) -> Iterator[Tx]:
        tx = None
        try:
            with self._database.writer.begin() as connection:
                now, version = self._database.now(connection, self._clock, SUBSCRIPTIONS_VERSION)
                self._mind_the_clock(connection, now)
                tx = Tx(connection, version, self._database, now, self._book, self.outlet)
                yield tx
            self._latest = now
        except BaseException:
            if tx:
                tx.undone()
            raise

    def _mind_the_clock(self, connection: Connection, now: datetime) -> None:
        """PostgreSQL's clock is its host's business, and everybody's."""
        by = self._latest - now
        if by > _SET_BACK and not self._database.postgresql:
            logger.warning("the clock was set back by %s", by)
            set_back(connection, by)


def _fail(batch: list[_Job], error: BaseException) -> None:
    for job in batch:
        job.caller.set_exception(error)
