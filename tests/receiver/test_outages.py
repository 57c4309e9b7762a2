"""Outages from end to end: what a provider answers, the state it is in, what its tasks say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from receiver.provider import providers
from receiver.provider_watch import ProviderWatch
from receiver.watch import Watch
from store.clock import ManualClock
from store.events import Status, Task
from store.provider_states import ProviderState, State, read_states
from store.store import Store
from tests.databases import on_sqlite
from tests.receiver.test_poller import ATLAS, MINIMAX, YUANJING, Scene, opened


class Outage(Scene):
    """A poller whose answers lead to states."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        super().__init__(store, clock)
        self.watch = ProviderWatch(
            store,
            providers(),
            dict.fromkeys(providers(), True),
            clock=clock,
            monotonic=lambda: clock().timestamp(),
            other=Watch(),
        )
        self.poller._watch = self.watch

    async def look(self) -> None:
        await super().look()
        await self.watch._write()

    def state(self, name: str) -> ProviderState:
        return self.store.read_now(read_states)[name].at(self.clock())

    def trouble(self, task: Task) -> str | None:
        found = self.task(task).trouble
        return found.code if found else None


@pytest.fixture
async def scene(store: Store, clock: ManualClock) -> AsyncIterator[Outage]:
    made = Outage(store, clock)
    async with opened(made):
        yield made


def base_resp(code: int, words: str) -> httpx.Response:
    return httpx.Response(200, json={"base_resp": {"status_code": code, "status_msg": words}})


def refuses() -> httpx.Response:
    raise httpx.ConnectError("All connection attempts failed")


LOGIN_PAGE = httpx.Response(200, html="<html><title>Sign in</title></html>")


async def test_a_provider_that_fails_goes_down_and_its_first_good_answer_ends_it(
    scene: Outage,
) -> None:
    one, other = scene.track("t1", MINIMAX), scene.track("t2", MINIMAX)
    await scene.look()
    well = scene.state(MINIMAX).state
    scene.providers.trouble[MINIMAX] = lambda: httpx.Response(503)
    await scene.pass_time(50)
    young = scene.state(MINIMAX).state
    await scene.pass_time(200, step=5)
    down, troubles = scene.state(MINIMAX), [scene.trouble(one), scene.trouble(other)]
    del scene.providers.trouble[MINIMAX]
    await scene.pass_time(70)

    assert (well, young, down.state) == (State.OK, State.OK, State.DOWN)
    assert down.reason
    assert all(troubles)
    assert scene.state(MINIMAX).state is State.OK
    assert [scene.trouble(one), scene.trouble(other)] == [None, None]
    own = [event["type"] for event in scene.events() if event["type"].startswith("provider.")]
    assert own == ["provider.down", "provider.recovered"]


@on_sqlite
@pytest.mark.parametrize(
    ("name", "answer", "code"),
    [
        pytest.param(MINIMAX, lambda: base_resp(1004, "login fail"), "key_refused", id="1004"),
        pytest.param(MINIMAX, lambda: base_resp(2049, "invalid api key"), "key_refused", id="2049"),
        pytest.param(MINIMAX, lambda: base_resp(1008, "insufficient"), "balance", id="1008"),
        pytest.param(
            YUANJING,
            lambda: httpx.Response(429, json={"error": "余额不足"}),
            "balance",
            id="元境 wants money",
        ),
        pytest.param(MINIMAX, refuses, "unreachable", id="no connection to MiniMax"),
        pytest.param(ATLAS, refuses, "unreachable", id="no connection to Atlas Cloud"),
        pytest.param(
            ATLAS,
            lambda: httpx.Response(401, json={"code": 401, "msg": "unauthorized", "data": None}),
            "key_refused",
            id="Atlas Cloud refuses the key",
        ),
        pytest.param(
            YUANJING,
            lambda: httpx.Response(401, json={"error": "unauthorized"}),
            "key_refused",
            id="元境 refuses the key",
        ),
    ],
)
async def test_one_task_is_enough_for_what_concerns_all(
    scene: Outage, name: str, answer: Callable[[], httpx.Response], code: str
) -> None:
    task = scene.track("t1", name)
    scene.track("expected", name, expect_push=True)  # another open one that nobody asks about yet
    scene.providers.trouble[name] = answer
    await scene.pass_time(5)
    at_once = scene.trouble(task)
    await scene.pass_time(130, step=5)

    down = scene.state(name)

    assert at_once == code
    assert (down.state, down.reason and down.reason.code) == (State.DOWN, code)
    assert scene.task(task).status is Status.QUEUED


@on_sqlite
async def test_an_empty_balance_is_told_on_the_task_at_once(scene: Outage) -> None:
    task = scene.track("t1", MINIMAX)
    scene.providers.trouble[MINIMAX] = lambda: base_resp(1008, "insufficient balance")
    await scene.look()

    trouble = scene.task(task).trouble

    assert trouble
    assert trouble.code == "balance"
    assert trouble.message.startswith("the account at MiniMax has no balance left")


@on_sqlite
@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (lambda: httpx.Response(502, html="<h1>Bad Gateway</h1>"), ATLAS),
        (lambda: LOGIN_PAGE, ATLAS),
    ],
    ids=["a gateway's error", "a login page"],
)
async def test_answers_of_something_else_take_it_down_when_all_tasks_get_them(
    scene: Outage, answer: Callable[[], httpx.Response], name: str
) -> None:
    tasks = [scene.track(f"t{number}", name) for number in range(3)]
    scene.providers.trouble[name] = answer

    await scene.pass_time(300, step=5)

    assert scene.state(name).state is State.DOWN
    assert [scene.task(task).status for task in tasks] == [Status.QUEUED] * 3


@on_sqlite
async def test_a_wrong_id_is_the_tasks_own_trouble(scene: Outage) -> None:
    wrong = scene.track("wrong", MINIMAX, says="")
    good = scene.track("good", MINIMAX)
    await scene.pass_time(8)

    trouble = scene.task(wrong).trouble

    assert trouble
    assert trouble.code == "not_found"
    assert trouble.message.startswith("MiniMax does not know this task id")
    assert scene.trouble(good) is None
    assert scene.state(MINIMAX).state is State.OK


@on_sqlite
async def test_a_status_that_nobody_knows_is_told_while_it_lasts(scene: Outage) -> None:
    task = scene.track("t1", ATLAS)
    unknown = {"data": {"id": "t1", "status": "meditating", "outputs": []}}
    scene.providers.trouble[ATLAS] = lambda: httpx.Response(200, json=unknown)
    await scene.pass_time(6)
    during = scene.trouble(task)
    del scene.providers.trouble[ATLAS]
    await scene.pass_time(10)

    assert (during, scene.trouble(task)) == ("unknown_word", None)


@on_sqlite
async def test_an_ended_task_has_no_trouble_and_a_timed_out_one_keeps_it(scene: Outage) -> None:
    ends, late = scene.track("ends", ATLAS), scene.track("late", MINIMAX)
    for name in (ATLAS, MINIMAX):
        scene.providers.trouble[name] = refuses
    await scene.pass_time(10)
    before = scene.trouble(ends)
    del scene.providers.trouble[ATLAS]
    scene.providers.words["ends"] = "succeeded"
    await scene.pass_time(3 * 3600, step=300)

    event = scene.events(late)[-1]

    assert (before, scene.trouble(ends), scene.task(ends).status) == (
        "unreachable",
        None,
        Status.SUCCEEDED,
    )
    assert scene.events(ends)[-1]["data"]["task"]["trouble"] is None
    assert (scene.trouble(late), event["type"]) == ("unreachable", "task.timed_out")
    assert event["data"]["task"]["trouble"]["code"] == "unreachable"
