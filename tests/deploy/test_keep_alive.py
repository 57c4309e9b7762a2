"""Connections that are kept for the next request: nothing that is sent on them may be lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.connections import Connection
from deploy.crowd import Limits
from deploy.demo.server import IDLE_SECONDS as DEMO_IDLE_SECONDS
from tests.deploy.door import Client, Door, answers, door_to

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LONGEST_OF_CLIENTS = 60.0
"""How long the usual load balancers, proxies and libraries keep a connection: 5, 15, 30, 60 s."""


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with door_to() as running:
        yield running


def connection_of(door: Door) -> Connection:
    [connection] = door.server.server_state.connections
    assert isinstance(connection, Connection)
    return connection


async def once(client: Client) -> None:
    await client.send(GET)
    assert [each.status for each in await client.take(1)] == [200]


async def test_a_client_that_keeps_its_connection_as_long_as_is_usual_loses_nothing(
    door: Door,
) -> None:
    async with door.connected() as client:
        await once(client)
        for idle in (4.999, 5.0, 5.001, LONGEST_OF_CLIENTS, 74.9):
            connection_of(door).look(asyncio.get_running_loop().time() + idle)
            await once(client)

        connection_of(door).look(asyncio.get_running_loop().time() + 75.1)
        assert await client.reader.read() == b""


def test_the_other_servers_of_ours_keep_theirs_as_long() -> None:
    assert Limits().idle_seconds == DEMO_IDLE_SECONDS == 75


# A stop


async def ending(door: Door) -> None:
    door.server.should_exit = True
    async with asyncio.timeout(10):
        while not door.crowd.ending:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.fixture
async def patient_door() -> AsyncIterator[Door]:
    """One that ends when everybody has got an answer, and not before."""
    async with door_to(limits=Limits(last_seconds=30.0, shutdown_seconds=30.0)) as running:
        yield running


async def test_whoever_sends_after_the_signal_is_answered_and_told_that_it_was_the_last(
    patient_door: Door,
) -> None:
    door = patient_door
    async with (
        door.connected() as idle,
        door.connected() as silent,
        door.connected() as half,
        door.connected() as waiting,
    ):
        await once(idle)
        await half.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        await waiting.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await ending(door)

        async with door.connected() as newcomer:
            for client, rest in ((newcomer, GET), (idle, GET), (silent, GET), (half, b"cd")):
                await client.send(rest)
                found = answers(await client.rest())
                assert [each.status for each in found] == [200]
                assert b"connection: close" in found[0].head
        door.gate.set()
        assert [each.status for each in answers(await waiting.rest())] == [200]


async def test_whoever_sends_nothing_after_the_signal_is_closed_without_a_reset() -> None:
    async with (
        door_to(limits=Limits(last_seconds=0.05)) as door,
        door.connected() as idle,
        door.connected() as silent,
    ):
        await once(idle)
        await ending(door)

        assert await idle.reader.read() == b""
        assert await silent.reader.read() == b""


async def test_pushers_across_a_stop_lose_nothing_that_was_sent() -> None:
    """Twenty at their own paces: an answer each, or a close that came before anything was sent."""
    lost: list[str] = []

    async def push(door: Door, number: int) -> None:
        async with door.connected() as client:
            for turn in range(1_000):
                if client.reader.at_eof():
                    return
                client.writer.write(GET)
                try:
                    [answer] = await client.take(1)
                except (OSError, EOFError) as error:
                    lost.append(f"pusher {number}, request {turn}: {error!r}")
                    return
                if b"connection: close" in answer.head:
                    return
                await asyncio.sleep(0.001 * number)

    async with door_to() as door, asyncio.TaskGroup() as pushers:
        for number in range(20):
            pushers.create_task(push(door, number))
        await asyncio.sleep(0.05)
        door.server.should_exit = True

    assert lost == []
