"""Poisoned answers: what a provider says of some tasks costs the others nothing.

Every provider, every kind of poison, the whole poller, in virtual time: tasks beside poisoned ones
end with at most twice the questions that they need alone. And what something else says in a
provider's place ends no task.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from receiver.failures import Blame
from receiver.poller import NOT_FOUND_TRIES
from receiver.provider import ProviderError, providers
from receiver.watch import Heard, Watch
from store.clock import ManualClock
from store.events import Status, Task
from store.store import Store
from tests.conftest import START
from tests.databases import on_sqlite
from tests.providers.conformance import task_of
from tests.receiver.test_asking import asker_over
from tests.receiver.test_poller import ATLAS, MINIMAX, YUANJING, Scene, link, opened, own_error

GOOD = [f"good{number}" for number in range(19)]
BUSY = [f"good{number}" for number in range(20)]
LONGEST_SECONDS = 300

Say = Callable[[str, str], Awaitable[httpx.Response] | httpx.Response]
"""What a provider answers about a poisoned task. Gets the provider's name and the task's id."""


def answered(provider: str, task_id: str, **more: Any) -> dict[str, Any]:
    """A success in the shape of its provider, with more members inside."""
    match provider:
        case "minimax":
            fine = {"status_code": 0, "status_msg": "success"}
            return {"task_id": task_id, "status": "Success", "base_resp": fine, **more}
        case "atlascloud":
            return {"data": {"id": task_id, "status": "completed", **more}}
        case _:
            return {"taskid": task_id, "status": "SUCCEEDED", **more}


def said(make: Callable[[str, str], Any]) -> Say:
    def say(provider: str, task_id: str) -> httpx.Response:
        made = make(provider, task_id)
        return httpx.Response(200, json=made) if not isinstance(made, str) else _text(made)

    return say


def _text(body: str) -> httpx.Response:
    return httpx.Response(200, text=body, headers={"content-type": "application/json"})


def with_member(member: str) -> Say:
    """A success with one more member, written as it stands here."""

    def make(provider: str, task_id: str) -> str:
        return json.dumps(answered(provider, task_id, poison=0)).replace('"poison": 0', member)

    return said(make)


def status(number: int) -> Say:
    return lambda provider, _: own_error(provider, number)()


def foreign(number: int, body: str = "<h1>Bad Gateway</h1>") -> Say:
    return lambda *_: httpx.Response(number, text=body)


async def hang(_provider: str, _task_id: str) -> httpx.Response:
    await asyncio.sleep(0.05)  # the deadline is shorter
    return httpx.Response(200, json={})


POISON: dict[str, Say] = {
    "no JSON": said(lambda *_: "<html>hello"),
    "empty": said(lambda *_: ""),
    "NaN": with_member('"metrics": {"predict_time": NaN}'),
    "Infinity": with_member('"usage": {"credits": -Infinity}'),
    "a repeated key": with_member('"a": 1, "a": 2'),
    "deep nesting": with_member('"a": ' + "[" * 90 + "]" * 90),
    "many values": with_member('"a": [' + "0," * 13_000 + "0]"),
    "half of it": said(lambda name, task_id: json.dumps(answered(name, task_id))[:-9]),
    "a list": said(lambda *_: []),
    "a status that is a list": said(
        lambda name, task_id: json.loads(
            json.dumps(answered(name, task_id))
            .replace('"status": "', '"status": ["')
            .replace('"}', '"]}', 1)
            if name != MINIMAX
            else '{"task_id": ["x"], "status": ["x"]}'
        )
    ),
    "about another task": said(
        lambda name, _: answered(name, "another") if name != YUANJING else {"status": ["SUCCEEDED"]}
    ),
    "two ids": said(
        lambda name, task_id: (
            answered(name, task_id, task={"id": "other", "status": "failed"})
            if name == MINIMAX
            else {"status": "FAILED", "data": {"id": "other", "status": "SUCCEEDED"}, "id": task_id}
        )
    ),
    "a refused question": status(400),
    "unknown": status(404),
    "gone": status(410),
    "401 for it alone": status(401),
    "429 for it alone": status(429),
    "500 for it alone": status(500),
    "503 of a gateway": foreign(503),
    "404 of a gateway": foreign(404),
    "a login page": foreign(200, "<form>"),
    "a hang": hang,
    "a connection that breaks": lambda *_: _broken(),
}


def _broken() -> httpx.Response:
    raise httpx.ReadError("reset")


@dataclass
class Poisoned:
    """What the provider says of the tasks whose ids begin with `bad`."""

    scene: Scene
    say: Say

    async def answer(self, name: str, request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        about = query.get("task_id") or query.get("taskid") or request.url.path.rpartition("/")[2]
        if not about.startswith("bad"):
            return await self.scene.providers.answer(name, request)
        found = self.say(name, about)
        return found if isinstance(found, httpx.Response) else await found


@contextlib.asynccontextmanager
async def poisoned(
    store: Store, clock: ManualClock, say: Say, *, concurrency: int = 8
) -> AsyncIterator[Scene]:
    scene = Scene(store, clock, concurrency=concurrency, rate=50, deadline_seconds=0.02)
    mixed = Poisoned(scene, say)
    for name, asker in scene.askers.items():
        asker._transport = httpx.MockTransport(_of(mixed, name))
    async with opened(scene):
        yield scene


def _of(mixed: Poisoned, name: str) -> Any:
    async def answer(request: httpx.Request) -> httpx.Response:
        return await mixed.answer(name, request)

    return answer


async def ended(scene: Scene, good: list[Task]) -> None:
    """Let time pass until the good ones have ended."""
    await scene.look()
    for _ in range(LONGEST_SECONDS):
        if all(scene.task(task).status is Status.SUCCEEDED for task in good):
            break
        await scene.pass_time(1)


def questions(scene: Scene, good: list[Task]) -> int:
    ids = {task.provider_task_id for task in good}
    files = {f"file-of-{task_id}" for task_id in ids}
    return sum(about in ids | files for _, _, about in scene.providers.asked)


ALL = (MINIMAX, ATLAS, YUANJING)


@on_sqlite
@pytest.mark.parametrize("poison", POISON)
async def test_beside_one_bad_task_nineteen_end_as_soon_as_alone(
    store: Store, clock: ManualClock, poison: str
) -> None:
    """At each provider."""
    async with poisoned(store, clock, POISON[poison]) as scene:
        bad = [scene.track(f"bad-{name}", name, says="") for name in ALL]
        good = [
            scene.track(f"{each}-{name}", name, says="succeeded") for name in ALL for each in GOOD
        ]

        await ended(scene, good)

        assert {scene.task(task).status for task in good} == {Status.SUCCEEDED}
        assert questions(scene, good) <= 2 * 4 * len(
            GOOD
        )  # alone: 1, and at MiniMax 2, for the file
        assert (clock() - bad[0].created_at).total_seconds() <= 6
        assert Status.SUCCEEDED not in {scene.task(task).status for task in bad}


@on_sqlite
@pytest.mark.parametrize("poison", ["NaN", "500 for it alone", "404 of a gateway", "a hang"])
async def test_beside_eight_bad_tasks_twenty_end_soon(
    store: Store, clock: ManualClock, poison: str
) -> None:
    """At each provider; the bad ones are asked about first, all at once."""
    async with poisoned(store, clock, POISON[poison]) as scene:
        for name in ALL:
            for number in range(8):
                scene.track(f"bad{number}-{name}", name, says="")
        good = [
            scene.track(f"{each}-{name}", name, says="succeeded") for name in ALL for each in BUSY
        ]

        await ended(scene, good)

        assert {scene.task(task).status for task in good} == {Status.SUCCEEDED}
        assert questions(scene, good) <= 2 * 4 * len(BUSY)
        assert (clock() - good[0].created_at).total_seconds() <= 15


@on_sqlite
@pytest.mark.parametrize("inline", ["data:image/png;base64,", ""])
@pytest.mark.parametrize("provider", [ATLAS, YUANJING])
async def test_an_inline_output_of_any_size_ends_its_task_and_says_so(
    store: Store, clock: ManualClock, provider: str, inline: str
) -> None:
    sizes = {"bad0": 9_000, "bad1": 1_200_000, "bad2": 2_500_000}
    name = "outputs" if provider == ATLAS else "image"

    def make(_provider: str, task_id: str) -> Any:
        return answered(provider, task_id, **{name: [inline + "A" * sizes[task_id]]})

    async with poisoned(store, clock, said(make)) as scene:
        scene.askers[provider]._deadline_seconds = 60
        bad = [scene.track(task_id, provider, says="") for task_id in sizes]
        good = [scene.track(task_id, provider, says="succeeded") for task_id in BUSY]

        await ended(scene, [*good, *bad])

        assert questions(scene, good) == len(good)
        for task in bad:
            (output,) = scene.task(task).outputs
            assert output.url is None
            assert "came inline" in (output.note or "")
        await scene.pass_time(600, step=60)
        assert scene.task(bad[0]).next_poll_at is None


@on_sqlite
@pytest.mark.parametrize("provider", [MINIMAX, ATLAS, YUANJING])
async def test_a_poisoned_task_is_asked_about_less_and_less(
    store: Store, clock: ManualClock, provider: str
) -> None:
    asked = []

    def make(_provider: str, task_id: str) -> str:
        asked.append((clock() - began).total_seconds())
        return '{"task_id": "bad0", "data": {"id": "bad0", "status": NaN}, "taskid": "bad0"}'

    began = clock()
    async with poisoned(store, clock, said(make)) as scene:
        bad = scene.track("bad0", provider, says="")
        await scene.look()
        await scene.pass_time(3_600, step=30)

        assert scene.task(bad).poll_failures == len(asked)
        assert len(asked) < 25
        assert scene.types(bad) == ["queued"]


@on_sqlite
@pytest.mark.parametrize("provider", [MINIMAX, ATLAS, YUANJING])
@pytest.mark.parametrize("poison", ["500 for it alone", "404 of a gateway"])
async def test_a_real_outage_still_slows_its_provider(
    store: Store, clock: ManualClock, provider: str, poison: str
) -> None:
    async with poisoned(store, clock, POISON[poison]) as scene:
        asked = 0
        say = POISON[poison]

        def counting(name: str, task_id: str) -> Any:
            nonlocal asked
            asked += 1
            return say(name, task_id)

        for asker in scene.askers.values():
            asker._transport = httpx.MockTransport(_of(Poisoned(scene, counting), provider))
        tasks = [scene.track(f"bad{number}", provider, says="") for number in range(20)]
        await scene.look()
        await scene.pass_time(120, step=1)

        assert asked < 30  # 1, 2, 4 … 60 s apart, and those that were under way at first
        assert {scene.task(task).status for task in tasks} == {Status.QUEUED}
        assert scene.lines[provider].health.stopped


# who said it?

PLACES: dict[str, Callable[[int], httpx.Response]] = {
    "nginx": lambda number: httpx.Response(number, html="<center><h1>404 Not Found</h1></center>"),
    "nothing": lambda number: httpx.Response(number),
    "Kong": lambda number: httpx.Response(
        number, json={"message": "no Route matched with those values", "request_id": "r"}
    ),
    "AWS": lambda number: httpx.Response(number, json={"message": "Forbidden"}),
    "Spring": lambda number: httpx.Response(
        number, json={"timestamp": 1, "status": number, "error": "Not Found", "path": "/"}
    ),
    "FastAPI": lambda number: httpx.Response(number, json={"detail": "Not Found"}),
    "OpenAI's shape": lambda number: httpx.Response(
        number, json={"error": {"message": "not found", "type": "invalid_request", "code": None}}
    ),
    "code and message": lambda number: httpx.Response(
        number, json={"code": number, "message": "task not found"}
    ),
    "a success word": lambda number: httpx.Response(number, json={"status": "success"}),
    "JSend": lambda number: httpx.Response(number, json={"status": "fail", "data": {"id": "no"}}),
    "text": lambda number: httpx.Response(number, text="task not found"),
    "null": lambda number: httpx.Response(number, json=None, text="null"),
    "a list": lambda number: httpx.Response(number, json=[]),
}
STATUSES = (200, 302, 400, 401, 402, 403, 404, 405, 407, 410, 422, 451, 500, 502, 521, 530)


@pytest.mark.parametrize("provider", ALL)
@pytest.mark.parametrize("place", PLACES)
async def test_no_status_with_a_foreign_body_is_a_providers_word(provider: str, place: str) -> None:
    adapter = providers()[provider]
    for number in STATUSES:
        for family in ("v1", "v2") if provider == MINIMAX else (None,):
            answer = PLACES[place](number)
            asker = asker_over(httpx.MockTransport(lambda _, it=answer: it), owns=adapter.owns)
            task = task_of(adapter, {"provider_task_id": "1", "family": family}, START)
            with pytest.raises(ProviderError) as caught:
                await adapter.query(asker, task, START)
            assert (caught.value.blame, caught.value.permanent) == (Blame.WAY, False), number


class Listening(Watch):
    def __init__(self) -> None:
        self.all: list[Heard] = []

    def verdict(self, heard: Heard) -> None:
        self.all.append(heard)


@on_sqlite
@pytest.mark.parametrize("provider", [MINIMAX, ATLAS, YUANJING])
@pytest.mark.parametrize("place", ["nginx", "Kong"])
async def test_what_something_else_says_in_a_providers_place_ends_nothing(
    store: Store, clock: ManualClock, provider: str, place: str
) -> None:
    numbers = iter(STATUSES * 1_000)
    heard = Listening()
    async with poisoned(store, clock, lambda *_: PLACES[place](next(numbers))) as scene:
        scene.poller._watch = heard
        tasks = [scene.track(f"bad{number}", provider, says="") for number in range(3)]
        await scene.look()
        await scene.pass_time(900, step=30)

        assert len(heard.all) > 3 * NOT_FOUND_TRIES
        assert {each.blame for each in heard.all} == {Blame.WAY}
        assert {scene.task(task).status for task in tasks} == {Status.QUEUED}
        for task in tasks:  # and then it is the provider again
            scene.providers.words[f"bad{task.provider_task_id[3:]}"] = "succeeded"
        for asker_name, asker in scene.askers.items():
            asker._transport = httpx.MockTransport(of_provider(scene, asker_name))
        await scene.pass_time(200, step=10)
        assert {scene.task(task).status for task in tasks} == {Status.SUCCEEDED}
        assert scene.task(tasks[0]).outputs[0].url == link("bad0")


def of_provider(scene: Scene, name: str) -> Any:
    async def answer(request: httpx.Request) -> httpx.Response:
        return await scene.providers.answer(name, request)

    return answer


@on_sqlite
@pytest.mark.parametrize("provider", [MINIMAX, ATLAS])
async def test_one_task_that_the_provider_itself_does_not_know_ends(
    store: Store, clock: ManualClock, provider: str
) -> None:
    async with poisoned(store, clock, status(404)) as scene:
        bad = scene.track("bad0", provider, says="")
        scene.track("good0", provider)  # goes on
        await scene.look()
        await scene.pass_time(200, step=5)

        assert scene.types(bad) == ["queued", "failed"]


@on_sqlite
@pytest.mark.parametrize("provider", [MINIMAX, ATLAS])
async def test_no_task_ends_while_every_task_is_refused_at_once(
    store: Store, clock: ManualClock, provider: str
) -> None:
    """A server at a wrong base URL may refuse in the provider's own shape."""
    async with poisoned(store, clock, status(404)) as scene:
        tasks = [scene.track(f"bad{number}", provider, says="") for number in range(3)]
        await scene.look()
        await scene.pass_time(1_800, step=30)

        assert {scene.task(task).status for task in tasks} == {Status.QUEUED}
        assert {scene.task(task).poll_refusals >= NOT_FOUND_TRIES for task in tasks} == {True}
