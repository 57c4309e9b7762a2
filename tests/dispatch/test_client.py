"""The client against real servers on loopback, most of them badly behaved. On both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import socket
import ssl
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dispatch.client import LONGEST_BODY, Client, SendFailed
from dispatch.guard import Guard
from dispatch.sink import Request, Result, sinks
from store.clock import system_clock

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
SHORT = timedelta(seconds=0.3)
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
    guard: Guard | None = None, *, timeout: timedelta = LONG, tls: ssl.SSLContext | None = None
) -> Client:
    return Client(
        guard or Guard(allow=LOOPBACK, resolve=names(["127.0.0.1"])),
        timeout=timeout,
        limit=100,
        user_agent="taskbell/test",
        tls=tls,
    )


def request(port: int, *, host: str = "127.0.0.1", scheme: str = "http") -> Request:
    url = f"{scheme}://{host}:{port}/hook?a=%2F&b=%7e"
    return Request(url, {"content-type": "application/json", "webhook-id": "evt_1"}, b'{"a":1}')


async def failure(client: Client, request: Request) -> SendFailed:
    with pytest.raises(SendFailed) as caught:
        await client.post(request)
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


REDIRECTS = [
    row
    for line in (Path(__file__).parent / "hostile_urls.jsonl").read_text().splitlines()
    if "response" in (row := json.loads(line))
]


@pytest.mark.parametrize("row", REDIRECTS, ids=lambda row: f"{row['id']} {row['description']}")
async def test_hostile_answers_are_failed_attempts_and_go_nowhere_else(row: dict[str, Any]) -> None:
    async with serving(answering(OK)) as canary:
        fields = [("location", f"http://127.0.0.1:{canary.port}/")]
        fields += [(name, value) for name, value in row["response"].get("headers", [])]
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields[-1:] + fields[:1])
        raw = f"HTTP/1.1 {row['response']['status']} x\r\n{lines}content-length: 0\r\n\r\n"
        guard = Guard(
            allow=[ipaddress.ip_network(text) for text in row["allow"]],
            resolve=names(row["dns"]["*"]),
        )

        async with serving(answering(raw.encode())) as server, client(guard) as sender:
            answer = await sender.post(request(server.port, host="hook.good-example.net"))

    outcome = sinks()["webhook"].judge(answer, system_clock())
    assert outcome.result is Result.RETRY
    assert server.connections == 1
    assert canary.connections == 0


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

        assert failed.reason == "timed out after 0.3 s"
        assert not failed.blocked
        assert 0.2 < loop.time() - started < 2


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
        assert 0.2 < loop.time() - started < 2


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
    ],
)
async def test_what_is_not_http_is_a_failure(raw: bytes) -> None:
    async with serving(answering(raw)) as server, client() as sender:
        failed = await failure(sender, request(server.port))

    assert failed.reason == "the answer is not valid HTTP, or its headers are too large"
    assert "hook?" not in "".join(traceback.format_exception(failed))  # a log would keep the URL


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

    assert failed.reason == "timed out after 0.3 s"


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


class Authority:
    """A certificate authority of this test's own, in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "taskbell test")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(system_clock() - timedelta(days=1))
            .not_valid_after(system_clock() + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def server(self, asked: list[str | None]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        context.sni_callback = lambda _, name, __: asked.append(name)
        return context

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))


async def test_tls_is_checked_against_the_name_and_not_the_number(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "hook.example.com")
    asked: list[str | None] = []

    async with (
        serving(answering(OK), authority.server(asked)) as server,
        client(tls=authority.client()) as sender,
    ):
        answer = await sender.post(request(server.port, host="hook.example.com", scheme="https"))

    assert answer.status == 200
    assert asked == ["hook.example.com"]


@pytest.mark.parametrize(
    ("host", "trusted", "words"),
    [
        pytest.param("hook.example.com", False, "self-signed certificate", id="unknown issuer"),
        pytest.param("other.example.com", True, "ostname mismatch", id="another name"),
    ],
)
async def test_a_bad_certificate_is_a_failure(
    tmp_path: Path, host: str, trusted: bool, words: str
) -> None:
    authority = Authority(tmp_path, "hook.example.com")
    requests = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_request(reader)
        requests += 1

    async with (
        serving(count, authority.server([])) as server,
        client(tls=authority.client() if trusted else None) as sender,
    ):
        failed = await failure(sender, request(server.port, host=host, scheme="https"))

    assert failed.reason.startswith("TLS: certificate: ")
    assert words in failed.reason
    assert requests == 0


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
