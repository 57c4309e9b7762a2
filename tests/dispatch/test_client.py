"""The client against real servers on loopback, most of them badly behaved. On both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import socket
import ssl
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dispatch import connection
from dispatch.client import LONGEST_BODY, Client, SendFailed
from dispatch.connection import Connection, Origin
from dispatch.guard import Guard
from dispatch.sink import Answer, Request
from tests.dispatch.certificates import Authority
from tests.patience import PATIENCE_SECONDS

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
SHORT = timedelta(seconds=1)
LONG = timedelta(seconds=10)  # for answers that come at once
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class Server:
    """A raw server: what it was sent, and how often it was called."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0
        self.hung_up = 0

    async def start(self, tls: ssl.SSLContext | None) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._tasks.add(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.hung_up += 1
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(handler)
    listener = await server.start(tls)
    try:
        yield server
    finally:
        listener.close()
        await server.stop()


async def read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """The request line, the headers (lower-case names; a repeated one would fail), the body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *fields = head.strip().split("\r\n")
    pairs = [field.split(": ", 1) for field in fields]
    headers = {name.lower(): value for name, value in pairs}
    assert len(headers) == len(pairs)
    return line, headers, await reader.readexactly(int(headers["content-length"]))


def answering(*raw: bytes) -> Handler:
    """Reads a request, writes the next answer (the last one for ever), reads on."""
    left = list(raw)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            await read_request(reader)
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()

    return handle


def dripping(first: bytes, drop: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(first)
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.01)

    return handle


def names(*answers: Sequence[str]) -> Callable[[str], Awaitable[Sequence[str]]]:
    """A name server: each look-up takes the next answer and repeats the last."""
    left = list(answers)

    async def resolve(_: str) -> Sequence[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


def client(
    guard: Guard | None = None,
    *,
    timeout: timedelta = LONG,
    limit: int = 100,
    tls: ssl.SSLContext | None = None,
) -> Client:
    return Client(
        guard or Guard(allow=LOOPBACK, resolve=names(["127.0.0.1"])),
        timeout=timeout,
        limit=limit,
        user_agent="taskbell/test",
        tls=tls,
    )


def request(port: int, *, host: str = "127.0.0.1", scheme: str = "http") -> Request:
    url = f"{scheme}://{host}:{port}/hook?a=%2F&b=%7e"
    return Request(url, {"content-type": "application/json", "webhook-id": "evt_1"}, b'{"a":1}')


async def failure(client: Client, request: Request, spent: float = 0) -> SendFailed:
    with pytest.raises(SendFailed) as caught:
        await client.post(request, spent=spent)
    return caught.value


async def test_the_request_is_sent_as_rendered_and_nothing_is_added() -> None:
    seen: list[tuple[str, dict[str, str], bytes]] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(OK)

    async with serving(record) as server, client() as sender:
        answer = await sender.post(request(server.port))

    assert seen == [
        (
            "POST /hook?a=%2F&b=%7e HTTP/1.1",
            {
                "host": f"127.0.0.1:{server.port}",
                "user-agent": "taskbell/test",
                "accept-encoding": "identity",
                "content-type": "application/json",
                "content-length": "7",
                "webhook-id": "evt_1",
            },
            b'{"a":1}',
        )
    ]
    assert (answer.status, answer.body) == (200, b"ok")
    assert answer.headers == {"content-length": "2"}
    assert answer.seconds > 0


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", 410),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", 500),
        (b"HTTP/1.0 200 OK\r\n\r\n", 200),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK, 200),
    ],
)
async def test_whatever_the_status_it_is_an_answer(raw: bytes, status: int) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(raw)

    async with serving(once) as server, client() as sender:
        answer = await sender.post(request(server.port))

    assert answer.status == status


async def test_answer_headers_have_lower_case_names_and_are_joined() -> None:
    raw = b"HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nX-A: 1\r\nx-a: 2\r\nX-B: \xff\r\n"

    async with serving(answering(raw + b"Content-Length: 0\r\n\r\n")) as server, client() as sender:
        answer = await sender.post(request(server.port))

    assert answer.headers["retry-after"] == "120"
    assert answer.headers["x-a"] == "1, 2"
    assert answer.headers["x-b"] == "\ufffd"  # fit for a database


async def test_connections_are_kept_for_the_next_delivery() -> None:
    async with serving(answering(OK)) as server, client() as sender:
        for _ in range(3):
            await sender.post(request(server.port))

    assert server.connections == 1


async def _silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(_silence, id="accepts and says nothing"),
        pytest.param(dripping(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n"), id="drips headers"),
        pytest.param(dripping(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), id="endless 1xx"),
    ],
)
async def test_no_status_within_the_deadline_is_a_failure(handler: Handler) -> None:
    async with serving(handler) as server, client(timeout=SHORT) as sender:
        loop = asyncio.get_running_loop()
        started = loop.time()
        failed = await failure(sender, request(server.port))

        assert failed.reason == "timed out after 1 s"
        assert not failed.blocked
        assert loop.time() - started > 0.9


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(
            dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n", b"x"), id="drips its body"
        ),
        pytest.param(
            dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nxx", b""), id="promises too much"
        ),
    ],
)
async def test_a_status_counts_although_its_body_never_ends(handler: Handler) -> None:
    async with serving(handler) as server, client(timeout=SHORT) as sender:
        loop = asyncio.get_running_loop()
        started = loop.time()
        answer = await sender.post(request(server.port))

        assert answer.status == 200
        assert answer.body.startswith(b"xx")
        assert loop.time() - started > 0.9


async def test_a_status_counts_although_its_body_is_cut_short() -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")

    async with serving(half) as server, client() as sender:
        answer = await sender.post(request(server.port))

    assert (answer.status, answer.body) == (200, b"half")


async def test_an_endless_body_is_read_to_64_kib_and_dropped() -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with serving(pour) as server, client() as sender:
        answer = await sender.post(request(server.port))
        again = await sender.post(request(server.port))

    assert answer.status == again.status == 200
    assert answer.body == b"x" * LONGEST_BODY
    assert server.connections == 2  # a half-read connection is not used again


async def test_a_packed_body_is_not_unpacked() -> None:
    packed = b"\x1f\x8b\x08\x00 whatever"
    raw = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n"

    async with serving(answering(raw.encode() + packed)) as server, client() as sender:
        answer = await sender.post(request(server.port))

    assert answer.body == packed


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 2_000_000, id="2 MB header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"x: a\r\n" * 50_000, id="50,000 headers"),
        pytest.param(b"hello\r\n", id="HTTP/0.9"),
        pytest.param(b"\x16\x03\x01\x00\x00\r\n\r\n", id="TLS on a plain port"),
        *(
            pytest.param(f"{begin}{line}\r\ncontent-length: 0\r\n\r\n".encode(), id=line + named)
            for line in (
                *("RTSP/1.0 200 OK", "ICE/1.0 200 OK", "SIP/2.0 200 OK", "ICY 200 OK"),
                *("HTTP/2.0 200 OK", "HTTP/2 200", "HTTP/0.9 200 OK", "HTTP/1.2 200 OK"),
                *("HTTP/3.0 200 OK", "http/1.1 200 OK", "HTTP/1.1 099 No", "HTTP/01.1 200 OK"),
                *("HTTPS/1.1 200 OK", "RTSP/1.1 200 OK", "HTTP/1.10 200 OK", " HTTP/1.1 200 OK"),
            )
            for begin, named in (("", ""), ("HTTP/1.1 103 Hints\r\na: b\r\n\r\n", " after 103"))
        ),
        pytest.param(b"RTSP/1.0 200 OK\r\nno end", id="a head without an end"),
        pytest.param(b"\r\n" * 80_000, id="line breaks only"),
    ],
)
async def test_what_is_not_http_is_a_failure(raw: bytes) -> None:
    async with serving(answering(raw)) as server, client() as sender:
        failed = await failure(sender, request(server.port))

    assert failed.reason == "the answer is not valid HTTP, or its headers are too large"
    assert "hook?" not in "".join(traceback.format_exception(failed))  # a log would keep the URL


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 204 No Content\r\n\r\n",
        b"HTTP/1.1 204\r\n\r\n",
        b"\r\nHTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 103 Hints\r\nlink: a\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 204 x\r\na: b\r\n\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1_000])
async def test_what_is_http_is_read_in_pieces_of_any_size(head: bytes, step: int) -> None:
    connection = Connection(Origin("http", "a.example", 80), lambda _lost: None)
    transport = FakeTransport()
    connection.connection_made(transport)
    loop = asyncio.get_running_loop()
    exchange = asyncio.create_task(connection.exchange(b"", loop.time() + 10))
    await asyncio.sleep(0)

    for start in range(0, len(head), step):
        connection.data_received(head[start : start + step])
    await exchange

    assert connection.status == 204


class FakeTransport(asyncio.Transport):
    """Takes everything and sends nothing."""

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


async def test_a_reset_is_a_failure() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with serving(reset) as server, client() as sender:
        failed = await failure(sender, request(server.port))

    assert failed.reason == "connection reset"


async def test_closing_without_an_answer_is_a_failure() -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with serving(close) as server, client() as sender:
        failed = await failure(sender, request(server.port))

    assert failed.reason == "connection closed without an answer"


async def test_nobody_listening_is_connection_refused() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))

        async with client() as sender:
            failed = await failure(sender, request(closed.getsockname()[1]))

    assert failed.reason == "connection refused"
    assert not failed.blocked


async def test_no_such_host_is_a_failure_that_may_pass() -> None:
    async with client(Guard(resolve=names([]))) as sender:
        failed = await failure(sender, request(8080, host="nobody.example.com"))

    assert failed.reason == "no such host: nobody.example.com"
    assert not failed.blocked


async def test_a_silent_name_server_cannot_outlast_the_deadline() -> None:
    async def silent(_: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with client(Guard(resolve=silent), timeout=SHORT) as sender:
        failed = await failure(sender, request(8080, host="slow.example.com"))

    assert failed.reason == "timed out after 1 s"


async def test_cookies_are_not_kept() -> None:
    seen: list[dict[str, str]] = []

    async def bake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            seen.append((await read_request(reader))[1])
            writer.write(b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n")

    async with serving(bake) as server, client() as sender:
        for _ in range(2):
            await sender.post(request(server.port, host="hook.example.com"))

    assert len(seen) == 2
    assert not any("cookie" in headers for headers in seen)


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(OK)) as proxy, serving(answering(OK)) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with client() as sender:
            await sender.post(request(server.port, host="hook.example.com"))

    assert (proxy.connections, server.connections) == (0, 1)


@pytest.mark.parametrize(
    ("host", "answers"),
    [
        pytest.param("127.0.0.1", [], id="a literal address"),
        pytest.param("hook.example.com", ["127.0.0.1"], id="a name"),
        pytest.param("hook.example.com", ["93.184.216.34", "127.0.0.1"], id="mixed answers"),
        pytest.param("localhost", ["127.0.0.1"], id="a local name"),
    ],
)
async def test_closed_addresses_are_not_connected_to(host: str, answers: list[str]) -> None:
    guard = Guard(resolve=names(answers))

    async with serving(answering(OK)) as canary, client(guard) as sender:
        failed = await failure(sender, request(canary.port, host=host))

        assert failed.reason.startswith("address refused: ")
        assert failed.blocked
        assert canary.connections == 0


async def test_a_name_that_moves_inside_after_it_was_checked_is_not_connected_to() -> None:
    guard = Guard(resolve=names(["93.184.216.34"], ["127.0.0.1"]))

    async with serving(answering(OK)) as canary, client(guard) as sender:
        moving = request(canary.port, host="rebind.example.com")
        await guard.check(moving.url)
        failed = await failure(sender, moving)

        assert failed.blocked
        assert canary.connections == 0


class Credulous(Guard):
    """A guard that forgets to check what a name resolves to."""

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self._answers = answers

    async def addresses(self, host: str, port: int) -> list[str]:
        return list(self._answers)


@pytest.mark.parametrize(
    "answers", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"], ["::1", "127.0.0.1"]]
)
async def test_the_socket_is_the_last_line_of_defence(answers: list[str]) -> None:
    async with serving(answering(OK)) as canary, client(Credulous(*answers)) as sender:
        failed = await failure(sender, request(canary.port, host="hook.example.com"))

        assert failed.blocked
        assert canary.connections == 0


async def test_our_own_callbacks_are_not_delivered_to() -> None:
    async with serving(answering(OK)) as ourselves:
        own = [("127.0.0.1", ourselves.port)]
        guard = Guard(allow=LOOPBACK, own=own, resolve=names(["127.0.0.1"]))
        async with client(guard) as sender:
            failed = await failure(sender, request(ourselves.port, host="loop.example.com"))

    assert failed.blocked
    assert ourselves.connections == 0


async def test_tls_is_checked_against_the_name_and_not_the_number(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "hook.example.com")
    asked: list[str | None] = []

    async with (
        serving(answering(OK), authority.server(asked.append)) as server,
        client(tls=authority.client()) as sender,
    ):
        answer = await sender.post(request(server.port, host="hook.example.com", scheme="https"))

    assert answer.status == 200
    assert asked == ["hook.example.com"]


@pytest.mark.parametrize(
    ("host", "trusted", "expired", "words"),
    [
        pytest.param("hook.example.com", False, False, "self-signed", id="unknown issuer"),
        pytest.param("other.example.com", True, False, "ostname mismatch", id="another name"),
        pytest.param("hook.example.com", True, True, "has expired", id="expired"),
    ],
)
async def test_a_bad_certificate_is_a_failure(
    tmp_path: Path, host: str, trusted: bool, expired: bool, words: str
) -> None:
    authority = Authority(tmp_path, "hook.example.com", expired=expired)
    requests = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_request(reader)
        requests += 1

    async with (
        serving(count, authority.server()) as server,
        client(tls=authority.client() if trusted else None) as sender,
    ):
        failed = await failure(sender, request(server.port, host=host, scheme="https"))

    assert failed.reason.startswith("TLS: certificate: ")
    assert words in failed.reason
    assert requests == 0


@pytest.mark.parametrize("alternative", [None, "IP", "mail"])
async def test_a_host_in_the_common_name_only_is_a_failure(
    tmp_path: Path, alternative: str | None
) -> None:
    others = {None: [], "IP": ["192.0.2.1"], "mail": ["hook@example.com"]}[alternative]
    authority = Authority(
        tmp_path, "hook.example.com", common_name="hook.example.com", names=others
    )

    async with (
        serving(answering(OK), authority.server()) as server,
        client(tls=authority.client()) as sender,
    ):
        failed = await failure(
            sender, request(server.port, host="hook.example.com", scheme="https")
        )

    assert failed.reason.startswith("TLS: certificate: Hostname mismatch")


async def test_a_plain_server_behind_https_is_a_failure() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(plain) as server, client() as sender:
        failed = await failure(sender, request(server.port, scheme="https"))

    assert failed.reason.startswith("TLS: ")


async def test_a_client_that_sent_nothing_can_be_closed() -> None:
    async with client():
        pass


NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
BY_CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "status", "body", "kept"),
    [
        pytest.param(NO_CONTENT, 204, b"", True, id="204"),
        pytest.param(
            b"HTTP/1.1 304 No\r\ncontent-length: 9\r\n\r\n", 304, b"", True, id="304 with a length"
        ),
        pytest.param(BY_CHUNKS + b"2\r\nok\r\n0\r\n\r\n", 200, b"ok", True, id="chunks"),
        pytest.param(
            BY_CHUNKS + b"1;a=b\r\no\r\n1\r\nk\r\n0\r\nx-a: b\r\n\r\n",
            200,
            b"ok",
            True,
            id="chunks with extensions and a trailer",
        ),
        pytest.param(b"HTTP/1.1 103 E\r\nx-a: b\r\n\r\n" * 9 + OK, 200, b"ok", True, id="1xx"),
        pytest.param(
            b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", False, id="HTTP/1.0"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
            200,
            b"ok",
            False,
            id="Connection: close",
        ),
        pytest.param(
            b"HTTP/1.1 101 Now\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n\0\0",
            101,
            b"",
            False,
            id="another protocol",
        ),
        pytest.param(OK + OK, 200, b"ok", False, id="an answer too many"),
        pytest.param(OK + b"\0", 200, b"ok", False, id="a byte too many"),
        pytest.param(BY_CHUNKS + b"2\r\nok\r\nx\r\n", 200, b"ok", False, id="bad chunk"),
    ],
)
async def test_answers_are_framed_as_http_says(
    raw: bytes, status: int, body: bytes, kept: bool
) -> None:
    async with serving(answering(raw)) as server, client() as sender:
        for _ in range(2):
            answer = await sender.post(request(server.port))

            assert (answer.status, answer.body) == (status, body)
            assert "x-a" not in answer.headers  # neither from a 1xx answer nor from a trailer

    assert server.connections == (1 if kept else 2)


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    async with serving(once) as server, client() as sender:
        answer = await sender.post(request(server.port))

    assert (answer.status, answer.body) == (200, b"all of it")


async def test_an_answer_may_come_byte_by_byte() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for byte in BY_CHUNKS + b"2\r\nok\r\n0\r\n\r\n":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async with serving(drip) as server, client() as sender:
        answer = await sender.post(request(server.port))

    assert (answer.status, answer.body) == (200, b"ok")


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        pytest.param([b"x: " + b"a" * 8_000], True, id="a long header"),
        pytest.param([b"x: " + b"a" * 8_192], False, id="a header over 8 KiB"),
        pytest.param([b"x: a"] * 199, True, id="many headers"),
        pytest.param([b"x: a"] * 200, False, id="over 200 headers"),
        pytest.param([b"x: " + b"a" * 8_000] * 8, True, id="a long head"),
        pytest.param([b"x: " + b"a" * 8_000] * 9, False, id="a head over 64 KiB"),
        pytest.param([b"a b: c"], False, id="a blank in a name"),
        pytest.param([b"content-length: 5"], False, id="two lengths"),
        pytest.param([b"transfer-encoding: chunked"], False, id="two framings"),
    ],
)
async def test_headers_are_bounded_and_strictly_read(fields: list[bytes], fits: bool) -> None:
    raw = b"\r\n".join([b"HTTP/1.1 200 OK", *fields, b"content-length: 0", b"", b""])

    async with serving(answering(raw)) as server, client() as sender:
        if fits:
            assert (await sender.post(request(server.port))).status == 200
        else:
            failed = await failure(sender, request(server.port))
            assert failed.reason == ("the answer is not valid HTTP, or its headers are too large")


@pytest.mark.parametrize(
    "drop",
    [
        pytest.param(b"1\r\nx\r\n" * 1000, id="small chunks"),
        pytest.param(b"1;" + b"x" * 6000 + b"\r\nx\r\n", id="large extensions"),
        pytest.param(b"0\r\nx: " + b"x" * 6000, id="a trailer that never ends"),
    ],
)
async def test_reading_stops_however_little_of_it_is_body(drop: bytes) -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(BY_CHUNKS + drop)
        while True:
            writer.write(drop.removeprefix(b"0\r\nx: "))
            await writer.drain()

    async with serving(pour) as server, client() as sender:
        answer = await sender.post(request(server.port))

    assert answer.status == 200


async def test_whatever_comes_back_is_an_answer_or_a_failure() -> None:
    dice = random.Random(0)
    good = [OK, NO_CONTENT, BY_CHUNKS + b"2\r\nok\r\n0\r\n\r\n", b"HTTP/1.1 103 E\r\n\r\n" + OK]

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        raw = bytearray(dice.choice(good) * 2)
        for _ in range(dice.randrange(4)):
            raw[dice.randrange(len(raw))] = dice.randrange(256)
        cut = dice.randrange(len(raw))
        writer.write(raw[:cut])
        await asyncio.sleep(0)
        writer.write(raw[cut : dice.randrange(cut, len(raw) + 1)])

    async with serving(babble) as server, client() as sender:
        ends = await asyncio.gather(
            *(sender.post(request(server.port)) for _ in range(300)), return_exceptions=True
        )

    assert {type(end) for end in ends} == {Answer, SendFailed}


def told_of_the_end(first: bytes, ended: asyncio.Event) -> Handler:
    """Answers once, and tells when the client has closed."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(first)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended.set()

    return handle


@pytest.mark.parametrize("last", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"\r\n"])
async def test_a_connection_that_was_closed_while_idle_is_not_used_again(last: bytes) -> None:
    closing = asyncio.Event()

    async def close_when_told(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await closing.wait()
        writer.write(last)

    async with serving(close_when_told) as server, client() as sender:
        await sender.post(request(server.port))
        closing.set()
        for _ in range(20):  # for the news to arrive
            await asyncio.sleep(0)
        answer = await sender.post(request(server.port))

    assert answer.status == 200
    assert server.connections == 2


async def test_an_idle_connection_is_closed_before_the_other_side_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "_REST_SECONDS", 0.05)
    ended = asyncio.Event()

    async with serving(told_of_the_end(OK, ended)) as server, client() as sender:
        await sender.post(request(server.port))

        await asyncio.wait_for(ended.wait(), PATIENCE_SECONDS)


async def test_a_connection_that_idled_for_too_long_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(answering(OK)) as server, client() as sender:
        await sender.post(request(server.port))
        monkeypatch.setattr(connection, "_REST_SECONDS", 0)  # its timer is late
        await sender.post(request(server.port))

    assert server.connections == 2


async def test_a_connection_whose_request_was_not_taken_in_is_not_used_again() -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        await asyncio.Event().wait()

    async with serving(early) as server, client() as sender:
        large = Request(request(server.port).url, {}, b"x" * 20_000_000)
        for _ in range(2):
            assert (await sender.post(large)).status == 200

    assert server.connections == 2


async def test_idle_connections_make_room_for_another_host() -> None:
    ended = asyncio.Event()

    async with (
        serving(told_of_the_end(OK, ended)) as first,
        serving(answering(OK)) as second,
        client(timeout=timedelta(seconds=2), limit=1) as sender,  # idle ones are kept for longer
    ):
        await sender.post(request(first.port))
        answer = await sender.post(request(second.port))
        await asyncio.wait_for(ended.wait(), PATIENCE_SECONDS)

    assert answer.status == 200


async def test_no_more_connections_are_in_use_than_allowed() -> None:
    busy = most = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal busy, most
        while not reader.at_eof():
            await read_request(reader)
            busy += 1
            most = max(most, busy)
            await asyncio.sleep(0)
            busy -= 1
            writer.write(OK)

    soon = timedelta(seconds=2)  # before idle connections are closed for their age
    async with serving(count) as server, client(timeout=soon, limit=3) as sender:
        hosts = [f"hook{number % 7}.example.com" for number in range(40)]
        answers = await asyncio.gather(
            *(sender.post(request(server.port, host=host)) for host in hosts)
        )

    assert {answer.status for answer in answers} == {200}
    assert most <= 3


async def test_waiting_for_a_place_is_part_of_the_attempt() -> None:
    reached = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        await _silence(reader, writer)

    async with serving(silent) as server, client(timeout=SHORT, limit=1) as sender:
        first = asyncio.ensure_future(failure(sender, request(server.port)))
        await reached.wait()
        # its time is over before the first one frees the place
        second = await failure(sender, request(server.port), spent=0.5)
        connections = server.connections
        await first

    assert second.reason == "timed out after 1 s"
    assert connections == 1


async def test_what_an_attempt_has_spent_is_gone() -> None:
    async with serving(_silence) as server, client(timeout=timedelta(seconds=30)) as sender:
        with pytest.raises(SendFailed, match="timed out after 30 s"):
            await sender.post(request(server.port), spent=29.9)


async def test_the_next_address_is_tried_when_one_refuses() -> None:
    guard = Guard(allow=LOOPBACK, resolve=names(["127.0.0.2", "127.0.0.1"]))

    async with serving(answering(OK)) as server, client(guard) as sender:
        answer = await sender.post(request(server.port, host="hook.example.com"))

    assert answer.status == 200


async def test_a_dead_first_address_does_not_use_up_the_time() -> None:
    guard = Guard(allow=LOOPBACK, resolve=names(["127.0.0.2", "127.0.0.1"]))

    async with serving(answering(OK)) as server, client(guard, timeout=timedelta(seconds=1)) as c:
        with contextlib.ExitStack() as sockets:
            deaf = sockets.enter_context(socket.socket())
            deaf.bind(("127.0.0.2", server.port))
            deaf.listen(0)
            for _ in range(3):  # its queue is full: the kernel lets further ones wait
                waiting = sockets.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.2", server.port))
            answer = await c.post(request(server.port, host="hook.example.com"))

    assert answer.status == 200
    assert answer.seconds > 0.4


async def test_a_name_is_looked_up_once_for_all_who_ask() -> None:
    lookups = 0

    async def resolve(_: str) -> Sequence[str]:
        nonlocal lookups
        lookups += 1
        await asyncio.sleep(0)
        return ["127.0.0.1"] if lookups > 1 else []

    async with (
        serving(answering(OK)) as server,
        client(Guard(allow=LOOPBACK, resolve=resolve)) as sender,
    ):
        post = request(server.port, host="hook.example.com")
        failed = await asyncio.gather(*(failure(sender, post) for _ in range(3)))
        await asyncio.gather(*(sender.post(post) for _ in range(3)))

    assert {each.reason for each in failed} == {"no such host: hook.example.com"}
    assert lookups == 2  # an answer is remembered, a failure is not


def keeping_silent(arrived: asyncio.Event, ended: asyncio.Event) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended.set()

    return handle


async def test_a_canceled_post_closes_its_connection() -> None:
    arrived, ended = asyncio.Event(), asyncio.Event()

    async with serving(keeping_silent(arrived, ended)) as server, client(limit=1) as sender:
        for _ in range(2):  # and gives its place back
            ended.clear()
            arrived.clear()
            post = asyncio.ensure_future(sender.post(request(server.port)))
            await asyncio.wait_for(arrived.wait(), PATIENCE_SECONDS)
            post.cancel()
            await asyncio.wait_for(ended.wait(), PATIENCE_SECONDS)
            assert post.cancelled()


async def test_a_handshake_that_never_ends_is_cut_off() -> None:
    ended = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended.set()

    async with serving(say_nothing) as server, client(timeout=SHORT, limit=1) as sender:
        for _ in range(2):
            failed = await failure(sender, request(server.port, scheme="https"))
            assert failed.reason == "timed out after 1 s"
            await asyncio.wait_for(ended.wait(), PATIENCE_SECONDS)


async def test_closing_the_client_closes_what_is_open() -> None:
    idle_ended, arrived, busy_ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async with (
        serving(told_of_the_end(OK, idle_ended)) as server,
        serving(keeping_silent(arrived, busy_ended)) as busy,
    ):
        sender = client()
        await sender.post(request(server.port))
        pending = asyncio.ensure_future(failure(sender, request(busy.port)))
        await asyncio.wait_for(arrived.wait(), PATIENCE_SECONDS)
        await sender.close()

        await asyncio.wait_for(idle_ended.wait(), PATIENCE_SECONDS)
        await asyncio.wait_for(busy_ended.wait(), PATIENCE_SECONDS)
        assert (await pending).reason == "connection closed without an answer"


async def test_tls_connections_are_kept_and_closed_too(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "hook.example.com")
    ended = asyncio.Event()

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await read_request(reader)
            writer.write(OK)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await reader.read()
        ended.set()

    async with serving(twice, authority.server()) as server:
        async with client(tls=authority.client()) as sender:
            for _ in range(2):
                await sender.post(request(server.port, host="hook.example.com", scheme="https"))
        await asyncio.wait_for(ended.wait(), PATIENCE_SECONDS)

    assert server.connections == 1


@pytest.mark.parametrize("value", ["a\r\nx-b: c", "a\nb", "a\rb", "a\0b"])
@pytest.mark.parametrize("place", ["name", "value"])
async def test_a_header_that_would_become_two_is_not_sent(place: str, value: str) -> None:
    async with serving(answering(OK)) as server, client() as sender:
        headers = {value: "a"} if place == "name" else {"x-a": value}
        failed = await failure(sender, Request(request(server.port).url, headers, b""))

    assert failed.reason == "a header holds a line break or NUL"
    assert server.connections == 0


@pytest.mark.parametrize(
    ("rest", "path"),
    [
        ("", "/"),
        ("?a=b", "/?a=b"),
        ("/a//b/../c;d?e=/?f", "/a//b/../c;d?e=/?f"),
        ('/%7e%2F/{}|"', '/%7e%2F/{}|"'),
        ("/a?b#c?d", "/a?b"),
        ("#c", "/"),
    ],
)
async def test_the_path_is_sent_as_written_without_its_fragment(rest: str, path: str) -> None:
    seen: list[str] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await read_request(reader))[0])
        writer.write(OK)

    async with serving(record) as server, client() as sender:
        await sender.post(Request(f"http://127.0.0.1:{server.port}{rest}", {}, b""))

    assert seen == [f"POST {path} HTTP/1.1"]


@pytest.mark.parametrize(
    ("written", "sent"),
    [("Hook.Example.com", "Hook.Example.com"), ("hook.example.com.", "hook.example.com")],
)
async def test_the_host_is_sent_as_written_without_a_final_dot(written: str, sent: str) -> None:
    seen: list[str] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await read_request(reader))[1]["host"])
        writer.write(OK)

    async with serving(record) as server, client() as sender:
        await sender.post(request(server.port, host=written))

    assert seen == [f"{sent}:{server.port}"]


async def test_an_ipv6_address_keeps_its_brackets() -> None:
    seen: list[str] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await read_request(reader))[1]["host"])
        writer.write(OK)
        writer.close()

    try:
        listener = await asyncio.start_server(record, "::1", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    port = listener.sockets[0].getsockname()[1]
    async with client(Guard(allow=[ipaddress.ip_network("::1/128")])) as sender:
        answer = await sender.post(request(port, host="[::1]"))
    listener.close()

    assert answer.status == 200
    assert seen == [f"[::1]:{port}"]
