"""The worker with a chat: what later attempts send, and how a limit holds up what comes behind."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from store.clock import ManualClock
from store.events import Kind, Output
from store.store import Store
from store.tables import deliveries
from tests.dispatch.fake_chat import FAKES, FakeChat
from tests.dispatch.test_worker import VAULT, Scene, opened
from tests.making import push, rows, tell


@pytest.fixture
async def chat(clock: ManualClock) -> AsyncIterator[FakeChat]:
    async with FakeChat(FAKES["telegram"], clock).served() as served:
        yield served


@pytest.fixture
async def scene(store: Store, clock: ManualClock, chat: FakeChat) -> AsyncIterator[Scene]:
    async with opened(Scene(store, clock)) as made:
        made.subscribe(
            "http://127.0.0.1/…",
            format="telegram",
            url_locked=VAULT.lock(chat.url),
            rate_per_second=1.0,
            max_in_flight=1,
        )
        yield made


def video(scene: Scene, task: str = "t1") -> None:
    output = Output(url="https://cdn.example/v.mp4", kind=Kind.VIDEO)
    tell(scene.store, push(task, trusted=True, outputs=(output,)))


def methods(chat: FakeChat) -> list[str]:
    return [call.path.rpartition("/")[2] for call in chat.calls]


async def test_the_third_try_sends_the_link_alone(scene: Scene, chat: FakeChat) -> None:
    chat.script += [(502, {}, "")] * 2
    video(scene)

    await scene.look()
    await scene.pass_time(5)
    await scene.pass_time(300)

    assert methods(chat) == ["sendVideo", "sendVideo", "sendMessage"]
    assert scene.delivery()["status"] == "delivered"


async def test_nothing_is_sent_into_a_limit(scene: Scene, chat: FakeChat) -> None:
    chat.script.append("limited")
    video(scene, "t1")
    await scene.look()
    video(scene, "t2")

    await scene.pass_time(34)
    assert len(chat.calls) == 1

    await scene.pass_time(1)
    await scene.pass_time(1)
    assert len(chat.calls) == 3
    assert [row["status"] for row in rows(scene.store, deliveries)] == ["delivered"] * 2
