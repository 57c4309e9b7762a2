"""GET /v1/tasks/{id}/wait."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import receiver.feed
from store.clock import ManualClock
from store.tasks import Overdue, expire
from tests.app import Taskbell, bearer, good, minimax, problem, running
from tests.streams import SECONDS, idle, listening, opened

ID = "task_01kdwpvng0jmwss390q20wa8r0"


def waiting(taskbell: Taskbell, task: dict[str, Any], seconds: float = 60) -> asyncio.Task[Any]:
    path = f"/v1/tasks/{task['id']}/wait?timeout={seconds}"
    return asyncio.create_task(taskbell.api.get(path))


async def test_it_answers_with_the_ending(taskbell: Taskbell) -> None:
    task = await taskbell.track("1")
    answer = waiting(taskbell, task)
    await idle(taskbell.service.feed, 1)

    await taskbell.push(minimax("1", "Processing"))
    await taskbell.push(minimax("1", file_id="7"))

    ended = good(await answer)
    assert ended["status"] == "succeeded"
    assert ended == good(await taskbell.api.get(f"/v1/tasks/{task['id']}"))
    assert len(taskbell.service.feed) == 0


async def test_a_task_that_has_ended_is_answered_at_once(taskbell: Taskbell) -> None:
    task = await taskbell.track("1")
    await taskbell.push(minimax("1", "Fail"))

    assert good(await waiting(taskbell, task))["status"] == "failed"


async def test_the_time_is_up_before_the_end(taskbell: Taskbell) -> None:
    task = await taskbell.track("1")

    for seconds in (0, 0.05):
        assert good(await waiting(taskbell, task, seconds), 202)["status"] == "queued"


async def test_a_time_out_is_an_end_to_waiting(small: Taskbell, clock: ManualClock) -> None:
    task = await small.track("1", timeout_seconds=5)
    answer = waiting(small, task)
    await idle(small.service.feed, 1)
    clock.advance(seconds=10)
    overdue = Overdue(10, timedelta(0), frozenset(), timedelta(minutes=1))
    await small.service.store.write(expire, overdue)

    assert good(await answer)["status"] == "timed_out"
    assert good(await waiting(small, task))["status"] == "timed_out"


@pytest.mark.parametrize("seconds", ["-1", "121", "soon", "nan", "inf", ""])
async def test_a_bad_time_is_422(small: Taskbell, seconds: str) -> None:
    problem(await small.api.get(f"/v1/tasks/{ID}/wait?timeout={seconds}"), 422)


async def test_an_unknown_task_is_404(small: Taskbell) -> None:
    problem(await small.api.get(f"/v1/tasks/{ID}/wait"), 404)
    problem(await small.api.get("/v1/tasks/x/wait"), 404)


async def test_a_process_about_to_stop_lets_them_go(small: Taskbell) -> None:
    answer = waiting(small, await small.track("1"))
    await idle(small.service.feed, 1)

    small.service.feed.end()

    assert good(await answer, 202)["status"] == "queued"


async def test_a_client_that_left_waits_no_more(small: Taskbell) -> None:
    task = await small.track("1")
    path = f"/v1/tasks/{task['id']}/wait"
    async with opened(small.app, "timeout=60", path=path) as client:
        await idle(small.service.feed, 1)
        client.leave()
        await client.until(lambda: client.ended)

    assert client.status == 202
    assert len(small.service.feed) == 0


async def test_many_wait_for_one_task_and_one_reading_answers_them(
    small: Taskbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await small.track("1")
    answers = [waiting(small, task) for _ in range(200)]
    await idle(small.service.feed, 200)
    read, readings = small.service.store.read, 0

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal readings
        readings += 1
        return await read(*args, **kwargs)

    monkeypatch.setattr(small.service.store, "read", counted)
    await small.push(minimax("1"))
    found = await asyncio.gather(*answers)

    assert {good(answer)["status"] for answer in found} == {"succeeded"}
    assert readings < 5


async def test_it_hears_of_an_end_that_another_process_recorded(
    postgresql_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.rounds.LOOK_SECONDS", 60.0)
    monkeypatch.setattr(receiver.feed, "LOOK_SECONDS", 60.0)
    async with running(postgresql_url, clock) as here, running(postgresql_url, clock) as there:
        task = await there.track("1")
        answer = waiting(there, task, 120)
        await idle(there.service.feed, 1)
        await listening(there.service.store)
        await here.push(minimax("1"))

        assert good(await asyncio.wait_for(answer, SECONDS))["status"] == "succeeded"


async def test_a_wait_ends_with_its_key(taskbell: Taskbell) -> None:
    made = good(await taskbell.api.post("/v1/api-keys", json={"name": "k"}), 201)
    task = await taskbell.track("1")
    path = f"/v1/tasks/{task['id']}/wait?timeout=60"
    answer = asyncio.create_task(taskbell.door.get(path, headers=bearer(made["key"])))
    other = waiting(taskbell, task)
    await idle(taskbell.service.feed, 2)

    await taskbell.api.delete(f"/v1/api-keys/{made['id']}")

    problem(await answer, 401)
    await taskbell.push(minimax("1"))
    assert good(await other)["status"] == "succeeded"
