"""What waits is bounded below the connections: nobody is reset, and challenges are always echoed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from deploy import service as service_module
from deploy.admission import STRANGERS, STRANGERS_EACH, make_rooms
from deploy.crowd import Limits
from deploy.descriptors import Descriptors
from store.clock import ManualClock
from tests.app import ADMIN_KEY, HOOK, Taskbell, bearer, good, minimax, running
from tests.deploy.door import Answer, Client, Door, door_to
from tests.making import writer_busy

CONNECTIONS = 20


@dataclass(frozen=True, slots=True)
class Scene:
    """A Taskbell with few connections, and clients that are let go at the end."""

    taskbell: Taskbell
    door: Door
    clients: AsyncExitStack

    async def send(self, path: str, body: object = None) -> Client:
        client = await self.clients.enter_async_context(self.door.connected())
        await client.send(request(path, body))
        return client

    async def ask(self, path: str, body: object = None) -> Answer:
        client = await self.send(path, body)
        [answer] = await client.take(1)
        return answer

    async def busy(self, number: int) -> None:
        """Wait until so many clients wait for an answer."""
        async with asyncio.timeout(10):
            while self.door.crowd.busy != number:  # noqa: ASYNC110
                await asyncio.sleep(0.002)


@pytest.fixture
async def scene(
    sqlite_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    few = Descriptors(to_subscribers=CONNECTIONS, from_clients=CONNECTIONS)
    monkeypatch.setattr(service_module, "descriptors", lambda: few)
    limits = Limits(connections=CONNECTIONS, grace_seconds=0.0)
    async with (
        running(sqlite_url, clock) as taskbell,
        door_to(taskbell.app, limits) as door,
        AsyncExitStack() as clients,
    ):
        await taskbell.door.post(taskbell.path(), json=minimax("known"))  # tokens are remembered
        yield Scene(taskbell, door, clients)


def request(path: str, body: object = None) -> bytes:
    key = f"Authorization: Bearer {ADMIN_KEY}\r\n"
    if body is None:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{key}\r\n".encode()
    text = json.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{key}Content-Length: {len(text)}\r\n\r\n"
    return (head + text).encode()


async def test_pushes_that_wait_for_the_store_leave_the_other_half_of_the_connections(
    scene: Scene,
) -> None:
    path = scene.taskbell.path()

    with writer_busy(scene.taskbell.service.store):
        waiting = [await scene.send(path, minimax(f"w{n}")) for n in range(CONNECTIONS // 2)]
        await scene.busy(CONNECTIONS // 2)
        refused = [await scene.ask(path, minimax(f"r{n}")) for n in range(CONNECTIONS)]
        echoes = [await scene.ask(path, {"challenge": n}) for n in range(CONNECTIONS)]

    assert [each.status for each in refused] == [503] * CONNECTIONS
    assert all(b"retry-after: " in each.head for each in refused)
    assert [json.loads(each.body) for each in echoes] == [
        {"challenge": n} for n in range(CONNECTIONS)
    ]
    answered = [(await client.take(1))[0].status for client in waiting]
    assert answered == [200] * len(waiting)
    assert good(await scene.taskbell.door.post(path, json=minimax("later")))


async def test_unreadable_pushes_and_api_calls_wait_within_bounds_too(scene: Scene) -> None:
    path = scene.taskbell.path()
    fourth = CONNECTIONS // 4

    with writer_busy(scene.taskbell.service.store):
        unread = [await scene.send(path, {"what": n}) for n in range(CONNECTIONS // 2)]
        calls = [
            await scene.send("/v1/callback-urls", {"provider": "minimax"}) for _ in range(fourth)
        ]
        await scene.busy(CONNECTIONS // 2 + fourth)

        assert (await scene.ask(path, {"what": "too"})).status == 503
        assert (await scene.ask("/v1/callback-urls", {"provider": "minimax"})).status == 503
        assert (await scene.ask("/v1/events")).status == 503
        assert (await scene.ask("/healthz")).status == 200

    assert [(await client.take(1))[0].status for client in unread] == [400] * len(unread)
    assert [(await client.take(1))[0].status for client in calls] == [201] * len(calls)


async def test_the_last_tenth_of_the_connections_is_for_newcomers(scene: Scene) -> None:
    path, rooms = scene.taskbell.path(), scene.taskbell.service.rooms
    rooms.pushes.most = CONNECTIONS  # as if no kind of waiting had a bound of its own
    usual = CONNECTIONS - CONNECTIONS // 10

    with writer_busy(scene.taskbell.service.store):
        waiting = [await scene.send(path, minimax(f"w{n}")) for n in range(usual)]
        await scene.busy(usual)
        for number in range(CONNECTIONS):
            echo = await scene.ask(path, {"challenge": number})
            assert json.loads(echo.body) == {"challenge": number}
            for refused in (
                await scene.ask(path, minimax(f"r{number}")),
                await scene.ask("/v1/tasks"),
                await scene.ask("/readyz"),
                await scene.ask("/login"),
            ):
                assert refused.status == 503
                assert b"retry-after: " in refused.head
                assert b"connection: close" in refused.head
        assert (await scene.ask("/healthz")).status == 200

    assert [(await client.take(1))[0].status for client in waiting] == [200] * usual
    assert (await scene.ask("/v1/tasks")).status == 200


async def test_many_more_than_there_are_connections_are_all_answered(scene: Scene) -> None:
    path = scene.taskbell.path()

    with writer_busy(scene.taskbell.service.store):
        many = [await scene.send(path, minimax(f"m{n}")) for n in range(80)]
        challenged = [await scene.send(path, {"challenge": n}) for n in range(80)]
        assert [(await client.take(1))[0].status for client in challenged] == [200] * 80

    found = [(await client.take(1))[0].status for client in many]
    assert found.count(200) >= CONNECTIONS // 2
    assert set(found) == {200, 503}


@pytest.mark.parametrize("connections", [32, 80, 464, 4096])
def test_no_room_holds_all_connections(connections: int) -> None:
    rooms = make_rooms(connections)

    most = connections - Limits(connections=connections).kept_for_newcomers
    assert rooms.pushes.most == rooms.followers.most == connections // 2
    assert all(
        0 < room.most < most
        for room in (rooms.pushes, rooms.followers, rooms.others, rooms.checks, rooms.strangers)
    )


# Trials and refreshes


@dataclass(slots=True)
class Silent:
    """In a sender's place: a subscriber that says nothing until it is let go."""

    asked: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, *_: object) -> object:
        self.asked += 1
        await self.gate.wait()
        raise RuntimeError("nobody reads this")


@contextlib.asynccontextmanager
async def trials(taskbell: Taskbell) -> AsyncIterator[tuple[Silent, str, list[str]]]:
    """A silent subscriber, the path of its trial, and keys; trials end with the block."""
    silent = Silent()
    hook = good(await taskbell.api.post("/v1/subscriptions", json={"url": HOOK}), 201)
    keys = [
        good(
            await taskbell.api.post("/v1/api-keys", json={"name": f"k{n}", "scope": "write"}),
            201,
        )["key"]
        for n in range(5)
    ]
    taskbell.service.sender = silent  # type: ignore[assignment]
    try:
        yield silent, f"/v1/subscriptions/{hook['id']}/test", keys
    finally:
        silent.gate.set()


async def test_trials_and_refreshes_under_way_are_few(sqlite_url: str, clock: ManualClock) -> None:
    async with running(sqlite_url, clock) as taskbell, trials(taskbell) as (silent, path, keys):
        task = good(
            await taskbell.api.post("/v1/tasks", json={"provider": "minimax", "task_id": "7"}), 201
        )
        refresh = f"/v1/tasks/{task['id']}/refresh"

        under_way = [
            asyncio.create_task(taskbell.door.post(path, headers=bearer(keys[n // STRANGERS_EACH])))
            for n in range(STRANGERS)
        ]
        async with asyncio.timeout(10):
            while silent.asked < STRANGERS:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

        for target, key, expected in (
            (path, keys[0], 429),
            (refresh, keys[0], 429),
            (path, keys[4], 503),
            (refresh, keys[4], 503),
        ):
            async with asyncio.timeout(10):
                answer = await taskbell.door.post(target, headers=bearer(key))
            assert answer.status_code == expected
            assert int(answer.headers["retry-after"]) > 0
        good(await taskbell.api.get("/v1/subscriptions"))
        silent.gate.set()
        await asyncio.wait(under_way)

        good(await taskbell.door.post(refresh, headers=bearer(keys[0])), 202)
