"""Clients that keep us waiting, send odd heads, or come in crowds: on real sockets, in this loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from deploy.crowd import Crowd, Limits
from deploy.listening import BoundedServer
from store.clock import monotonic

LIMITS = Limits(
    receive_seconds=0.3,
    idle_seconds=0.2,
    take_seconds=0.3,
    shutdown_seconds=0.1,
    look_seconds=0.02,
    connections=8,
    head_bytes=2048,
    head_lines=20,
    grace_seconds=0.05,
    queued=4,
)
TOO_LONG = 5.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /read HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
LARGE = 32 * 1024 * 1024
"""An answer that no socket's buffers hold."""


@dataclass(slots=True)
class Site:
    """An app behind our connections; it answers /wait when a test opens the gate."""

    port: int
    crowd: Crowd
    server: BoundedServer
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    clients: list[Client] = field(default_factory=list)

    async def connect(self, sent: bytes = b"") -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        self.clients.append(Client(reader, writer))
        return self.clients[-1]

    async def ask(self, sent: bytes) -> bytes:
        """Send, and read to the end of the connection."""
        return await (await self.connect(sent)).rest()

    async def until(self, reached: Callable[[int], bool]) -> None:
        """Until that is so of the number of those connected."""
        async with asyncio.timeout(TOO_LONG):
            while not reached(len(self.server.server_state.connections)):  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@dataclass(frozen=True, slots=True)
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def rest(self) -> bytes:
        """What comes until the connection ends; it must."""
        read = b""
        async with asyncio.timeout(TOO_LONG):
            with contextlib.suppress(ConnectionError):
                while part := await self.reader.read(65536):
                    read += part
        self.writer.close()
        return read

    async def drip(self, drop: bytes) -> None:
        """Until the connection ends."""
        while not self.writer.is_closing():
            self.writer.write(drop)
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def serving(limits: Limits) -> AsyncIterator[Site]:
    listener, crowd = socket.create_server(("127.0.0.1", 0)), Crowd(limits)
    server = BoundedServer("later", listener, crowd)
    site = Site(listener.getsockname()[1], crowd, server)
    server.config.app = _app(site)
    running = asyncio.create_task(server.serve())
    try:
        yield site
    finally:
        site.gate.set()
        server.should_exit = True
        crowd.disperse()
        await running
        assert crowd.busy == 0  # whatever happened, everybody was counted off again
        for client in site.clients:
            client.writer.transport.abort()
        await asyncio.sleep(0)


def _app(site: Site) -> Starlette:
    async def quick(_request: Request) -> Response:
        return PlainTextResponse("here")

    async def read(request: Request) -> Response:
        await request.body()
        return PlainTextResponse("read", headers={"late": request.headers.get("late", "none")})

    async def wait(_request: Request) -> Response:
        await site.gate.wait()
        return PlainTextResponse("at last")

    async def large(_request: Request) -> Response:
        return PlainTextResponse(b"x" * LARGE)

    return Starlette(
        routes=[
            Route("/", quick),
            Route("/read", read, methods=["POST"]),
            Route("/wait", wait),
            Route("/large", large),
        ]
    )


@pytest.fixture(scope="module")
async def site() -> AsyncIterator[Site]:
    async with serving(LIMITS) as running:
        yield running


@pytest.fixture
async def own_site() -> AsyncIterator[Site]:
    """One that no other test connects to."""
    async with serving(LIMITS) as running:
        yield running


@pytest.fixture
async def patient_site() -> AsyncIterator[Site]:
    """One that closes nobody for being slow, unless for somebody else."""
    async with serving(replace(LIMITS, receive_seconds=60.0, idle_seconds=60.0)) as running:
        yield running


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# Slow


@pytest.mark.parametrize(
    ("sent", "drop"),
    [
        (b"GET / HT", b""),  # not even a line
        (b"GET / HTTP/1.1\r\nHost: x\r\nAccept: ", b""),  # half a head
        (b"GET / HTTP/1.1\r\nHost: x\r\nAccept: ", b"x"),
        (POST + b"Content-Length: 9999\r\n\r\nhalf", b""),
        (POST + b"Content-Length: 9999\r\n\r\nhalf", b"x"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhalf", b""),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (POST + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n", b""),
    ],
)
async def test_a_request_that_does_not_end_is_ended(site: Site, sent: bytes, drop: bytes) -> None:
    started = monotonic()
    client = await site.connect(sent)

    dripping = asyncio.create_task(client.drip(drop))
    answer = await client.rest()

    assert status(answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")) == 408
    assert 0.25 < monotonic() - started < 2
    await dripping


async def test_who_says_nothing_is_closed_without_an_answer(site: Site) -> None:
    assert await site.ask(b"") == b""


async def test_a_connection_at_rest_is_closed(site: Site) -> None:
    client = await site.connect(GET)

    dripping = asyncio.create_task(client.drip(b"\r\n"))  # which begins no request
    answer = await client.rest()

    assert status(answer) == 200
    await dripping


async def test_a_body_that_nobody_reads_does_not_keep_the_connection(site: Site) -> None:
    client = await site.connect(
        b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n"
    )

    dripping = asyncio.create_task(client.drip(b"x"))
    answer = await client.rest()

    assert status(answer) == 404
    assert b" 408 " not in answer
    await dripping


async def test_who_does_not_take_an_answer_is_cut_off(own_site: Site) -> None:
    client = await own_site.connect(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 4)

    await own_site.until(lambda connected: connected == 1)
    await own_site.until(lambda connected: connected == 0)

    assert len(await client.rest()) < LARGE


async def test_answers_that_nobody_takes_are_not_kept_without_bound() -> None:
    limits = replace(LIMITS, take_seconds=60.0, idle_seconds=60.0, unread_bytes=LARGE * 3 // 2)
    async with serving(limits) as site:
        await site.connect(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await site.connect(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")

        await site.until(lambda connected: connected == 2)
        await site.until(lambda connected: connected == 1)


async def test_who_waits_for_us_is_left_alone(own_site: Site) -> None:
    client = await own_site.connect(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    silent = await own_site.connect()

    assert await silent.rest() == b""  # so a deadline has passed
    assert await (await own_site.connect(b"GET / HT")).rest()  # and another one
    own_site.gate.set()

    assert b"at last" in await client.rest()


async def test_a_shutdown_does_not_wait_long_for_the_rest_of_a_body() -> None:
    limits = replace(LIMITS, receive_seconds=60.0)
    async with serving(limits) as site:
        client = await site.connect(POST + b"Content-Length: 9\r\n\r\nhalf")
        async with asyncio.timeout(TOO_LONG):
            while not site.server.server_state.tasks:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        site.server.should_exit = True

        assert status(await client.rest()) == 408


async def test_cutting_off_a_client_with_requests_queued_is_no_error(
    own_site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await own_site.connect(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    async with asyncio.timeout(TOO_LONG):
        while not own_site.server.server_state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    own_site.crowd.disperse()
    await own_site.until(lambda connected: connected == 0)
    own_site.gate.set()
    assert b"here" in await own_site.ask(GET)

    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
    assert own_site.server.server_state.tasks == set()


# Odd heads


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no host
        (b"GET / HTTP/1.0\r\n\r\n", 200),  # as old health checks ask
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 2048 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 2048 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 9000, 431),  # and no end
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20 + b"\r\n", 431),
        (POST + b"Content-Length: 4000\r\n\r\n" + b"x" * 4000, 200),  # a body is no head
        (POST + CHUNKED + b"fa0\r\n" + b"x" * 4000 + b"\r\n0\r\n\r\n", 200),
        (POST + CHUNKED + b"1\r\nx\r\n" * 2000, 431),
        (POST + CHUNKED + b"1;" + b"x" * 4000, 431),
        (POST + CHUNKED + b"0\r\nA: " + b"x" * 4000, 431),
        (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: +3\r\n\r\nabc", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),  # bare line feeds
        (b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),  # a folded line
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),  # TLS
    ],
)
async def test_a_head_is_one_that_every_proxy_reads_the_same_way(
    site: Site, sent: bytes, expected: int
) -> None:
    assert status(await site.ask(sent)) == expected


async def test_a_refusal_is_a_problem_and_shows_nothing_of_the_request(site: Site) -> None:
    answer = await site.ask(b"GET /<script> HTTP/1.1\r\nHost: <script>\r\nHost: x\r\n\r\n")

    head, _, body = answer.lower().partition(b"\r\n\r\n")
    assert json.loads(body)["status"] == 400
    assert b"script" not in answer
    assert b"\r\nserver:" not in head
    for line in (
        b"content-type: application/problem+json",
        b"content-length: %d" % len(body),
        b"connection: close",
        b"x-content-type-options: nosniff",
    ):
        assert line in head.split(b"\r\n")


async def test_a_trailer_is_no_header(site: Site) -> None:
    answer = await site.ask(POST + CHUNKED + b"1\r\nx\r\n0\r\nLate: yes\r\n\r\n")

    assert b"late: none" in answer


# Crowds


async def test_who_kept_us_waiting_longest_makes_room(own_site: Site) -> None:
    waiting = [await own_site.connect(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(4)]
    silent = [await own_site.connect() for _ in range(LIMITS.connections)]

    answers = [await (await own_site.connect(GET)).reader.readline() for _ in range(3)]

    assert answers == [b"HTTP/1.1 200 OK\r\n"] * 3
    assert await silent[0].rest() == b""
    own_site.gate.set()
    for client in waiting:
        assert b"at last" in await client.rest()


async def test_who_finds_no_room_waits_for_it_and_is_not_reset(own_site: Site) -> None:
    ask = b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"
    waiting = [await own_site.connect(ask) for _ in range(LIMITS.connections)]
    async with asyncio.timeout(TOO_LONG):
        while len(own_site.server.server_state.tasks) < LIMITS.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    newcomer = await own_site.connect(GET)
    own_site.gate.set()

    assert b"here" in await newcomer.rest()
    for client in waiting:
        assert b"at last" in await client.rest()
    assert b"here" in await own_site.ask(GET)


async def test_who_sends_nothing_goes_before_who_sends_slowly(patient_site: Site) -> None:
    slow = [await patient_site.connect(b"GET / HT") for _ in range(4)]
    idle = [await patient_site.connect(GET) for _ in range(4)]
    assert [await one.reader.readline() for one in idle] == [b"HTTP/1.1 200 OK\r\n"] * 4

    newcomers = [await patient_site.connect(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n") for _ in idle]
    for one in idle:
        assert b"here" in await one.rest()
    for one in slow:
        one.writer.write(b"TP/1.1\r\nHost: x\r\n\r\n")

    for one in slow:
        assert await one.reader.readline() == b"HTTP/1.1 200 OK\r\n"
    patient_site.gate.set()
    for one in newcomers:
        assert await one.reader.readline() == b"HTTP/1.1 200 OK\r\n"


async def test_who_is_in_the_middle_of_a_request_is_told_why_it_has_to_go(
    patient_site: Site,
) -> None:
    slow = [await patient_site.connect(b"GET / HT") for _ in range(LIMITS.connections)]
    newcomer = await patient_site.connect(GET)

    assert await newcomer.reader.readline() == b"HTTP/1.1 200 OK\r\n"

    assert status(await slow[0].rest()) == 503
