"""The poller with a real store, real adapters and a clock that only the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from receiver.asking import HttpAsker
from receiver.budget import Health, RateLimiter
from receiver.poller import NOT_FOUND_TRIES, SHIFT, UNVERIFIED_PER_MINUTE, Line, Poller, pace
from receiver.provider import Provider, providers
from receiver.words import UnknownWords
from store import rounds
from store.clock import ManualClock
from store.database import open_database
from store.eventlog import list_events
from store.events import Failure, Kind, Output, Source, Status, Task
from store.records import HELD_FOR
from store.store import Store
from store.tables import receipts, tasks
from store.tasks import get_task
from tests.clocks import HeldClock
from tests.conftest import START
from tests.databases import on_sqlite
from tests.making import TIMEOUT, push, registered, rows, tell, told
from tests.patience import PATIENCE_SECONDS
from tests.statements import watched

MINIMAX, ATLAS, YUANJING = "minimax", "atlascloud", "opencomputing"
NOW = timedelta(0)
# what each provider calls these
WORDS = {
    MINIMAX: {"processing": "Processing", "succeeded": "Success", "failed": "Fail"},
    ATLAS: {"processing": "processing", "succeeded": "completed", "failed": "failed"},
    YUANJING: {"processing": "RUNNING", "succeeded": "SUCCEEDED", "failed": "FAILED"},
}


class Providers:
    """The three providers' query APIs. words: how tasks stand, by id; others are unknown to them.

    trouble: by provider, what makes an answer instead. silent: tasks whose questions hang.
    free: unset, every answer waits. asked: when a request came, to whom, about what.
    """

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.words: dict[str, str] = {}
        self.trouble: dict[str, Callable[[], httpx.Response]] = {}
        self.silent: set[str] = set()
        self.asked: list[tuple[datetime, str, str]] = []
        self.news = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()

    async def answer(self, name: str, request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        known = query.get("task_id") or query.get("taskid") or query.get("file_id")
        task_id = known or request.url.path.rpartition("/")[2]
        self.asked.append((self._clock(), name, task_id))
        self.news.set()
        if task_id in self.silent:
            await asyncio.Event().wait()
        await self.free.wait()
        if name in self.trouble:
            return self.trouble[name]()
        word = WORDS[name].get(self.words.get(task_id, ""), "")
        if name == MINIMAX:
            return _minimax(request.url.path, task_id, word)
        return _atlas(task_id, word) if name == ATLAS else _yuanjing(task_id, word)

    def times(self, task_id: str) -> list[float]:
        """When a task was asked about, in seconds since the test's start."""
        return [(at - START).total_seconds() for at, _, about in self.asked if about == task_id]


def link(task_id: str) -> str:
    """Where the provider says the result of a task is."""
    return f"https://cdn.example/{task_id}.mp4"


def _minimax(path: str, task_id: str, word: str) -> httpx.Response:
    fine = {"base_resp": {"status_code": 0, "status_msg": "success"}}
    if path == "/v1/files/retrieve":
        made = link(task_id.removeprefix("file-of-"))
        return httpx.Response(200, json={"file": {"download_url": made}, **fine})
    if path.startswith("/v2/"):
        error = {"message": "invalid params, invalid task_id (2013)"}
        return httpx.Response(400, json={"type": "error", "error": error})
    if path != "/v1/query/video_generation" or not word:
        refusal = {"status_code": 2013, "status_msg": "invalid params, invalid task_id"}
        return httpx.Response(200, json={"base_resp": refusal})
    file = {"file_id": f"file-of-{task_id}"} if word == "Success" else {}
    return httpx.Response(200, json={"task_id": task_id, "status": word, **file, **fine})


def _atlas(task_id: str, word: str) -> httpx.Response:
    if not word:
        return httpx.Response(404, json={"code": 404, "msg": "not found", "data": None})
    outputs = [link(task_id)] if word == "completed" else []
    return httpx.Response(
        200, json={"data": {"id": task_id, "status": word, "outputs": outputs, "error": ""}}
    )


def _yuanjing(task_id: str, word: str) -> httpx.Response:
    made = {"video": link(task_id)} if word == "SUCCEEDED" else {}
    return httpx.Response(200, json={"status": word or "UNKNOWN", **made})


class Scene:
    """A poller that looks when told. Whoever waits for the budget moves the clock instead."""

    def __init__(
        self,
        store: Store,
        clock: ManualClock,
        *,
        asked: tuple[str, ...] = (MINIMAX, ATLAS, YUANJING),
        rate: float = 1_000,
        concurrency: int = 100,
        deadline_seconds: float = 20,
        owner: str = "test",
        beside: Scene | None = None,
    ) -> None:
        self.store, self.clock = store, clock
        self.providers: Providers = beside.providers if beside else Providers(clock)
        self.askers = {
            name: HttpAsker(
                providers()[name].base_url,
                "sk-key",
                clock,
                user_agent="test",
                concurrency=concurrency,
                owns=providers()[name].owns,
                transport=httpx.MockTransport(partial(self.providers.answer, name)),
                deadline_seconds=deadline_seconds,
            )
            for name in asked
        }
        self.lines = {
            name: Line(
                providers()[name],
                asker,
                RateLimiter(
                    rate, concurrency, lambda: (clock() - START).total_seconds(), self._sleep
                ),
                Health(jitter=lambda: 0.5),
            )
            for name, asker in self.askers.items()
        }
        self.poller = Poller(
            store,
            self.lines,
            words=UnknownWords(),
            clock=clock,
            owner=owner,
            jitter=lambda: 0.0,
        )

    async def _sleep(self, seconds: float) -> None:
        self.clock.advance(microseconds=math.ceil(seconds * 1e6))
        await asyncio.sleep(0)

    def track(
        self,
        task_id: str,
        provider: str = ATLAS,
        *,
        says: str = "processing",
        kind: Kind = Kind.VIDEO,
        expect_push: bool = False,
        timeout: timedelta = TIMEOUT,
    ) -> Task:
        """Register a task as the API does, that the provider knows."""
        if says:
            self.providers.words[task_id] = says
        return told(
            self.store,
            registered(
                task_id,
                provider=provider,
                kind=kind,
                family="v1" if provider == MINIMAX else None,
                expect_push=expect_push,
                ask_in=timedelta(seconds=60) if expect_push else NOW,
                timeout=timeout,
            ),
        )

    async def look(self) -> None:
        """Claim what is due, and let the questions end."""
        await self.poller.rounds.once()
        await self.poller.rounds.drain(10)

    async def pass_time(self, seconds: float, *, step: float = 1) -> None:
        """Look every `step` seconds, at the end of the time too."""
        until = self.clock() + timedelta(seconds=seconds)
        while self.clock() < until:
            self.clock.advance(seconds=min(step, (until - self.clock()).total_seconds()))
            await self.look()

    def task(self, task: Task) -> Task:
        found = self.store.read_now(get_task, task.id)
        assert found is not None
        return found

    def events(self, task: Task | None = None) -> list[dict[str, Any]]:
        found = self.store.read_now(list_events, limit=10_000, task_id=task.id if task else None)
        return [view.body for view in found]

    def types(self, task: Task) -> list[str]:
        return [body["type"].removeprefix("task.") for body in self.events(task)]


@pytest.fixture
async def scene(store: Store, clock: ManualClock) -> AsyncIterator[Scene]:
    async with opened(Scene(store, clock)) as made:
        yield made


@contextlib.asynccontextmanager
async def opened(scene: Scene) -> AsyncIterator[Scene]:
    yield scene
    for asker in scene.askers.values():
        await asker.close()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The poller's lines so far."""
    caplog.set_level(logging.INFO, "taskbell.poller")
    return lambda: [record.getMessage() for record in caplog.records]


class TestPace:
    @on_sqlite
    @pytest.mark.parametrize(
        ("provider", "kind", "seconds", "times"),
        [
            pytest.param(ATLAS, Kind.VIDEO, 21, [0, 5, 10, 15, 20], id="Atlas video: 5 s"),
            pytest.param(ATLAS, Kind.IMAGE, 7, [0, 2, 4, 6], id="Atlas image: 2 s"),
            pytest.param(MINIMAX, Kind.VIDEO, 16, [0, 5, 10, 15], id="MiniMax without push: 5 s"),
            pytest.param(
                YUANJING, Kind.VIDEO, 22, [0, 5, 11, 17], id="元境: from 5 s, in steps of 1"
            ),
        ],
    )
    async def test_a_task_without_push_is_asked_at_the_providers_pace(
        self, scene: Scene, provider: str, kind: Kind, seconds: float, times: list[float]
    ) -> None:
        scene.track("t1", provider, kind=kind)

        await scene.look()
        await scene.pass_time(seconds)

        assert scene.providers.times("t1") == times

    async def test_元境_slows_down_to_15_s(self, scene: Scene) -> None:
        scene.track("t1", YUANJING)
        scene.clock.advance(minutes=20)

        await scene.look()
        await scene.pass_time(45, step=5)

        times = scene.providers.times("t1")
        assert times == [1200, 1215, 1230, 1245]

    async def test_a_task_that_expects_a_push_is_asked_each_minute_then_every_two(
        self, scene: Scene
    ) -> None:
        scene.track("t1", MINIMAX, expect_push=True)

        await scene.look()
        await scene.pass_time(20 * 60, step=20)

        minutes = [seconds / 60 for seconds in scene.providers.times("t1")]
        assert minutes == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20]

    async def test_a_task_without_push_is_asked_at_once(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rounds, "LOOK_SECONDS", 3600.0)
        running = asyncio.create_task(scene.poller.rounds.run())
        await asyncio.sleep(0.05)  # it has looked, and rests

        scene.track("t1")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await scene.providers.news.wait()
        await _stop(scene.poller, running)

        assert len(scene.providers.times("t1")) == 1

    async def test_jitter_makes_a_wait_up_to_a_tenth_longer(self, scene: Scene) -> None:
        scene.poller._jitter = lambda: 1.0
        task = scene.track("t1")

        await scene.look()

        assert scene.task(task).next_poll_at == START + timedelta(seconds=5.5)

    @given(
        provider=st.sampled_from(list(providers().values())),
        kind=st.sampled_from([None, *Kind]),
        status=st.sampled_from([Status.QUEUED, Status.PROCESSING, Status.TIMED_OUT]),
        expect_push=st.booleans(),
        hinted=st.booleans(),
        timeout=st.timedeltas(timedelta(seconds=1), timedelta(days=365)),
        age=st.timedeltas(timedelta(0), timedelta(days=400)),
    )
    def test_a_pace_keeps_its_limits_and_ends_only_after_the_late_window(
        self,
        provider: Provider,
        kind: Kind | None,
        status: Status,
        expect_push: bool,
        hinted: bool,
        timeout: timedelta,
        age: timedelta,
    ) -> None:
        hint = registered().update if hinted else None
        late = status is Status.TIMED_OUT
        now = START + (timeout + age if late else age)
        task = _task(provider, kind, status, START + timeout, expect_push=expect_push, hint=hint)

        wait = pace(provider, task, now)

        assert (wait is None) == (late and age > timedelta(days=7))
        if late:
            low, high = timedelta(minutes=10), timedelta(hours=1)
        elif expect_push and not hinted:
            low, high = timedelta(seconds=60), timedelta(seconds=120)
        else:
            low, high = timedelta(seconds=2), timedelta(seconds=15)
        assert wait is None or low <= wait <= high


@on_sqlite
class TestLearnedPace:
    async def test_once_a_models_durations_are_known_its_tasks_are_left_alone_until_then(
        self, scene: Scene
    ) -> None:
        await _end_after(scene, [f"t{number}" for number in range(10)], 80)

        [last] = await _end_after(scene, ["last"], 84)

        times = [seconds - _age_zero(last) for seconds in scene.providers.times("last")]
        assert len(times) < 12  # 18 at the fixed pace
        assert max(after - before for before, after in pairwise(times)) > 20
        assert times[-1] - 84 < 3

    async def test_a_fast_models_task_is_not_asked_about_at_once(self, scene: Scene) -> None:
        await _end_after(scene, [f"t{number}" for number in range(10)], 6, kind=Kind.IMAGE)

        [last] = await _end_after(scene, ["last"], 6, kind=Kind.IMAGE)

        first, *_ = scene.providers.times("last")
        assert first - _age_zero(last) >= 3
        assert scene.task(last).polls == len(scene.providers.times("last"))

    async def test_a_task_that_expects_a_push_keeps_its_pace(self, scene: Scene) -> None:
        await _end_after(scene, [f"t{number}" for number in range(10)], 6, kind=Kind.IMAGE)

        scene.track("pushed", expect_push=True, kind=Kind.IMAGE)
        await scene.pass_time(50)

        assert scene.providers.times("pushed") == []


async def _end_after(
    scene: Scene, task_ids: Sequence[str], seconds: float, *, kind: Kind = Kind.VIDEO
) -> list[Task]:
    """Tasks that succeed from that age on, one a second; then comes a new look at what is known."""
    made = [scene.track(task_id, kind=kind) for task_id in task_ids]
    await scene.look()
    await scene.pass_time(seconds)
    for task_id in task_ids:
        scene.providers.words[task_id] = "succeeded"
        await scene.pass_time(1)
    await scene.pass_time(60)
    assert {scene.task(task).status for task in made} == {Status.SUCCEEDED}
    return made


def _age_zero(task: Task) -> float:
    return (task.created_at - START).total_seconds()


class TestAnswers:
    async def test_news_becomes_an_event_from_a_poll(self, scene: Scene) -> None:
        task = scene.track("t1")
        await scene.look()
        scene.providers.words["t1"] = "succeeded"

        await scene.pass_time(5)

        *_, last = scene.events(task)
        assert scene.types(task) == ["queued", "processing", "succeeded"]
        assert (last["data"]["source"], last["data"]["task"]["confirmed"]) == ("poll", True)
        assert last["data"]["task"]["outputs"][0]["url"] == link("t1")
        await scene.pass_time(60, step=5)
        assert len(scene.providers.times("t1")) == 2  # and then nobody asks any more

    async def test_an_unchanged_answer_writes_only_when_to_ask_again(self, scene: Scene) -> None:
        task = scene.track("t1")
        await scene.look()
        before = scene.task(task)
        scene.clock.advance(seconds=5)

        with written(scene.store) as statements:
            await scene.look()

        after = scene.task(task)
        about_tasks = [statement for statement in statements if "UPDATE shifts" not in statement]
        assert [s[:12] for s in about_tasks] == 2 * ["UPDATE tasks"]
        assert all("next_poll_at" in statement for statement in about_tasks)
        assert "updated_at" not in "".join(
            statement.partition("WHERE")[0] for statement in about_tasks
        )
        assert (after.updated_at, after.version) == (before.updated_at, before.version)
        assert after.polls == before.polls + 1
        assert after.next_poll_at == scene.clock() + timedelta(seconds=5)

    async def test_a_lost_push_is_rescued(self, scene: Scene) -> None:
        task = scene.track("t1", expect_push=True, says="succeeded")

        await scene.pass_time(60, step=10)

        assert scene.types(task) == ["queued", "succeeded"]
        assert scene.task(task).rescued_by_poll


def down(status: int, **headers: str) -> Callable[[], httpx.Response]:
    return lambda: httpx.Response(status, headers=headers, json={"error": "trouble"})


def own_error(provider: str, status: int) -> Callable[[], httpx.Response]:
    """What the provider itself says, in the shape of its pages."""
    bodies: dict[str, Any] = {
        MINIMAX: {"type": "error", "error": {"type": "bad_request_error", "message": "trouble"}},
        ATLAS: {"code": status, "msg": "trouble", "request_id": "r1", "data": None},
        YUANJING: {"error": "trouble"},
    }
    return lambda: httpx.Response(status, json=bodies[provider])


def unreachable() -> httpx.Response:
    raise httpx.ConnectError("connection refused")


def html() -> httpx.Response:
    return httpx.Response(200, html="<p>Back soon")


TROUBLES = [
    pytest.param(down(429, **{"retry-after": "20"}), 20, id="429 with Retry-After"),
    pytest.param(down(429), 1, id="429"),
    pytest.param(down(500), 1, id="500"),
    pytest.param(html, 1, id="HTML"),
    pytest.param(unreachable, 1, id="nothing"),
    pytest.param(own_error(ATLAS, 401), 1, id="key refused"),
    pytest.param(down(404), 1, id="404 of a gateway"),
]


@on_sqlite
class TestTrouble:
    @pytest.mark.parametrize(("trouble", "seconds"), TROUBLES)
    async def test_it_slows_the_provider_down_and_not_the_task_or_others(
        self,
        scene: Scene,
        log: Callable[[], list[str]],
        trouble: Callable[[], httpx.Response],
        seconds: float,
    ) -> None:
        first, other = scene.track("t1", kind=Kind.IMAGE), scene.track("other", YUANJING)
        beside = scene.track("t0", kind=Kind.IMAGE)
        scene.providers.trouble[ATLAS] = trouble

        await scene.look()
        quiet = scene.lines[ATLAS].limiter.delay_left()
        await scene.pass_time(60)
        asked = Counter(about for _, _, about in scene.providers.asked)
        del scene.providers.trouble[ATLAS]
        second = scene.track("t2")
        await scene.pass_time(60)

        assert seconds * 0.8 <= quiet <= seconds * 1.2
        assert asked["t1"] + asked["t0"] <= 9  # 1, 2, 4, 8, 16 … s apart, and two at first
        assert asked["other"] >= 8  # as ever
        for task in (first, beside, second, other):
            assert scene.types(task) == ["queued", "processing"]
        told = [
            line for line in log() if not line.startswith("no news of a task, twice in a row: ")
        ]
        assert len(told) == 2
        assert "provider trouble: GET api.atlascloud.ai: " in told[0]
        assert told[1] == "provider answers again"
        assert scene.task(first).next_poll_at is not None
        assert scene.lines[ATLAS].limiter.delay_left() == 0

    async def test_a_failure_now_and_then_is_not_logged(
        self, scene: Scene, log: Callable[[], list[str]]
    ) -> None:
        task = scene.track("t1")

        for _ in range(5):
            scene.providers.trouble[ATLAS] = down(429)
            await scene.pass_time(5)
            del scene.providers.trouble[ATLAS]
            await scene.pass_time(10)

        assert log() == []
        assert scene.types(task) == ["queued", "processing"]

    async def test_a_very_long_retry_after_keeps_no_task_beyond_ten_minutes(
        self, scene: Scene
    ) -> None:
        task = scene.track("t1")
        scene.providers.trouble[ATLAS] = down(429, **{"retry-after": "86400"})

        await scene.look()

        due = scene.task(task).next_poll_at
        assert due is not None
        assert due <= scene.clock() + timedelta(minutes=11)

    async def test_a_question_that_hangs_delays_nobody(
        self, store: Store, clock: ManualClock
    ) -> None:
        async with opened(Scene(store, clock, deadline_seconds=60)) as scene:
            hanging = scene.track("hanging")
            others = [scene.track("t1"), scene.track("t2", YUANJING)]
            scene.providers.silent.add("hanging")

            for _ in range(6):
                await scene.poller.rounds.once()
                await _settled(scene, but=1)
                clock.advance(seconds=5)
            await scene.poller.rounds.drain(0)  # cuts it off

            assert [int(at) for at in scene.providers.times("t1")] == [0, 5, 10, 15, 20, 25]
            assert scene.providers.times("t2") == [0, 5, 15, 25]  # 5 s, then each 5.1 s
            assert len(scene.providers.times("hanging")) == 1
            assert [scene.types(task)[-1] for task in others] == ["processing"] * 2
            assert scene.types(hanging) == ["queued"]

    async def test_a_question_without_an_answer_in_time_is_asked_again(
        self, store: Store, clock: ManualClock
    ) -> None:
        async with opened(Scene(store, clock, deadline_seconds=0.02)) as scene:
            task = scene.track("t1")
            scene.providers.silent.add("t1")
            await scene.look()
            scene.providers.silent.clear()
            for asker in scene.askers.values():
                asker._deadline_seconds = PATIENCE_SECONDS

            await scene.pass_time(5)

            assert scene.types(task) == ["queued", "processing"]

    async def test_a_refused_key_fails_no_task(
        self, scene: Scene, log: Callable[[], list[str]]
    ) -> None:
        tasks = [scene.track("t1"), scene.track("t2")]
        scene.providers.trouble[ATLAS] = own_error(ATLAS, 403)

        await scene.pass_time(10 * 60, step=10)

        assert [scene.types(task) for task in tasks] == [["queued"]] * 2
        said = "GET api.atlascloud.ai: 403, the API key was refused"
        assert f"provider trouble: {said}; asking again in 2 s" in log()

    async def test_while_a_provider_is_left_alone_the_store_is_too(self, scene: Scene) -> None:
        scene.track("t1")
        scene.track("t0")
        scene.providers.trouble[ATLAS] = down(429, **{"retry-after": "600"})
        await scene.look()
        scene.track("t2")  # due now, and not to be asked for ten minutes
        assert scene.lines[ATLAS].limiter.delay_left() == 600

        running = asyncio.create_task(scene.poller.rounds.run())
        with written(scene.store, verb="SELECT") as statements:
            await asyncio.sleep(0.3)
        await _stop(scene.poller, running)

        assert len(statements) < 10
        assert scene.providers.times("t2") == []

    async def test_questions_that_fail_together_count_as_one_failure(self, scene: Scene) -> None:
        for number in range(5):
            scene.track(f"t{number}")
        scene.providers.trouble[ATLAS] = down(500)
        scene.providers.free.clear()
        await scene.poller.rounds.once()
        await _settled(scene, but=5)

        scene.providers.free.set()
        await scene.poller.rounds.drain(10)

        assert len(scene.providers.asked) == 5
        assert 0 < scene.lines[ATLAS].limiter.delay_left() <= 1

    async def test_a_wait_asked_for_one_task_slows_nobody_else(self, scene: Scene) -> None:
        task = scene.track("t1")
        said = {"code": 425, "msg": "too early", "data": None}
        scene.providers.trouble[ATLAS] = lambda: httpx.Response(
            425, headers={"retry-after": "30"}, json=said
        )

        await scene.look()

        assert scene.task(task).next_poll_at == START + timedelta(seconds=30)
        assert scene.lines[ATLAS].limiter.delay_left() == 0

    async def test_a_store_that_is_away_is_logged_once(
        self, scene: Scene, log: Callable[[], list[str]]
    ) -> None:
        scene.store.close()

        for _ in range(3):
            await scene.look()

        assert log() == ["the store is away: the store is closed"]


@on_sqlite
class TestUnknownTasks:
    async def test_a_registered_task_that_stays_unknown_fails(self, scene: Scene) -> None:
        task = scene.track("t1", says="")

        await scene.look()
        asked = []
        for _ in range(20):
            asked.append((len(scene.providers.times("t1")), scene.task(task).status))
            await scene.pass_time(10)

        assert asked[-1] == (NOT_FOUND_TRIES, Status.FAILED)
        assert all(status is Status.QUEUED for times, status in asked if times < NOT_FOUND_TRIES)
        error = scene.task(task).error
        assert error == Failure(
            "not_found",
            "Atlas Cloud does not know this task id: is it complete, and of the account whose key"
            " Taskbell has? (GET api.atlascloud.ai: 404 (not found))",
        )
        assert scene.types(task) == ["queued", "failed"]

    async def test_a_task_that_shows_up_after_a_moment_is_followed(self, scene: Scene) -> None:
        task = scene.track("t1", says="")
        await scene.pass_time(16)
        assert len(scene.providers.times("t1")) > 1

        scene.providers.words["t1"] = "processing"
        await scene.pass_time(30)

        assert scene.types(task) == ["queued", "processing"]

    async def test_a_task_that_is_unknown_once_after_an_outage_has_not_failed(
        self, scene: Scene
    ) -> None:
        task = scene.track("t1", says="")
        scene.providers.trouble[ATLAS] = down(503)
        await scene.pass_time(10 * 60, step=10)
        assert len(scene.providers.times("t1")) > NOT_FOUND_TRIES

        del scene.providers.trouble[ATLAS]
        asked = len(scene.providers.times("t1"))
        while len(scene.providers.times("t1")) == asked:
            await scene.pass_time(1)
        scene.providers.words["t1"] = "processing"
        await scene.pass_time(60, step=5)

        assert scene.types(task) == ["queued", "processing"]

    async def test_what_only_a_forged_push_named_is_refuted(self, scene: Scene) -> None:
        tell(scene.store, push("forged", hold=True))

        await scene.pass_time(3 * 60, step=5)

        assert rows(scene.store, tasks) == []
        assert scene.events() == []
        (receipt,) = rows(scene.store, receipts)
        assert (receipt["verdict"], receipt["task_id"]) == ("refuted", None)
        assert len(scene.providers.times("forged")) == 4 * NOT_FOUND_TRIES  # in four families

    async def test_a_thousand_forged_pushes_do_not_use_up_the_budget(
        self, store: Store, clock: ManualClock
    ) -> None:
        async with opened(Scene(store, clock, rate=10, concurrency=8)) as scene:
            real = [scene.track(f"real{n}", MINIMAX, expect_push=True) for n in range(50)]
            for number in range(1_000):
                tell(store, push(f"forged{number}", hold=True, **_made("forged")))
            for task in real:
                scene.providers.words[task.provider_task_id] = "succeeded"
                tell(store, push(task.provider_task_id, hold=True, **_made("forged")))

            await scene.pass_time(2 * 60, step=0.25)

            ended = [body for body in scene.events() if body["type"] == "task.succeeded"]
            urls = {body["data"]["task"]["outputs"][0]["url"] for body in ended}
            assert urls == {link(task.provider_task_id) for task in real}
            assert len(ended) == 50
            assert {body["data"]["task"]["provider_task_id"] for body in scene.events()} == {
                task.provider_task_id for task in real
            }
            about_forged = Counter(
                int((at - START).total_seconds() // 60)
                for at, _, about in scene.providers.asked
                if about.startswith("forged")
            )
            # a question looks in four families
            assert max(about_forged.values()) <= 4 * UNVERIFIED_PER_MINUTE
            assert busiest_second(scene.providers) <= 10
            took = max(scene.task(task).updated_at for task in real) - START
            assert took < timedelta(seconds=60)


def _made(what: str) -> dict[str, Any]:
    return {"outputs": (Output(url=f"https://{what}.example/x.mp4", file_id=what),)}


class TestHints:
    """Unsigned endings, which the provider has to confirm."""

    async def test_the_provider_is_asked_at_once_and_its_word_is_recorded(
        self, scene: Scene
    ) -> None:
        task = scene.track("t1", MINIMAX, expect_push=True)
        scene.providers.words["t1"] = "succeeded"
        tell(scene.store, push("t1", hold=True, **_made("pushed")))

        await scene.look()

        *_, last = scene.events(task)
        assert scene.types(task) == ["queued", "succeeded"]
        assert last["data"]["source"] == "push"
        shown = last["data"]["task"]
        assert (shown["confirmed"], shown["rescued_by_poll"]) == (True, False)
        assert shown["outputs"][0]["file_id"] == "file-of-t1"
        assert shown["outputs"][0]["url"] == link("t1")

    async def test_the_providers_word_counts_when_it_says_the_contrary(self, scene: Scene) -> None:
        task = scene.track("t1", MINIMAX, expect_push=True, says="failed")
        tell(scene.store, push("t1", hold=True, **_made("pushed")))

        await scene.look()

        assert scene.types(task) == ["queued", "failed"]
        assert scene.task(task).outputs == ()

    @on_sqlite
    async def test_while_the_provider_says_processing_it_waits(self, scene: Scene) -> None:
        task = scene.track("t1", MINIMAX, expect_push=True)
        tell(scene.store, push("t1", hold=True, **_made("pushed")))

        await scene.look()
        await scene.pass_time(5 * 60, step=5)

        assert scene.types(task) == ["queued", "processing"]
        assert scene.providers.times("t1")[:4] == [0, 5, 10, 15]  # the pace of one without push
        scene.providers.words["t1"] = "succeeded"
        await scene.pass_time(5)
        assert scene.types(task) == ["queued", "processing", "succeeded"]
        assert scene.task(task).confirmed

    @on_sqlite
    @pytest.mark.parametrize(
        "trouble", [unreachable, down(500), html], ids=["nothing", "500", "HTML"]
    )
    async def test_after_two_minutes_out_of_reach_it_is_recorded_as_it_came(
        self, scene: Scene, trouble: Callable[[], httpx.Response]
    ) -> None:
        task = scene.track("t1", MINIMAX, expect_push=True)
        scene.providers.trouble[MINIMAX] = trouble
        tell(scene.store, push("t1", hold=True, **_made("pushed")))

        await scene.look()
        await scene.pass_time(HELD_FOR.total_seconds() - 1)
        early = scene.types(task)
        await scene.pass_time(80)

        assert early == ["queued"]
        assert scene.types(task) == ["queued", "succeeded"]
        *_, last = scene.events(task)
        assert last["data"]["source"] == "push"
        assert last["data"]["task"]["confirmed"] is False
        assert last["data"]["task"]["outputs"][0]["url"] == "https://pushed.example/x.mp4"

    async def test_all_that_waited_out_of_reach_for_two_minutes_is_recorded_together(
        self, store: Store, clock: ManualClock
    ) -> None:
        async with opened(Scene(store, clock, concurrency=2)) as scene:
            held = [scene.track(f"t{n}", MINIMAX, expect_push=True) for n in range(40)]
            scene.providers.trouble[MINIMAX] = unreachable
            for task in held:
                tell(store, push(task.provider_task_id, hold=True, **_made("pushed")))

            await scene.pass_time(HELD_FOR.total_seconds() + 10)
            await scene.look()

            assert clock() - START < timedelta(minutes=5)
            assert [scene.types(task) for task in held] == [["queued", "succeeded"]] * 40

    @on_sqlite
    async def test_a_provider_that_answered_a_moment_ago_is_not_out_of_reach(
        self, scene: Scene
    ) -> None:
        task = scene.track("t1", MINIMAX, expect_push=True)
        tell(scene.store, push("t1", hold=True, **_made("forged")))
        await scene.pass_time(5 * 60, step=5)  # it says: processing

        scene.providers.trouble[MINIMAX] = down(500)
        await scene.pass_time(60)
        del scene.providers.trouble[MINIMAX]
        await scene.pass_time(60)

        assert scene.types(task) == ["queued", "processing"]

    @on_sqlite
    async def test_two_minutes_out_of_reach_begin_anew_with_each_answer(self, scene: Scene) -> None:
        task = scene.track("t1", MINIMAX, expect_push=True)
        scene.providers.trouble[MINIMAX] = down(500)
        tell(scene.store, push("t1", hold=True, **_made("forged")))
        await scene.pass_time(60)
        del scene.providers.trouble[MINIMAX]
        while scene.types(task) == ["queued"]:
            await scene.pass_time(1)

        scene.providers.trouble[MINIMAX] = down(500)
        answered = scene.clock()
        await scene.pass_time(HELD_FOR.total_seconds() - 1)
        early = scene.types(task)
        await scene.pass_time(80)

        assert answered - START > timedelta(seconds=60)
        assert early == ["queued", "processing"]
        assert scene.types(task) == ["queued", "processing", "succeeded"]

    @on_sqlite
    async def test_a_provider_silent_about_this_task_alone_gets_a_quarter_of_an_hour(
        self, scene: Scene
    ) -> None:
        task = scene.track("t1", MINIMAX, expect_push=True)
        scene.track("t2", MINIMAX)

        def trouble() -> httpx.Response:
            about = scene.providers.asked[-1][2]
            answered = _minimax("/v1/query/video_generation", about, "Processing")
            return down(500)() if about == "t1" else answered

        scene.providers.trouble[MINIMAX] = trouble
        tell(scene.store, push("t1", hold=True, **_made("pushed")))

        await scene.pass_time(14 * 60, step=4)
        early = scene.types(task)
        await scene.pass_time(3 * 60, step=4)

        assert early == ["queued"]
        assert scene.types(task) == ["queued", "succeeded"]

    @on_sqlite
    @pytest.mark.parametrize("status", [401, 402, 403])
    async def test_a_refused_key_confirms_nothing(self, scene: Scene, status: int) -> None:
        task = scene.track("t1", MINIMAX, expect_push=True)
        scene.providers.trouble[MINIMAX] = own_error(MINIMAX, status)
        tell(scene.store, push("t1", hold=True, **_made("pushed")))

        await scene.pass_time(20 * 60, step=20)

        assert scene.types(task) == ["queued"]

    @on_sqlite
    async def test_nothing_unregistered_is_recorded_as_it_came(self, scene: Scene) -> None:
        scene.providers.trouble[MINIMAX] = unreachable
        tell(scene.store, push("forged", hold=True, **_made("forged")))

        await scene.pass_time(20 * 60, step=20)

        assert scene.events() == []

    async def test_a_real_task_nobody_registered_is_confirmed(self, scene: Scene) -> None:
        scene.providers.words["t1"] = "succeeded"
        tell(scene.store, push("t1", hold=True, **_made("pushed")))

        await scene.look()

        (only,) = scene.events()
        assert only["type"] == "task.succeeded"
        assert only["data"]["task"]["outputs"][0]["url"] == link("t1")


@on_sqlite
class TestDeadline:
    async def test_one_last_question_then_timed_out_then_slow_ones_then_a_late_ending(
        self, scene: Scene
    ) -> None:
        task = scene.track("t1", timeout=timedelta(seconds=12))
        await scene.look()
        await scene.pass_time(13)
        assert scene.providers.times("t1") == [0, 5, 10, 12]
        assert scene.types(task) == ["queued", "processing", "timed_out"]

        await scene.pass_time(60 * 60, step=60)
        later = scene.providers.times("t1")[4:]
        scene.providers.words["t1"] = "succeeded"
        await scene.pass_time(60 * 60, step=60)

        gaps = [b - a for a, b in zip([12.0, *later], later, strict=False)]
        assert all(600 <= gap <= 3600 + 60 for gap in gaps)
        assert len(later) >= 3
        assert scene.types(task)[-2:] == ["timed_out", "succeeded"]
        *_, last = scene.events(task)
        assert last["data"]["late"] is True
        assert last["data"]["source"] == "poll"

    async def test_an_ending_found_right_at_the_deadline_is_in_time(self, scene: Scene) -> None:
        task = scene.track("t1", timeout=timedelta(seconds=100), expect_push=True)
        await scene.pass_time(95, step=5)
        scene.providers.words["t1"] = "succeeded"

        await scene.pass_time(60, step=5)

        assert scene.types(task) == ["queued", "processing", "succeeded"]
        assert scene.events(task)[-1]["data"]["late"] is False

    async def test_a_provider_in_trouble_times_out_after_the_grace(self, scene: Scene) -> None:
        task = scene.track("t1", timeout=timedelta(seconds=100))
        scene.providers.trouble[ATLAS] = down(500)

        await scene.pass_time(129)
        before = scene.types(task)
        await scene.pass_time(2)

        assert before == ["queued"]
        assert scene.types(task) == ["queued", "timed_out"]

    async def test_without_a_key_the_deadline_alone_counts(
        self, store: Store, clock: ManualClock
    ) -> None:
        async with opened(Scene(store, clock, asked=(YUANJING,))) as scene:
            task = scene.track("t1", ATLAS, timeout=timedelta(seconds=100))

            await scene.pass_time(99, step=9)
            before = scene.types(task)
            await scene.pass_time(1)

            assert before == ["queued"]
            assert scene.types(task) == ["queued", "timed_out"]
            assert scene.providers.asked == []

    async def test_after_a_week_nobody_asks_any_more(self, scene: Scene) -> None:
        task = scene.track("t1", timeout=timedelta(seconds=1))
        await scene.pass_time(2)
        scene.clock.advance(days=7, seconds=1)

        await scene.look()

        assert scene.task(task).next_poll_at is None
        assert scene.task(task).status is Status.TIMED_OUT


class TestRate:
    @pytest.mark.parametrize("provider", [MINIMAX, ATLAS, YUANJING])
    async def test_no_second_sees_more_requests_than_the_rate(
        self, store: Store, clock: ManualClock, provider: str
    ) -> None:
        async with opened(Scene(store, clock, rate=5, concurrency=8)) as scene:
            # a success at MiniMax takes a second request, for the file
            made = [scene.track(f"t{n}", provider, says="succeeded") for n in range(25)]

            await scene.pass_time(20, step=0.25)

            assert {scene.task(task).status for task in made} == {Status.SUCCEEDED}
            assert busiest_second(scene.providers) <= 5

    async def test_no_more_questions_run_at_once_than_there_are_places(
        self, store: Store, clock: ManualClock
    ) -> None:
        async with opened(Scene(store, clock, concurrency=3, deadline_seconds=60)) as scene:
            for number in range(10):
                scene.track(f"t{number}")
                scene.providers.silent.add(f"t{number}")

            for _ in range(5):
                await scene.poller.rounds.once()
                await _settled(scene, but=3)
                clock.advance(seconds=1)
            await scene.poller.rounds.drain(0)

            assert len(scene.providers.asked) == 3


class TestShifts:
    """Two processes, of which one at a time asks a provider."""

    @pytest.fixture
    async def pair(self, store: Store, clock: ManualClock) -> AsyncIterator[tuple[Scene, Scene]]:
        one = Scene(store, clock, rate=5, concurrency=8, owner="one")
        other = Scene(store, clock, rate=5, concurrency=8, owner="other", beside=one)
        async with opened(one), opened(other):
            yield one, other

    async def test_while_one_asks_the_other_does_not(self, pair: tuple[Scene, Scene]) -> None:
        one, other = pair
        task = one.track("t1", kind=Kind.IMAGE)  # each 2 s

        await one.look()
        for _ in range(80):
            one.clock.advance(seconds=0.25)
            await other.look()
            await one.look()

        assert one.task(task).polls > 5
        assert (one.lines[ATLAS].term, other.lines[ATLAS].term) == (1, 0)

    async def test_when_one_dies_the_other_takes_over_within_the_shift(
        self, pair: tuple[Scene, Scene]
    ) -> None:
        one, other = pair
        for number in range(10):
            one.track(f"t{number}")
        await one.look()
        died, asked = one.clock(), len(one.providers.asked)

        while len(one.providers.asked) == asked:
            other.clock.advance(seconds=0.25)
            await other.look()

        assert SHIFT - timedelta(seconds=2) < one.clock() - died < SHIFT + timedelta(seconds=2)

    async def test_who_stops_leaves_its_shifts_to_the_other(
        self, pair: tuple[Scene, Scene]
    ) -> None:
        one, other = pair
        one.track("t1")
        await one.look()
        one.track("t2")

        await one.poller.drain(1)
        await other.look()

        assert len(one.providers.times("t2")) == 1
        assert one.clock() - START < timedelta(seconds=2)

    @pytest.mark.parametrize("seed", range(3))
    async def test_no_second_sees_more_requests_than_the_rate_whoever_asks(
        self, pair: tuple[Scene, Scene], seed: int
    ) -> None:
        dice, (one, _) = random.Random(seed), pair
        # a success at MiniMax takes a second request; a wait may outlast the shift
        tasks = [one.track(f"t{n}", MINIMAX, says="succeeded") for n in range(60)]

        for _ in range(120):
            one.clock.advance(seconds=dice.choice((0.01, 0.1, 0.3, 1, 3, 6)))
            looking = dice.choice((pair[:1], pair[1:], pair))
            if dice.random() < 0.1:
                pair[dice.randrange(2)].lines[MINIMAX].limiter.slow_down(timedelta(seconds=4))
            await asyncio.gather(*(scene.look() for scene in looking))

        assert busiest_second(one.providers) <= 5
        assert max(scene.lines[MINIMAX].term for scene in pair) > 1  # it changed hands
        assert {one.task(task).status for task in tasks} == {Status.SUCCEEDED}

    async def test_a_question_that_comes_too_late_for_the_shift_is_due_at_once(
        self, scene: Scene
    ) -> None:
        task = scene.track("t1")
        scene.lines[ATLAS].limiter.slow_down(timedelta(milliseconds=200))
        await scene.poller.rounds.once()  # claimed; waits to start
        scene.clock.advance(seconds=SHIFT.total_seconds())

        await scene.poller.rounds.drain(10)
        after = scene.task(task)
        await scene.look()

        assert (after.next_poll_at, after.poll_failures) == (scene.clock(), 0)
        assert len(scene.providers.times("t1")) == 1


class TestIdle:
    async def test_a_look_at_nothing_due_is_one_question_and_no_write(self, scene: Scene) -> None:
        scene.track("t1", expect_push=True)
        await scene.look()
        asked: list[str] = []
        engines = (scene.store.database.reader, scene.store.database.writer)
        with contextlib.ExitStack() as stack:
            for engine in engines:
                asked = stack.enter_context(executed(engine, asked))

            await scene.look()

        assert [statement.split()[0] for statement in asked] == ["SELECT"]

    async def test_it_rests_until_something_is_due(self, scene: Scene) -> None:
        nothing = await scene.poller.rounds.once()
        scene.track("t1", expect_push=True)
        scene.clock.advance(seconds=59.7)
        question = await scene.poller.rounds.once()
        scene.track("t2", timeout=timedelta(seconds=0.1), expect_push=True)
        deadline = await scene.poller.rounds.once()

        assert [nothing, question, deadline] == pytest.approx([1, 0.3, 0.1])


class TestStopping:
    async def test_what_was_just_claimed_is_still_asked(
        self, sqlite_url: str, clock: ManualClock
    ) -> None:
        held = HeldClock(START)
        store = Store(open_database(sqlite_url), held)
        async with opened(Scene(store, clock)) as scene:
            task = scene.track("t1", says="succeeded")
            held.hold()
            run = asyncio.create_task(scene.poller.rounds.run())
            await asyncio.to_thread(held.reached.wait, PATIENCE_SECONDS)  # a look has begun

            run.cancel()
            await asyncio.wait([run])
            held.go_on.set()
            await scene.poller.rounds.drain(10)

            assert scene.types(task) == ["queued", "succeeded"]
        store.close()


def busiest_second(asked: Providers) -> int:
    starts = [at for at, _, _ in asked.asked]
    second = timedelta(seconds=1)
    return max(sum(start <= other < start + second for other in starts) for start in starts)


async def _settled(scene: Scene, *, but: int) -> None:
    """Wait for the questions under way, but for so many that hang."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(scene.poller.rounds.under_way) > but:
            await asyncio.wait(scene.poller.rounds.under_way, return_when=asyncio.FIRST_COMPLETED)
        for _ in range(50):  # whoever may start has started
            await asyncio.sleep(0)


async def _stop(poller: Poller, running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.wait([running])
    await poller.rounds.drain(5)


@contextlib.contextmanager
def written(store: Store, verb: str = "UPDATE|INSERT|DELETE") -> Iterator[list[str]]:
    """The statements that begin with one of these verbs, as they are run."""
    with executed(store.database.writer, verb=verb) as statements:
        yield statements


@contextlib.contextmanager
def executed(
    engine: Engine, statements: list[str] | None = None, *, verb: str = "SELECT|UPDATE|INSERT"
) -> Iterator[list[str]]:
    """The same for either engine; added to what was given."""
    found: list[str] = [] if statements is None else statements

    def note(statement: str, _parameters: Any) -> None:
        if statement.split(maxsplit=1)[0] in verb.split("|"):
            found.append(statement)

    with watched(engine, note):
        yield found


def _task(
    provider: Provider,
    kind: Kind | None,
    status: Status,
    deadline: datetime,
    **more: Any,
) -> Task:
    return Task(
        id="task_1",
        provider=provider.name,
        provider_task_id="t1",
        created_at=START,
        updated_at=START,
        deadline_at=deadline,
        kind=kind,
        status=status,
        version=1,
        source=Source.API,
        **more,
    )
