"""Requests that are sent ahead of their answers: each is answered, in order, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.connections import Connection
from deploy.crowd import Limits
from tests.deploy.door import Door, answers, door_to

LIMITS = Limits(
    receive_seconds=0.5, ended_seconds=0.5, look_seconds=0.02, queued=4, head_bytes=2048
)
CLOSE = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
TRICKY = b"\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with door_to(limits=LIMITS) as running:
        yield running


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def post(path: str, body: bytes, *, chunked: bool = False) -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: x\r\n" % path.encode()
    if chunked:
        return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


def mixed(number: int) -> bytes:
    """A request of each kind in turn."""
    kinds = (
        lambda path: get(path),
        lambda path: post(path, TRICKY),
        lambda path: post(path, TRICKY, chunked=True),
        lambda path: b"\r\n" + get(path),
    )
    return kinds[number % 4](f"/{number}")


@pytest.mark.parametrize("number", [3, 17, 400])
async def test_each_of_many_in_one_packet_is_answered_in_order(door: Door, number: int) -> None:
    sent = b"".join(map(mixed, range(number)))

    found = answers(await door.ask(sent + CLOSE))

    assert [each.body.decode() for each in found] == [f"/{n}" for n in range(number)] + ["/last"]
    assert {each.status for each in found} == {200}
    assert {body for method, _, body in door.ever_seen if method == "POST"} == {TRICKY}


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
async def test_it_does_not_matter_where_they_are_split(door: Door, size: int) -> None:
    sent = b"".join(map(mixed, range(24))) + CLOSE
    packets = [sent[at : at + size] for at in range(0, len(sent), size)]

    found = answers(await door.ask(*packets))

    assert [each.body.decode() for each in found] == [f"/{n}" for n in range(24)] + ["/last"]


async def test_what_is_too_far_ahead_is_left_unread(door: Door) -> None:
    async with door.connected() as client:
        flood = get("/wait") + get("/ahead") * 200_000
        client.writer.write(flood)
        async with asyncio.timeout(10):
            while not door.ever_seen:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        for _ in range(20):
            await asyncio.sleep(0.005)  # what could come would have come
        [connection] = door.server.server_state.connections
        assert isinstance(connection, Connection)
        assert len(connection.pipeline) <= LIMITS.queued + 1
        assert client.writer.transport.get_write_buffer_size() > len(flood) // 4

        door.gate.set()
        assert [each.status for each in await client.take(1000)] == [200] * 1000


@pytest.mark.parametrize(
    "broken",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no host
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_broken_costs_nobody_before_it_the_answer(door: Door, broken: bytes) -> None:
    async with door.connected() as client:
        await client.send(get("/wait") + get("/second") + post("/third", b"x") + broken, get("/no"))
        door.gate.set()
        found = answers(await client.rest())

    assert [each.status for each in found] == [200, 200, 200, 400]
    assert b"connection: close" in found[-1].head
    assert "/no" not in [path for _, path, _ in door.ever_seen]


async def test_heads_are_measured_one_by_one_however_many_come_together(door: Door) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 1500 + b"\r\n\r\n"

    async with door.connected() as client:
        await client.send(head * 3 + head[:1000], head[1000:] + head[:100], head[100:] + CLOSE)
        found = answers(await client.rest())

    assert [each.status for each in found] == [200] * 6


@pytest.mark.parametrize("number", [1, 2, 17, 100])
async def test_a_client_that_ends_its_side_gets_every_answer(door: Door, number: int) -> None:
    async with door.connected() as client:
        client.writer.write(b"".join(map(mixed, range(number))))
        client.writer.write_eof()
        found = answers(await client.rest())

    assert [each.body.decode() for each in found] == [f"/{n}" for n in range(number)]


@pytest.mark.parametrize(
    "rest", [b"GET /half", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"]
)
async def test_what_it_left_unfinished_costs_nothing_before_it_the_answer(
    door: Door, rest: bytes
) -> None:
    async with door.connected() as client:
        await client.send(get("/wait") + get("/second") + rest)
        client.writer.write_eof()
        door.gate.set()
        found = answers(await client.rest())

    assert [each.body.decode() for each in found] == ["/wait", "/second"]


async def test_a_client_that_ended_its_side_is_not_waited_for_long(door: Door) -> None:
    async with door.connected() as client:
        await client.send(get("/wait"))
        client.writer.write_eof()

        assert await client.rest() == b""
        assert door.crowd.busy == 0
