"""Offers to change the protocol are ignored, and the body is read as its own framing says.

On real sockets: no byte of a body may ever be taken for a request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store.clock import ManualClock
from tests.app import Taskbell
from tests.conftest import START
from tests.corpus.live import database_in, live
from tests.deploy.door import Door, answers, door_to

OFFERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13",
    b"Connection: upgrade\r\nUpgrade: TLS/1.0",
    b"Connection: upgrade\r\nUpgrade: no-such-protocol/9",
    b"Connection: keep-alive, uPgRaDe\r\nuPGRADE: WebSocket, h2c, HTTP/2.0",
    b"Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: keep-alive\r\nConnection: Upgrade",
    b"Proxy-Connection: upgrade\r\nUpgrade: h2c",
    b"Connection: upgrade\r\nUpgrade:",
    b"Connection: upgrade",  # to nothing
    b"Upgrade: h2c",  # and not of this connection
]
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
"""A body that looks like a request."""

SIZED = b"Content-Length: %d\r\n\r\n%s" % (len(HIDDEN), HIDDEN)
CHUNKED = (
    b"Transfer-Encoding: chunked\r\n\r\n"
    + b"5;a=b\r\n%s\r\n%x\r\n%s\r\n" % (HIDDEN[:5], len(HIDDEN) - 5, HIDDEN[5:])
    + b"0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
)
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
async def shared_door() -> AsyncIterator[Door]:
    async with door_to() as running:
        yield running


@pytest.fixture
def door(shared_door: Door) -> Door:
    shared_door.take_seen()
    return shared_door


@pytest.mark.parametrize("framed", [SIZED, CHUNKED], ids=["content-length", "chunked"])
@pytest.mark.parametrize("offer", OFFERS)
async def test_the_body_beside_an_offer_is_a_body_wherever_it_is_split(
    door: Door, offer: bytes, framed: bytes
) -> None:
    request = b"POST /read HTTP/1.1\r\nHost: x\r\n" + offer + b"\r\n" + framed

    splits = range(1, len(request), 5)
    async with door.connected() as client:
        for at in splits:
            await client.send(request[:at], request[at:] + NEXT)
            assert [each.status for each in await client.take(2)] == [200, 200]
        await client.send(*(bytes([byte]) for byte in request), LAST)
        assert [each.status for each in answers(await client.rest())] == [200, 200]

    posted = [seen for seen in door.take_seen() if seen[0] == "POST"]
    assert len(posted) == len(splits) + 1
    assert set(posted) == {("POST", "/read", HIDDEN)}
    assert not [path for _, path, _ in door.ever_seen if path == "/hidden"]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("offer", OFFERS)
async def test_an_offer_without_a_body_gets_an_ordinary_answer(
    door: Door, offer: bytes, version: bytes
) -> None:
    handshake = b"GET /read HTTP/" + version + b"\r\nHost: x\r\n" + offer + b"\r\n\r\n"

    found = answers(await door.ask(handshake + LAST))

    assert found[0].status == 200
    assert b"upgrade" not in found[0].head.lower()


async def test_an_offer_and_a_wish_to_be_asked_for_the_body_are_both_heard(door: Door) -> None:
    head = b"POST /read HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + OFFERS[0] + b"\r\n"

    async with door.connected() as client:
        await client.send(head + b"Content-Length: 2\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"ab" + LAST)
        assert [each.status for each in answers(await client.rest())] == [200, 200]

    assert door.take_seen()[0] == ("POST", "/read", b"ab")


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3",
        b"Content-Length: 3\r\nContent-Length: 4",
        b"Transfer-Encoding: gzip",
        b"Host: y",
    ],
)
async def test_an_offer_excuses_no_fault_of_the_head(door: Door, framing: bytes) -> None:
    request = b"POST /read HTTP/1.1\r\nHost: x\r\n" + OFFERS[0] + b"\r\n" + framing + b"\r\n\r\n"

    found = answers(await door.ask(request + HIDDEN))

    assert [each.status for each in found] == [400]
    assert door.take_seen() == []


@pytest.mark.parametrize(
    ("opening", "expected"),
    [
        (b"CONNECT example.net:443 HTTP/1.1\r\nHost: example.net:443\r\n\r\n", 400),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n", 400),
        (b"CONNECT /read HTTP/1.1\r\nHost: x\r\n" + OFFERS[0] + b"\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", 400),
    ],
)
async def test_nothing_is_read_after_what_would_open_a_tunnel(
    door: Door, opening: bytes, expected: int
) -> None:
    async with door.connected() as client:
        await client.send(opening[:20], opening[20:], HIDDEN, HIDDEN)
        found = answers(await client.rest())

    assert [each.status for each in found] == [expected]
    assert b"connection: close" in found[0].head
    assert door.take_seen() == []


async def test_a_push_of_a_client_that_offers_h2c_is_stored(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = database_in(tmp_path_factory.mktemp("upgrade"), sqlite_template)
    async with live(url, ManualClock(START), ROLES="receive") as taskbell:
        async with door_to(taskbell.app) as door, door.connected() as client:
            await client.send(java_push(taskbell))
            assert [each.status for each in await client.take(1)] == [200]

        assert len(await taskbell.events()) == 1


def java_push(taskbell: Taskbell) -> bytes:
    """The very bytes of java.net.http.HttpClient (JDK 17), but for the path and the host."""
    body = b'{"task_id":"j1","status":"Success","file_id":"7"}'
    return (
        f"POST {taskbell.path()} HTTP/1.1\r\n"
        "Connection: Upgrade, HTTP2-Settings\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Host: localhost:8000\r\n"
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
        "Upgrade: h2c\r\n"
        "User-Agent: Java-http-client/17.0.15\r\n"
        "Content-Type: application/json\r\n\r\n"
    ).encode() + body
