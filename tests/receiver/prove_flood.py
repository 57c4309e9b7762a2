"""A leaked callback URL, and a thousand made-up tasks: the door, the store and the poller together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import httpx

from receiver.poller import UNVERIFIED_PER_MINUTE
from store.callback_tokens import make_token_id
from store.clock import ManualClock
from store.records import HELD_FOR
from tests.app import Taskbell, good, minimax, running
from tests.conftest import START
from tests.databases import on_both_engines
from tests.receiver.test_poller import MINIMAX, Scene, link, opened

pytestmark = on_both_engines

KEY = {"MINIMAX_API_KEY": "sk-key-0123456789"}
FORGED = 1_000
REAL = 50
TRACKED = [f"tracked{number}" for number in range(REAL // 2)]
PUSHED_ONLY = [f"pushed{number}" for number in range(REAL // 2)]


async def push_all(taskbell: Taskbell, task_ids: Sequence[str], paths: Sequence[str]) -> None:
    """Push endings, a hundred at once."""
    bodies = [minimax(task_id, file_id="forged") for task_id in task_ids]
    for start in range(0, len(bodies), 100):
        sent = zip(bodies[start : start + 100], paths[start : start + 100], strict=True)
        answers = await asyncio.gather(*(taskbell.push(body, path) for body, path in sent))
        assert [good(answer) for answer in answers] == [{"status": "success"}] * len(answers)


async def test_of_a_thousand_forged_pushes_and_fifty_real_ones_the_real_become_events(
    database_url: str, clock: ManualClock
) -> None:
    async with (
        running(database_url, clock, KEY) as taskbell,
        opened(
            Scene(taskbell.service.store, clock, asked=(MINIMAX,), rate=10, concurrency=8)
        ) as scene,
    ):
        for task_id in TRACKED:
            await taskbell.track(task_id, expect_push=True)
        leaked = taskbell.path(token_id=make_token_id(None, 2**40))
        forged = [f"forged{number}" for number in range(FORGED)]
        await push_all(taskbell, forged, [leaked] * FORGED)
        # nobody tracks these: each came with a URL of its own, as the README submits them
        own = [taskbell.path(token_id=make_token_id(None, 2**41 + n)) for n in range(REAL // 2)]
        scene.providers.words |= dict.fromkeys([*TRACKED, *PUSHED_ONLY], "succeeded")
        await push_all(taskbell, TRACKED, [leaked] * len(TRACKED))
        await push_all(taskbell, PUSHED_ONLY, own)

        await scene.pass_time(90, step=0.5)

        ended = [body["data"]["task"] for body in scene.events() if body["type"] != "task.queued"]
        assert sorted(task["provider_task_id"] for task in ended) == sorted(TRACKED + PUSHED_ONLY)
        for task in ended:
            assert (task["status"], task["confirmed"]) == ("succeeded", True)
            assert task["outputs"][0]["url"] == link(task["provider_task_id"])
        last = max(task["updated_at"] for task in ended)
        assert last < (START + timedelta(minutes=1)).isoformat()
        assert_few_in_vain(scene)


def assert_few_in_vain(scene: Scene) -> None:
    """At most so many requests about forged tasks in any minute, and most of the room was used."""
    vain = [at for at, _, about in scene.providers.asked if about.startswith("forged")]
    assert len(vain) > UNVERIFIED_PER_MINUTE / 2
    later = vain[UNVERIFIED_PER_MINUTE:]
    assert all(b - a > timedelta(minutes=1) for a, b in zip(vain, later, strict=False))


async def test_an_outage_makes_nothing_of_what_was_forged(
    sqlite_url: str, clock: ManualClock
) -> None:
    async with (
        running(sqlite_url, clock, KEY) as taskbell,
        opened(Scene(taskbell.service.store, clock, asked=(MINIMAX,))) as scene,
    ):
        scene.providers.trouble[MINIMAX] = lambda: httpx.Response(503)
        forged = [f"forged{number}" for number in range(50)]
        await push_all(taskbell, forged, [taskbell.path()] * len(forged))

        await scene.pass_time(3 * HELD_FOR.total_seconds(), step=5)

        assert scene.events() == []
