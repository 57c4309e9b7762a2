"""What is heard of providers, and what is written of it: on a real store, with a clock by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

import pytest

from receiver.failures import Blame, Code
from receiver.provider import providers
from receiver.provider_watch import BEAT_SECONDS, SOON_SECONDS, ProviderWatch
from receiver.watch import Heard, Watch
from store.clock import ManualClock
from store.database import open_database
from store.errors import StoreUnavailableError
from store.events import Failure, Task
from store.provider_states import Note, ProviderState, State, read_history, read_states
from store.store import Store
from store.tables import events
from store.writer import Committed
from tests.databases import on_sqlite
from tests.making import rows
from tests.patience import PATIENCE_SECONDS
from tests.statements import watched

KEYS = {"minimax": True, "atlascloud": True, "opencomputing": False}


class Scene:
    """One polling process after the other, on one store."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.watch = self.process()

    def process(self, **has_key: bool) -> ProviderWatch:
        return ProviderWatch(
            self.store,
            providers(),
            {**KEYS, **has_key},
            clock=self.clock,
            monotonic=lambda: self.clock().timestamp(),
            other=Watch(),
        )

    async def restart(self, **has_key: bool) -> None:
        await self.watch.drain(5)
        self.watch = self.process(**has_key)
        await self.watch._write()

    async def hear(
        self,
        code: Code | None = None,
        blame: Blame | None = Blame.PROVIDER,
        task: str = "one",
        version: int = 1,
    ) -> None:
        now = self.clock()
        asked = Task(task, "minimax", task, now, now, now, version=version)
        trouble = Failure(code, f"it said {code}") if code else None
        self.watch.verdict(Heard(asked, now, blame if code else None, trouble))
        await self.watch._write()

    async def fail(self, seconds: int, every: int = 10, version: int = 1) -> None:
        for place in range(0, seconds, every):
            await self.hear(Code.UNAVAILABLE, task="ab"[place // every % 2], version=version)
            self.clock.advance(seconds=every)

    def state(self, name: str = "minimax") -> ProviderState:
        return self.store.read_now(read_states)[name].at(self.clock())

    def history(self) -> list[State]:
        return [each.state for each in self.store.read_now(read_history, "minimax", 100)]

    def events(self) -> list[str]:
        return [row["type"] for row in rows(self.store, events)]


@pytest.fixture
async def scene(store: Store, clock: ManualClock) -> Scene:
    scene = Scene(store, clock)
    await scene.watch._write()
    return scene


async def test_at_the_start_a_provider_is_idle_or_has_no_key(scene: Scene) -> None:
    assert scene.state().state is State.IDLE
    without = scene.state("opencomputing")

    assert without.state is State.NO_KEY
    assert without.reason
    assert "OPENCOMPUTING_API_KEY" in without.reason.message


async def test_a_provider_goes_down_and_comes_back_once(scene: Scene) -> None:
    await scene.hear()
    await scene.fail(120)
    down = scene.state()
    await scene.hear()
    await scene.hear()

    assert (down.state, down.reason) == (State.DOWN, Failure("unavailable", "it said unavailable"))
    assert scene.state().state is State.OK
    assert scene.history() == [State.OK, State.DOWN, State.OK, State.IDLE]
    assert scene.events() == ["provider.down", "provider.recovered"]


@pytest.mark.parametrize("recovers", [True, False])
async def test_a_restart_while_it_is_down_changes_nothing(scene: Scene, recovers: bool) -> None:
    await scene.fail(120)
    await scene.restart()
    if recovers:
        await scene.hear()
    else:
        await scene.fail(120)

    assert scene.history() == ([State.OK] if recovers else []) + [State.DOWN, State.IDLE]
    assert scene.events() == ["provider.down"] + ["provider.recovered"] * recovers


async def test_another_process_that_takes_over_ends_it_with_its_first_good_answer(
    scene: Scene,
) -> None:
    other = scene.process()
    await other._write()
    await scene.fail(120)

    scene.watch, first = other, scene.watch
    scene.watch.took_over("minimax")
    await scene.hear()
    scene.watch = first
    scene.watch.took_over("minimax")
    await scene.hear()

    assert scene.history() == [State.OK, State.DOWN, State.IDLE]
    assert scene.events() == ["provider.down", "provider.recovered"]


async def test_answers_as_such_write_nothing(scene: Scene) -> None:
    await scene.hear()
    scene.clock.advance(seconds=SOON_SECONDS)
    await scene.hear()

    with written(scene.store) as statements:
        for _ in range(50):
            await scene.hear()
            await scene.hear(Code.NOT_FOUND, Blame.TASK)
    assert statements == []

    scene.clock.advance(seconds=SOON_SECONDS)
    with written(scene.store) as statements:
        await scene.hear()
    assert [statement[:22] for statement in statements] == ["UPDATE provider_states"]
    assert scene.state().answered_at == scene.clock()


async def test_nothing_heard_is_noted_once_a_minute(scene: Scene) -> None:
    times = []
    for second in range(0, 130, 5):
        with written(scene.store) as statements:
            await scene.watch._write()
        times += [second] if statements else []
        scene.clock.advance(seconds=5)

    assert times == [BEAT_SECONDS, 2 * BEAT_SECONDS]
    assert scene.state().polled_at == scene.clock() - timedelta(seconds=10)


async def test_tasks_that_anyone_may_have_made_up_take_no_provider_down(scene: Scene) -> None:
    await scene.fail(300, version=0)

    assert scene.state().state is State.IDLE


@on_sqlite
async def test_a_key_that_is_taken_away_and_given_back(scene: Scene) -> None:
    await scene.hear()
    await scene.restart(minimax=False)
    without = scene.state()
    await scene.restart()

    assert without.state is State.NO_KEY
    assert scene.history() == [State.IDLE, State.NO_KEY, State.OK, State.IDLE]


@on_sqlite
async def test_what_could_not_be_written_is_written_later(
    database_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(open_database(database_url), clock)
    scene = Scene(store, clock)
    await scene.watch._write()
    whole = store.write

    async def away(*_: object) -> None:
        raise StoreUnavailableError("away")

    monkeypatch.setattr(store, "write", away)
    await scene.fail(70)
    monkeypatch.setattr(store, "write", whole)
    await scene.fail(10)

    assert scene.state().state is State.DOWN
    store.close()


@contextmanager
def written(store: Store) -> Iterator[list[str]]:
    """The statements meanwhile that change something."""
    statements: list[str] = []

    def note(sql: str, _parameters: object) -> None:
        if sql.startswith(("UPDATE", "INSERT", "DELETE")):
            statements.append(sql)

    with watched(store.database.writer, note):
        yield statements


@asynccontextmanager
async def running(watch: ProviderWatch) -> AsyncIterator[None]:
    loop = asyncio.create_task(watch.run())
    try:
        yield
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


@on_sqlite
async def test_the_loop_writes_a_new_state_at_once(scene: Scene) -> None:
    written_once, loop = asyncio.Event(), asyncio.get_running_loop()

    def committed(about: Committed) -> None:
        if any(isinstance(item, Note) and item.to is State.OK for _, item, _ in about.done):
            loop.call_soon_threadsafe(written_once.set)

    scene.store.watch(committed)
    async with running(scene.watch):
        now = scene.clock()
        scene.watch.verdict(Heard(Task("one", "minimax", "1", now, now, now), now))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await written_once.wait()

    assert scene.state().state is State.OK
