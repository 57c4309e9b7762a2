"""Asking a provider: what goes out, and what every kind of answer becomes."""

import asyncio
import contextlib
import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from receiver.asking import MAX_ANSWER_BYTES, HttpAsker, refuse
from receiver.failures import Blame
from receiver.provider import Answer, Asker, ProviderError
from store.clock import ManualClock
from store.text import CUT
from tests.patience import PATIENCE_SECONDS

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
KEY = "sk-very-secret"


def asker_over(transport: httpx.AsyncBaseTransport | None, **changes: Any) -> HttpAsker:
    values: dict[str, Any] = {
        "base_url": "https://api.example/v1",
        "api_key": KEY,
        "user_agent": "taskbell/1.2.3",
        "concurrency": 2,
    } | changes
    return HttpAsker(**values, clock=ManualClock(NOW), transport=transport)


def asker_of(
    answer: httpx.Response | Exception | Callable[[httpx.Request], Any], **changes: Any
) -> HttpAsker:
    """An asker whose provider answers so."""

    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        response: httpx.Response = answer(request) if callable(answer) else answer
        return response

    return asker_over(httpx.MockTransport(handle), **changes)


class Stream(httpx.AsyncByteStream):
    """A body that comes in pieces."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._pieces:
            yield piece


async def error_of(asker: Asker, path: str = "/tasks") -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await asker.get(path, {"taskid": "private-id"})
    assert KEY not in str(caught.value)
    assert "private-id" not in str(caught.value)
    return caught.value


async def test_a_question_goes_below_the_base_url_with_key_and_name() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"a": 1}, headers={"X-Request-ID": "r1"})

    got = await asker_of(answer).get("/tasks", {"taskid": "a b&c"})

    assert got.status == 200
    assert got.body == {"a": 1}
    assert got.headers["x-request-id"] == "r1"
    assert str(asked[0].url) == "https://api.example/v1/tasks?taskid=a+b%26c"
    assert asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert asked[0].headers["user-agent"] == "taskbell/1.2.3"
    assert asked[0].headers["accept"] == "application/json"
    assert asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("api_key", [None, ""])
async def test_without_a_key_there_is_no_authorization(api_key: str | None) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={})

    await asker_over(httpx.MockTransport(answer), api_key=api_key).get("/")

    assert "authorization" not in asked[0].headers


@pytest.mark.parametrize("api_key", ["sk\nhidden", "sk hidden", "sk-元境"])
def test_a_key_no_header_can_carry_is_refused_and_not_quoted(api_key: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII") as caught:
        asker_over(None, api_key=api_key)

    assert "sk" not in str(caught.value)


@pytest.mark.parametrize("path", ["https://evil.example/x", "tasks", "", "//evil.example/x"])
async def test_the_key_never_goes_to_another_host(path: str) -> None:
    hosts: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return httpx.Response(200, json={})

    asker = asker_of(answer)
    if path.startswith("//"):
        await asker.get(path)
    else:
        with pytest.raises(ValueError, match="slash"):
            await asker.get(path)

    assert set(hosts) <= {"api.example"}


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (httpx.ConnectError("no such name"), "unreachable"),
        (httpx.ReadError("reset"), "unreachable"),
        (httpx.RemoteProtocolError("half an answer"), "unreachable"),
        (httpx.ConnectTimeout("slow"), "timeout"),
        (httpx.ReadTimeout("slow"), "timeout"),
        (httpx.PoolTimeout("busy"), "timeout"),
    ],
)
async def test_trouble_on_the_way_is_the_providers_not_the_tasks(
    failure: Exception, code: str
) -> None:
    error = await error_of(asker_of(failure))

    assert (error.code, error.blame, error.permanent) == (code, Blame.WAY, False)
    assert str(error).startswith("GET api.example: ")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(httpx.Response(200, html="<html>hello"), "not_json", id="HTML"),
        pytest.param(httpx.Response(200), "not_json", id="empty"),
        pytest.param(httpx.Response(200, text='{"a":1,"a":2}'), "not_json", id="repeated key"),
        pytest.param(httpx.Response(200, text='{"a": NaN}'), "not_json", id="NaN"),
        pytest.param(httpx.Response(200, text="[" * 200), "not_json", id="deep"),
    ],
)
async def test_a_200_without_readable_json_is_trouble_on_the_way(
    answer: httpx.Response, code: str
) -> None:
    error = await error_of(asker_of(answer))

    assert (error.code, error.blame, error.permanent) == (code, Blame.WAY, False)


def owned(_status: int, body: Any) -> bool:
    return isinstance(body, dict) and "own" in body


@pytest.mark.parametrize(
    ("text", "code", "permanent"),
    [
        pytest.param('{"own": NaN}', "not_json", False, id="NaN"),
        pytest.param('{"own": 1e999}', "not_json", False, id="beyond a float"),
        pytest.param('{"own": 1, "own": 2}', "not_json", False, id="repeated key"),
        pytest.param('{"own": ' + "[" * 99 + "]" * 99 + "}", "not_json", False, id="deep"),
        pytest.param('{"own": [' + "1," * 13_000 + "1]}", "too_large", True, id="many values"),
    ],
)
async def test_what_is_wrong_in_the_providers_own_answer_is_its_tasks_trouble(
    text: str, code: str, permanent: bool
) -> None:
    error = await error_of(asker_of(httpx.Response(200, text=text), owns=owned))

    assert (error.code, error.blame, error.permanent) == (code, Blame.TASK, permanent)


def streamed(raw: bytes, **headers: str) -> httpx.Response:
    """An answer as it comes over the network, which httpx leaves alone."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(raw), 65_536):
            yield raw[start : start + 65_536]

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(200, headers=named, stream=Stream(pieces()))


SAID = {"status": "completed", "说": "好"}
TEXT = json.dumps(SAID, ensure_ascii=False)


def _deflated(raw: bytes, bits: int) -> bytes:
    made = zlib.compressobj(wbits=bits)
    return made.compress(raw) + made.flush()


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        pytest.param(gzip.compress(TEXT.encode()), "gzip", id="gzip"),
        pytest.param(gzip.compress(TEXT.encode()), "X-GZip", id="x-gzip"),
        pytest.param(
            gzip.compress(TEXT.encode()[:9]) + gzip.compress(TEXT.encode()[9:]),
            "gzip",
            id="two gzip members",
        ),
        pytest.param(zlib.compress(TEXT.encode()), "deflate", id="deflate with a zlib header"),
        pytest.param(_deflated(TEXT.encode(), -15), "deflate", id="raw deflate"),
        pytest.param(gzip.compress(zlib.compress(TEXT.encode())), "deflate, gzip", id="both"),
        pytest.param(TEXT.encode(), "identity", id="identity"),
        pytest.param(TEXT.encode(), "", id="nothing"),
        pytest.param(gzip.compress(b"\xef\xbb\xbf" + TEXT.encode()), "gzip", id="a mark inside"),
    ],
)
async def test_an_encoding_nobody_asked_for_is_read(raw: bytes, encoding: str) -> None:
    got = await asker_of(streamed(raw, content_encoding=encoding)).get("/tasks")

    assert got.body == SAID


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        pytest.param(b"\x0b\x02\x80{}\x03", "br", id="Brotli"),
        pytest.param(b"(\xb5/\xfd", "zstd", id="Zstandard"),
        pytest.param(b"{}", "gzip", id="not compressed at all"),
        pytest.param(gzip.compress(TEXT.encode())[:-9], "gzip", id="broken off"),
        pytest.param(_deflated(TEXT.encode(), -15)[:-3], "deflate", id="raw deflate, broken off"),
        pytest.param(gzip.compress(b"{}"), "gzip, gzip, gzip", id="three layers"),
    ],
)
async def test_an_encoding_that_cannot_be_read_is_trouble_on_the_way(
    raw: bytes, encoding: str
) -> None:
    error = await error_of(asker_of(streamed(raw, content_encoding=encoding)))

    assert (error.code, error.blame) == ("not_json", Blame.WAY)
    assert "bod" in str(error)


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        pytest.param(b"\xef\xbb\xbf" + TEXT.encode(), "application/json", id="UTF-8 with a mark"),
        pytest.param(TEXT.encode("utf-16"), "application/json", id="UTF-16 with a mark"),
        pytest.param(TEXT.encode("utf-16-le"), "application/json; charset=utf-16le", id="UTF-16"),
        pytest.param(TEXT.encode("gbk"), "application/json; charset=GBK", id="GBK"),
        pytest.param(TEXT.encode("gb18030"), 'text/json;charset="gb18030"', id="quoted charset"),
        pytest.param(
            TEXT.encode(), "application/json; charset=iso-8859-1", id="UTF-8 all the same"
        ),
        pytest.param(TEXT.encode(), "application/json; charset=rot13", id="no charset at all"),
    ],
)
async def test_a_charset_that_json_does_not_have_is_read(raw: bytes, content_type: str) -> None:
    got = await asker_of(streamed(raw, content_type=content_type)).get("/tasks")

    assert got.body == SAID


async def test_bytes_of_no_charset_are_trouble() -> None:
    for charset in ("", "; charset=unicode_escape", "; charset=utf-8"):
        answer = streamed(b'{"a": "\xb0\xa1\xff"}', content_type=f"application/json{charset}")

        assert (await error_of(asker_of(answer))).code == "not_json"


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("size", [MAX_ANSWER_BYTES + 1, 5 * MAX_ANSWER_BYTES])
async def test_a_large_answer_is_read_with_its_long_strings_cut(size: int, encoding: str) -> None:
    inline = "data:image/png;base64," + "A" * size
    raw = json.dumps({"own": 1, "outputs": [inline], "status": "completed"}).encode()
    packed = gzip.compress(raw) if encoding == "gzip" else raw

    got = await asker_of(streamed(packed, content_encoding=encoding), owns=owned).get("/tasks")

    assert not got.cut
    assert got.body["status"] == "completed"
    assert len(got.body["outputs"][0]) < 9_000
    assert got.body["outputs"][0].endswith(CUT)


async def test_what_is_larger_still_is_read_as_far_as_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("receiver.asking.MAX_READ_BYTES", 2 * MAX_ANSWER_BYTES)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'{"own": 1, "status": "completed", "outputs": ["'
        while True:
            sent += 1
            yield b"x" * 65_536

    answer = httpx.Response(200, stream=Stream(endless()))
    got = await asker_of(lambda _: answer, owns=owned).get("/tasks")

    assert got.cut
    assert got.body["status"] == "completed"
    assert sent == 2 * MAX_ANSWER_BYTES // 65_536


async def test_a_bomb_is_inflated_as_far_as_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.asking.MAX_READ_BYTES", 2 * MAX_ANSWER_BYTES)
    bomb = gzip.compress(b'{"own": 1, "a": "' + b"x" * 20 * MAX_ANSWER_BYTES)
    answer = streamed(gzip.compress(bomb), content_encoding="gzip, gzip")

    tracemalloc.start()
    try:
        got = await asker_of(lambda _: answer, owns=owned).get("/tasks")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert got.cut
    assert most < 8 * MAX_ANSWER_BYTES


async def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(302, headers={"location": "https://evil.example/?k=hidden"})

    error = await error_of(asker_of(answer))

    assert (error.code, error.blame) == ("redirect", Blame.WAY)
    assert "evil" not in str(error)
    assert asked == ["api.example"]


async def test_a_named_status_comes_back_as_an_answer() -> None:
    asker = asker_of(httpx.Response(500, json={"message": "record not found"}))

    got = await asker.get("/tasks", raw_statuses=(404, 500))

    assert isinstance(got, Answer)
    assert (got.status, got.body) == (500, {"message": "record not found"})


@pytest.mark.parametrize("status", [200, 404])
async def test_a_named_status_without_json_has_no_body(status: int) -> None:
    asker = asker_of(httpx.Response(status, html="<h1>gone</h1>"))

    got = await asker.get("/tasks", raw_statuses=(200, 404))

    assert (got.status, got.body) == (status, None)


async def test_a_status_that_was_not_named_is_an_error() -> None:
    asker = asker_of(httpx.Response(500, json={}))

    with pytest.raises(ProviderError):
        await asker.get("/tasks", raw_statuses=(404,))


async def test_the_wait_of_a_429_reaches_the_error() -> None:
    error = await error_of(asker_of(httpx.Response(429, headers={"Retry-After": "7"})))

    assert (error.code, error.retry_after) == ("rate_limited", timedelta(seconds=7))


@pytest.mark.parametrize("path", ["/tasks/\x00", "/" + "x" * 70_000, "/\ud800"])
async def test_a_path_no_url_can_hold_is_a_permanent_error(path: str) -> None:
    error = await error_of(asker_of(httpx.Response(200, json={})), path)

    assert (error.code, error.permanent, error.blame) == ("bad_id", True, Blame.TASK)


@pytest.mark.parametrize(
    ("status", "headers", "code", "permanent", "blame", "seconds"),
    [
        pytest.param(429, {"retry-after": "30"}, "rate_limited", False, "provider", 30, id="429"),
        pytest.param(429, {}, "rate_limited", False, "provider", None, id="429, no wait given"),
        pytest.param(
            429, {"retry-after": "x"}, "rate_limited", False, "provider", None, id="429, odd"
        ),
        pytest.param(500, {}, "unavailable", False, "provider", None, id="500"),
        pytest.param(503, {"retry-after": "5"}, "unavailable", False, "provider", 5, id="503"),
        pytest.param(
            503,
            {"retry-after": "Fri, 20 Nov 2026 12:01:00 GMT"},
            "unavailable",
            False,
            "provider",
            60,
            id="503 with a date",
        ),
        pytest.param(
            529, {}, "unavailable", False, "provider", None, id="529: MiniMax is overloaded"
        ),
        pytest.param(401, {}, "key_refused", False, "key", None, id="401"),
        pytest.param(403, {}, "key_refused", False, "key", None, id="403"),
        pytest.param(402, {}, "balance", False, "key", None, id="402"),
        pytest.param(404, {}, "not_found", True, "task", None, id="404"),
        pytest.param(408, {}, "not_now", False, "task", None, id="408"),
        pytest.param(425, {"retry-after": "1"}, "not_now", False, "task", 1, id="425"),
        pytest.param(400, {}, "refused", True, "task", None, id="400"),
        pytest.param(422, {}, "refused", True, "task", None, id="422"),
        pytest.param(451, {}, "refused", True, "task", None, id="451"),
        pytest.param(301, {}, "redirect", False, "way", None, id="301"),
        pytest.param(304, {}, "redirect", False, "way", None, id="304"),
        pytest.param(202, {}, "not_now", False, "task", None, id="202"),
        pytest.param(204, {}, "not_now", False, "task", None, id="204"),
    ],
)
def test_a_status_carries_the_next_decision(
    status: int,
    headers: dict[str, str],
    code: str,
    permanent: bool,
    blame: str,
    seconds: int | None,
) -> None:
    error = refuse(status, headers, None, NOW, own=True)

    assert (error.code, error.permanent, error.blame) == (code, permanent, blame)
    assert error.retry_after == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize("status", [202, 204, 301, *range(400, 432), 451, 499, 500, 502, 521, 599])
def test_what_something_else_says_in_the_providers_place_is_never_final(status: int) -> None:
    error = refuse(status, {"retry-after": "7"}, {"message": "Not Found"}, NOW, own=False)

    assert (error.blame, error.permanent) == (Blame.WAY, False)
    if status < 500 and status not in (301, 429):
        assert error.code == "foreign_answer"
        assert "the base URL is wrong" in str(error)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({"code": 400, "msg": "bad size"}, "GET: 400 (bad size)", id="msg"),
        pytest.param({"message": "bad size"}, "GET: 400 (bad size)", id="message"),
        pytest.param({"error": "bad size"}, "GET: 400 (bad size)", id="error"),
        pytest.param({"error": {"message": "bad size"}}, "GET: 400 (bad size)", id="nested"),
        pytest.param({"msg": "", "error": "bad size"}, "GET: 400 (bad size)", id="empty first"),
        pytest.param({"error": ["x"], "msg": 5}, "GET: 400", id="no text"),
        pytest.param(["bad size"], "GET: 400", id="list"),
        pytest.param("bad size", "GET: 400", id="plain text"),
        pytest.param(None, "GET: 400", id="no JSON"),
        pytest.param(
            {"msg": "a\r\nb\x1b[31m\ud800\u202ec"}, "GET: 400 (ab[31mc)", id="control characters"
        ),
        pytest.param(
            {"msg": "no file at https://a.example/f?sig=hidden now"},
            "GET: 400 (no file at https://a.example/f?… now)",
            id="signed URL",
        ),
        pytest.param(
            {"msg": "x" * 9_000}, f"GET: 400 ({'x' * 168}… (1,832 more are cut))", id="long"
        ),
    ],
)
def test_an_error_quotes_only_a_short_clean_message(body: Any, message: str) -> None:
    assert str(refuse(400, {}, body, NOW, own=True)) == message


def test_a_refused_key_is_not_quoted_back() -> None:
    error = refuse(401, {}, {"error": f"wrong key {KEY}"}, NOW, own=True, asked="GET api.example")

    assert str(error) == "GET api.example: 401, the API key was refused"


Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


async def ask_over_a_socket(peer: Peer, deadline: float = 0.1) -> ProviderError:
    """Ask a peer on a real socket, with a deadline far below httpx's own time-outs."""
    server = await asyncio.start_server(peer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    asker = asker_over(None, base_url=f"http://127.0.0.1:{port}", deadline_seconds=deadline)
    try:
        # httpx alone would wait 15 s
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await error_of(asker)
    finally:
        await asker.close()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: ", id="half a header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", id="half a body"),
    ],
)
async def test_a_drip_ends_at_the_deadline(beginning: bytes) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(beginning)
        await reader.read(-1)  # until we hang up
        writer.close()

    assert (await ask_over_a_socket(drip)).code == "timeout"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="hangs up"),
        pytest.param(b"no HTTP at all\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", id="half a body"),
    ],
)
async def test_a_broken_answer_is_unreachable(answer: bytes) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    assert (await ask_over_a_socket(break_off, deadline=4)).code == "unreachable"


async def test_a_closed_port_is_unreachable() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()

    asker = asker_over(None, base_url=f"http://127.0.0.1:{port}")
    error = await error_of(asker)
    await asker.close()

    assert error.code == "unreachable"


class Server:
    """A real server that answers everything alike. requests: what came; connections: how many."""

    def __init__(self, *headers: str, status: str = "200 OK", body: bytes = b"{}") -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
        self._answer = "\r\n".join([*lines, "", ""]).encode() + body
        self.requests: list[str] = []
        self.connections = 0

    @contextlib.asynccontextmanager
    async def asked(self) -> AsyncIterator[Asker]:
        """An asker whose provider this is, through our own transport."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        asker = asker_over(None, base_url=url)
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield asker
        await asker.close()
        server.close()
        await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while True:
                self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
                writer.write(self._answer)
        writer.close()


class TestOverTheNetwork:
    async def test_a_question_arrives_as_it_was_meant(self) -> None:
        server = Server("X-Request-ID: r1", body=b'{"a": 1}')
        async with server.asked() as asker:
            got = await asker.get("/tasks/a%2Fb", {"taskid": "a b&c"})

        (request,) = server.requests
        assert (got.status, got.headers["x-request-id"], got.body) == (200, "r1", {"a": 1})
        first, *lines = request.lower().split("\r\n")
        assert first == "get /v1/tasks/a%2fb?taskid=a+b%26c http/1.1"
        named = [line.partition(":")[0] for line in lines if line]
        assert sorted(named) == sorted(set(named))  # each once
        assert f"authorization: bearer {KEY}" in lines
        assert "user-agent: taskbell/1.2.3" in lines
        assert "accept-encoding: identity" in lines

    async def test_connections_are_kept_up_to_the_concurrency(self) -> None:
        server = Server()
        async with server.asked() as asker:
            for _ in range(3):
                await asyncio.gather(*(asker.get("/tasks") for _ in range(10)))

        assert len(server.requests) == 30
        assert server.connections <= 2

    async def test_cookies_are_neither_kept_nor_sent(self) -> None:
        server = Server("Set-Cookie: a=b; Path=/")
        async with server.asked() as asker:
            await asker.get("/tasks")
            await asker.get("/tasks")

        assert "cookie" not in "".join(server.requests).lower()

    async def test_a_proxy_of_the_environment_is_not_used(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        server = Server()
        async with server.asked() as asker:
            await asker.get("/tasks")

        assert len(server.requests) == 1

    async def test_a_redirect_is_not_followed(self) -> None:
        server = Server("Location: /elsewhere", status="302 Found")
        async with server.asked() as asker:
            error = await error_of(asker)

        assert error.code == "redirect"
        assert len(server.requests) == 1

    async def test_what_is_compressed_all_the_same_is_inflated(self) -> None:
        server = Server("Content-Encoding: gzip", body=gzip.compress(b'{"a": 1}'))
        async with server.asked() as asker:
            got = await asker.get("/tasks")

        assert got.body == {"a": 1}

    async def test_reading_stops_at_the_limit_and_the_connection_is_given_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("receiver.asking.MAX_READ_BYTES", MAX_ANSWER_BYTES)
        server = Server(body=b'{"a": "' + b"x" * (MAX_ANSWER_BYTES + 2**20))
        async with server.asked() as asker:
            cut = [(await asker.get("/tasks")).cut for _ in range(3)]

        assert cut == [True] * 3
        assert server.connections == 3


async def test_a_key_that_is_quoted_back_is_left_out_of_errors_and_of_nothing_that_decides() -> (
    None
):
    def answer(request: httpx.Request) -> httpx.Response:
        said = {"message": f"odd: {request.headers['authorization']}", "status": "Fail"}
        return httpx.Response(500 if request.url.path.endswith("/broken") else 200, json=said)

    asker = asker_over(httpx.MockTransport(answer))
    good = await asker.get("/good")
    with pytest.raises(ProviderError) as broken:
        await asker.get("/broken")

    assert good.body == {"message": f"odd: Bearer {KEY}", "status": "Fail"}
    assert asker.redact(good.body["message"]) == "odd: Bearer ..."
    assert "odd: Bearer ..." in str(broken.value)


@pytest.mark.parametrize("key", ["cc", "Success", "0", "status", "https://"])
async def test_a_key_that_is_an_ordinary_word_damages_no_answer(key: str) -> None:
    said = {"status": "Success", "success": 0, "url": "https://a.example/0cc", "base": "cc"}
    asker = asker_over(httpx.MockTransport(lambda _: httpx.Response(200, json=said)), api_key=key)

    assert (await asker.get("/tasks")).body == said
