"""Anything may happen in any order: what the store promises of events and deliveries holds.

hypothesis chooses the steps, on the real store with the real dispatcher; only the clock and the
line to the subscribers are the test's. ./tests/run takes few examples, the same each time; for a
long search: ./tests/run tests/store/test_machine.py --hypothesis-profile=default
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from dispatch.client import Client, SendFailed
from dispatch.sending import Sender
from dispatch.signing import new_secret
from dispatch.sink import Answer, Request
from dispatch.worker import LEASE_MARGIN, Worker
from store import deliveries as operations
from store import subscriptions as owners
from store.clock import ManualClock
from store.database import open_database
from store.errors import ConflictError
from store.events import Status
from store.matching import Subscription
from store.outlet import Delivery
from store.store import Store
from store.subscriptions import Edit, NewSubscription, get_subscription
from store.tables import deliveries, events
from store.vault import Vault
from store.writer import tell_time
from tests.conftest import START
from tests.databases import PostgreSQL, copy_sqlite
from tests.making import poll, push, rows, tell

EXAMPLES = {"sqlite": 20, "postgresql": 8}  # in ./tests/run
STEPS = 30

SCHEDULE = (timedelta(seconds=5), timedelta(minutes=5))
TIMEOUT = timedelta(seconds=5)
LEASE = TIMEOUT + LEASE_MARGIN
VAULT = Vault(["k" * 32])
SECRET = VAULT.lock(new_secret())
RANK = {"queued": 0, "processing": 1, "succeeded": 2, "failed": 2}
TASKS = st.sampled_from(["a", "b", "c"])
WORDS = st.sampled_from([Status(word) for word in RANK])
PLACES = st.sampled_from([None, 1, 1, 2])
STATUSES = st.sampled_from([200, 204, 429, 500, 302, 0, 410])
EITHER = st.integers(0, 1)
ANY = st.integers(0, 20)
_GONE = 410

Row = Mapping[str, Any]

_under_way: ContextVar[Delivery] = ContextVar("under_way")


@dataclass(frozen=True, slots=True, eq=False)
class Post:
    """A delivery at its subscriber, which has not answered yet."""

    delivery: Delivery
    request: Request
    answer: asyncio.Future[int]
    attempt: asyncio.Task[Any]


class Line:
    """What the dispatchers send through; the test answers. A status of 0 is a broken connection."""

    def __init__(self) -> None:
        self.open: list[Post] = []
        self.posts: list[Post] = []

    async def post(self, request: Request) -> Answer:
        attempt = asyncio.current_task()
        assert attempt is not None
        answer = asyncio.get_running_loop().create_future()
        post = Post(_under_way.get(), request, answer, attempt)
        self.open.append(post)
        self.posts.append(post)
        try:
            status = await answer
        finally:
            self.open.remove(post)
        if not status:
            raise SendFailed("connection reset")
        return Answer(status, {}, b"", 0.1)


class Dispatcher(Worker):
    """A real one that tells the line which delivery it is about."""

    async def _deliver(self, delivery: Delivery) -> None:
        _under_way.set(delivery)
        await super()._deliver(delivery)


@dataclass(slots=True)
class Known:
    """The model of a task."""

    version: int = 0
    status: str = ""

    def goes_on_to(self, status: Status) -> bool:
        return not self.version or RANK[status] > RANK[self.status]


class Machine(RuleBasedStateMachine):
    """The model is `tasks`, `told` (events by task and version), `owed` and `subscribed`.

    subscribed: True for an active one, None for a paused one, False for a disabled or deleted one.
    """

    def __init__(self, opening: Callable[[], contextlib.AbstractContextManager[str]]) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.clock = ManualClock(START)
        self.store = Store(open_database(self.stack.enter_context(opening())), self.clock)
        self.stack.callback(self.store.close)
        self.runner = self.stack.enter_context(asyncio.Runner())
        self.line = Line()
        self.dispatchers = [self._dispatcher(name) for name in ("one", "other")]
        self.tasks: dict[str, Known] = {}
        self.told: dict[tuple[str, int], tuple[str, str]] = {}
        self.owed: Counter[tuple[str, str]] = Counter()
        self.subscribed: dict[str, bool | None] = {}
        self.delivered: set[str] = set()

    @initialize(handed=st.booleans(), places=PLACES)
    def begin(self, handed: bool, places: int | None) -> None:
        """With or without a dispatcher that gets new deliveries handed over."""
        if handed:
            self._attach(self.dispatchers[0])
        self._subscribe(places)
        self._subscribe(None)
        self._signed("a", Status.QUEUED)
        self._signed("b", Status.PROCESSING)

    # what comes in. Few rules with many faces: hypothesis leaves whole rules out of an example

    @rule(how=st.sampled_from(["signed", "twice", "unsigned", "asked"]), task=TASKS, status=WORDS)
    def hear(self, how: str, task: str, status: Status) -> None:
        """Something is said about a task."""
        match how:
            case "signed":
                self._signed(task, status)
            case "twice":
                self._signed(task, status)
                self._signed(task, status)
            case "unsigned":
                self._unsigned(task, status)
            case "asked":
                self._asked(task, status)

    def _signed(self, task: str, status: Status) -> None:
        with self._handing_over():
            recorded = tell(self.store, push(task, status, trusted=True))
        self._moved(task, status, recorded.event_id)

    def _unsigned(self, task: str, status: Status) -> None:
        """Nobody vouches for it: no ending, and nothing about a task that is not known."""
        known = self.tasks.setdefault(task, Known())
        if known.version and not status.final:
            return
        recorded = tell(self.store, push(task, status, hold=True))
        assert recorded.event_id is None

    def _asked(self, task: str, status: Status) -> None:
        """The provider's word, also on what was pushed unsigned."""
        with self._handing_over():
            recorded = tell(self.store, poll(task, status))
        if task in self.tasks:
            self._moved(task, status, recorded.event_id)
        else:
            assert (recorded.task, recorded.event_id) == (None, None)

    def _moved(self, task: str, status: Status, event_id: str | None) -> None:
        """A task's events: forward only, and nothing after an ending."""
        known = self.tasks.setdefault(task, Known())
        assert (event_id is not None) == known.goes_on_to(status)
        if event_id is None:
            return
        known.version, known.status = known.version + 1, status
        self.told[task, known.version] = (event_id, f"task.{status}")
        self.owed.update(
            (event_id, sid) for sid, active in self.subscribed.items() if active is not False
        )

    # who wants it

    @rule(what=st.sampled_from(["on", "on", "off", "another", "gone"]), pick=ANY, places=PLACES)
    def change_subscriptions(self, what: str, pick: int, places: int | None) -> None:
        if what == "another":
            self._subscribe(places)
        elif chosen := self._chosen():
            sid = chosen[pick % len(chosen)]
            known = self._subscription(sid)
            paused = what == "off" and known is not None and known.disabled_reason is None
            self.subscribed[sid] = None if paused else what == "on"
            if what == "gone":
                self.store.write_now(owners.delete, sid)
            else:
                self.store.write_now(owners.edit, Edit(sid, {"active": what == "on"}))

    def _subscribe(self, places: int | None) -> None:
        url = f"https://{len(self.subscribed)}.example/"
        wish = NewSubscription(url, "webhook", SECRET, max_in_flight=places)
        self.subscribed[self.store.write_now(owners.create, wish).id] = True

    def _chosen(self) -> list[str]:
        """The subscriptions that are not deleted."""
        return [sid for sid in self.subscribed if self._subscription(sid)]

    def _subscription(self, sid: str) -> Subscription | None:
        return self.store.read_now(get_subscription, sid)

    # what goes out

    @rule(which=EITHER, seconds=st.sampled_from([0, 0, 5, 300, LEASE.total_seconds()]))
    def look(self, which: int, seconds: float) -> None:
        """One of the dispatchers claims what is due, or what is a while later."""
        self.clock.advance(seconds=seconds)
        self._look(which)

    def _look(self, which: int) -> None:
        with self._handing_over():
            # not rounds.once(), which would log a bug and go on
            self.runner.run(self.dispatchers[which]._look())

    @rule(answers=st.lists(st.tuples(ANY, STATUSES), min_size=1, max_size=3))
    def answer(self, answers: list[tuple[int, int]]) -> None:
        """Subscribers answer, in any order. 410: wants nothing more."""
        for pick, status in answers:
            if self.line.open:
                self._answer(self.line.open[pick % len(self.line.open)], status)

    def _answer(self, post: Post, status: int) -> None:
        """Have an attempt end, and see that it is written down unless its lease was taken over."""
        before = self._row(post.delivery.id)
        self.runner.run(_ended(post, status))
        after = self._row(post.delivery.id)
        sid = post.delivery.subscription.id
        paused = self.subscribed[sid] is None
        if status == _GONE and not paused:
            self.subscribed[sid] = False
        if before["status"] != "in_flight" or before["fence"] != post.delivery.fence:
            assert after == before
        elif 200 <= status < 300:
            self.delivered.add(post.delivery.id)
            assert (after["status"], after["due_at"]) == ("delivered", None)
        elif paused and (status == _GONE or before["failures"] < len(SCHEDULE)):
            assert (after["status"], after["due_at"]) == ("pending", None)  # kept
        elif status != _GONE and before["failures"] < len(SCHEDULE):
            due = self.clock() + SCHEDULE[before["failures"]]
            assert (after["status"], after["due_at"]) == ("pending", due)
        else:
            assert (after["status"], after["due_at"]) == ("dead", None)
            assert after["last_error"]

    @rule(which=EITHER)
    def crash(self, which: int) -> None:
        """A dispatcher dies with all it had under way, and another one takes its place."""
        dead = self.dispatchers[which]
        attached = self.store._writer.outlet is dead._outlet
        self.runner.run(_cut_off(dead))
        self.dispatchers[which] = self._dispatcher(f"{dead._outlet.owner}+")
        if attached:
            self._attach(self.dispatchers[which])

    @rule(what=st.sampled_from(["replay", "replay to all", "retry"]), pick=ANY, to=ANY)
    def do_again(self, what: str, pick: int, to: int) -> None:
        chosen = self._chosen()
        if what == "retry":
            found = rows(self.store, deliveries)
            self._retry(found[pick % len(found)])
        else:
            event_id, _ = list(self.told.values())[pick % len(self.told)]
            one = chosen[to % len(chosen)] if what == "replay" and chosen else None
            self._replay(event_id, one)

    def _replay(self, event_id: str, one: str | None) -> None:
        made = self.store.write_now(operations.replay, operations.Replay(event_id, one))
        to = [one] if one else [sid for sid, active in self.subscribed.items() if active]
        assert len(made) == len(to)
        self.owed.update((event_id, sid) for sid in to)

    def _retry(self, row: Row) -> None:
        if row["status"] in ("in_flight", "delivered"):
            with pytest.raises(ConflictError):
                self.store.write_now(operations.retry, row["id"])
        else:
            self.store.write_now(operations.retry, row["id"])
            after = self._row(row["id"])
            due = None if self.subscribed[row["subscription_id"]] is None else self.clock()
            assert (after["status"], after["due_at"]) == ("pending", due)

    @rule(hours=st.sampled_from([1, -1]))
    def set_the_clock(self, hours: int) -> None:
        self.clock.advance(hours=hours)
        self.store.write_now(tell_time, None)  # on SQLite it moves what waits when it was set back

    # what must hold

    @contextlib.contextmanager
    def _handing_over(self) -> Iterator[None]:
        """What is claimed or handed over meanwhile: under a lease, in order, within the limits."""
        before = len(self.line.posts)
        yield
        self.runner.run(_ticks())
        found = {row["id"]: row for row in rows(self.store, deliveries)}
        for post in self.line.posts[before:]:
            self._check_claimed(post, found)

    def _check_claimed(self, post: Post, found: Mapping[str, Row]) -> None:
        row = found[post.delivery.id]
        now = self.clock()
        assert (row["status"], row["fence"]) == ("in_flight", post.delivery.fence)
        assert row["due_at"] == now + LEASE
        assert row["id"] not in self.delivered
        subscription = self._subscription(row["subscription_id"])
        assert subscription is not None
        assert subscription.active
        flying = [
            other
            for other in found.values()
            if other["subscription_id"] == row["subscription_id"]
            and other["status"] == "in_flight"
            and other["due_at"] > now
        ]
        assert len(flying) <= subscription.places
        assert [other["id"] for other in flying if other["task_id"] == row["task_id"]] == [
            row["id"]
        ]

    @invariant()
    def all_is_there_once(self) -> None:
        """Events as the model has them, a delivery for whom each is owed to, and sent as written."""
        found = {row["id"]: row for row in rows(self.store, events)}
        owed = Counter((d["event_id"], d["subscription_id"]) for d in rows(self.store, deliveries))
        of_tasks = [(row["id"], row["type"]) for row in found.values() if row["task_id"]]
        assert sorted(of_tasks) == sorted(self.told.values())
        assert owed == self.owed
        for post in self.line.open:
            assert post.request.headers["webhook-id"] == post.delivery.event_id
            assert post.request.body == found[post.delivery.event_id]["body"]

    def teardown(self) -> None:
        try:
            self._all_comes_to_an_end()
        finally:
            self.stack.close()

    def _all_comes_to_an_end(self) -> None:
        """Whatever happened: once subscribers answer, nothing is stuck, and nothing was lost."""
        for sid in self._chosen():
            self.store.write_now(owners.edit, Edit(sid, {"active": True}))
        for _ in range(40):
            while self.line.open:
                self._answer(self.line.open[0], 200)
            if not self._open():
                break
            self.clock.advance(hours=1)
            self._look(0)
        assert self._open() == []
        taken = {post.delivery.id for post in self.line.posts}
        for row in rows(self.store, deliveries):
            assert row["status"] == "delivered" or row["last_error"]
            assert row["status"] != "delivered" or row["id"] in taken
        self.all_is_there_once()

    def _open(self) -> list[Row]:
        return rows(self.store, deliveries, deliveries.c.status.in_(("pending", "in_flight")))

    def _row(self, delivery_id: str) -> Row:
        (row,) = rows(self.store, deliveries, deliveries.c.id == delivery_id)
        return row

    def _dispatcher(self, owner: str) -> Dispatcher:
        return Dispatcher(
            self.store,
            Sender(cast(Client, self.line), VAULT, self.clock),
            schedule=SCHEDULE,
            attempt_timeout=TIMEOUT,
            clock=self.clock,
            owner=owner,
            jitter=lambda: 0.5,
        )

    def _attach(self, dispatcher: Dispatcher) -> None:
        dispatcher._loop = self.runner.get_loop()
        self.store.attach(dispatcher._outlet)


async def _ended(post: Post, status: int) -> None:
    post.answer.set_result(status)
    await asyncio.wait([post.attempt])


async def _cut_off(dispatcher: Dispatcher) -> None:
    dying = list(dispatcher.rounds.under_way)
    for attempt in dying:
        attempt.cancel()
    await asyncio.gather(*dying, return_exceptions=True)


async def _ticks() -> None:
    """Let what was handed over reach the line."""
    for _ in range(5):
        await asyncio.sleep(0)


def _search(engine: str, opening: Callable[[], contextlib.AbstractContextManager[str]]) -> None:
    bounded = settings.get_current_profile_name() == "taskbell"
    machine = cast(type[Machine], partial(Machine, opening))  # it is only called
    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None,
            max_examples=EXAMPLES[engine] if bounded else settings().max_examples,
            stateful_step_count=STEPS if bounded else settings().stateful_step_count,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def test_nothing_breaks_the_promises_on_sqlite(sqlite_template: Path, tmp_path: Path) -> None:
    @contextlib.contextmanager
    def opening() -> Iterator[str]:
        file = tmp_path / "machine.db"
        yield copy_sqlite(sqlite_template, file)
        for each in tmp_path.glob("machine.db*"):
            each.unlink()

    _search("sqlite", opening)


def test_nothing_breaks_the_promises_on_postgresql(postgresql: PostgreSQL) -> None:
    _search("postgresql", postgresql.database)
