"""Strict JSON and bounded reading, against bodies meant to hurt."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from receiver.body import (
    BadBody,
    BodyTooLarge,
    BodyTooSlow,
    dump_json,
    parse_json,
    read_body,
)

TEXT_IN_UTF_16 = '{"challenge":"x"}'.encode("utf-16")
TEXT_IN_UTF_16_UNMARKED = '{"challenge":"x"}'.encode("utf-16-le")
TEXT_IN_UTF_32 = '{"challenge":"x"}'.encode("utf-32")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" ", id="one space"),
        pytest.param(b"{'challenge':'x'}", id="single quotes"),
        pytest.param(b'{"challenge":"x"}{}', id="a second object behind"),
        pytest.param(b'{"challenge":"x"}//c', id="comment"),
        pytest.param(b'{"challenge":"a\nb"}', id="raw newline in a string"),
        pytest.param(b'{"challenge":"x",}', id="trailing comma"),
        pytest.param(b'{"challenge":NaN}', id="NaN"),
        pytest.param(b'{"challenge":Infinity}', id="Infinity"),
        pytest.param(b'{"challenge":-Infinity}', id="-Infinity"),
        pytest.param(b'{"challenge":1e999}', id="a float that becomes infinite"),
        pytest.param(b"1e131000", id="an exponent far beyond"),
        pytest.param(b"-1e131000", id="the same below zero"),
        pytest.param(b'{"challenge":"a","challenge":"b"}', id="repeated key"),
        pytest.param(b'{"a":1,"\\u0061":2}', id="repeated key, spelled differently"),
        pytest.param(b'[{"x":{"y":1,"y":1}}]', id="repeated key deep inside"),
        pytest.param(b'{"challenge":"\xff\xfe"}', id="bytes that are not UTF-8"),
        pytest.param(b'{"challenge":"\xed\xa0\x80"}', id="a surrogate encoded as bytes"),
        pytest.param(b"\xef\xbb\xbf", id="a byte order mark alone"),
        pytest.param(b'\xef\xbb\xbf\xef\xbb\xbf{"challenge":"x"}', id="two byte order marks"),
        pytest.param(TEXT_IN_UTF_16, id="UTF-16: the json module takes it"),
        pytest.param(TEXT_IN_UTF_16_UNMARKED, id="UTF-16 without a mark"),
        pytest.param(TEXT_IN_UTF_32, id="UTF-32: the json module takes it"),
        pytest.param(b"challenge=abc", id="form"),
        pytest.param(b'<?xml version="1.0"?><a>1</a>', id="XML"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="100,000 nested lists"),
        pytest.param(b"[" * 20_000 + b"]" * 20_000, id="20,000 nested lists"),
        pytest.param(b"[" * 65 + b"]" * 65, id="one level too many"),
        pytest.param(b'{"a":' * 12_000, id="12,000 open objects"),
        pytest.param(b"A" * 1_000_000, id="a million letters"),
        pytest.param(b'{"x":[' + b"0," * 20_000 + b"0]}", id="20,000 elements"),
        pytest.param(b"[" + b"0," * 11_999 + b"0]", id="one value too many"),
        pytest.param(b"1" * 101, id="101 digits"),
        pytest.param(b"-" + b"1" * 101, id="101 digits below zero"),
        pytest.param(b"1" * 100_000, id="more digits than int() takes"),
        pytest.param(b"01", id="leading zero"),
        pytest.param("１".encode(), id="full-width digit"),
    ],
)
def test_a_hostile_body_is_refused(raw: bytes) -> None:
    with pytest.raises(BadBody):
        parse_json(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(b"[]", [], id="list"),
        pytest.param(b'"x"', "x", id="text"),
        pytest.param(b"1", 1, id="number"),
        pytest.param(b"null", None, id="null"),
        pytest.param(b" {}\r\n", {}, id="blanks around"),
        pytest.param(b"12345678901234567890", 12345678901234567890, id="above 2**53, every digit"),
        pytest.param(b"-" + b"1" * 100, -int("1" * 100), id="100 digits"),
        pytest.param(b"1.5", 1.5, id="float"),
        pytest.param(b'"\\ud83d\\ude00"', "😀", id="astral character in two escapes"),
        pytest.param(b'"\\ud800"', "\ud800", id="lone surrogate"),
        pytest.param(b'"\\u0000"', "\0", id="NUL"),
        pytest.param(b'{"a":{"x":1},"b":{"x":1}}', {"a": {"x": 1}, "b": {"x": 1}}, id="siblings"),
        pytest.param(b"[" + b"0," * 11_998 + b"0]", [0] * 11_999, id="12,000 values"),
    ],
)
def test_any_json_value_is_read(raw: bytes, expected: object) -> None:
    assert parse_json(raw) == expected


def test_sixty_four_levels_are_read() -> None:
    raw = b"[" * 64 + b"]" * 64

    assert dump_json(parse_json(raw)) == raw


@pytest.mark.parametrize(
    "raw",
    [b'{"secret-word" 1}', b'{"secret-word":1,"secret-word":2}', b"secret-word", b'"secret-word'],
)
def test_an_error_never_quotes_the_body(raw: bytes) -> None:
    with pytest.raises(BadBody) as caught:
        parse_json(raw)

    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@given(st.binary() | st.text().map(str.encode) | st.text('[]{}",:\\u0d8e-1.NaInf ').map(str.encode))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    try:
        value = parse_json(raw)
    except BadBody:
        return

    assert parse_json(dump_json(value)) == value


any_text = st.text(st.characters(exclude_categories=()))
any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**99), 10**99)
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=20,
)


@given(any_json)
def test_what_is_dumped_is_read_back(value: object) -> None:
    raw = dump_json(value)

    assert raw.isascii()
    # a high and a low surrogate side by side are one character after the way through JSON
    assert parse_json(raw) == json.loads(raw)


async def push(
    content: bytes | AsyncIterator[bytes],
    *,
    headers: dict[str, str] | None = None,
    limit: int = 10,
    deadline_seconds: float = 5,
) -> httpx.Response:
    """Send a body to an app that answers with what it read, or with its error's name."""

    async def echo(request: Request) -> Response:
        try:
            return Response(await read_body(request, limit, deadline_seconds))
        except (BodyTooLarge, BodyTooSlow) as error:
            return Response(type(error).__name__, status_code=400)

    app = Starlette(routes=[Route("/", echo, methods=["POST"])])
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as client:
        return await client.post("/", content=content, headers=headers)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_body_is_read_whole() -> None:
    answer = await push(b"0123456789")

    assert answer.content == b"0123456789"


async def test_a_body_in_chunks_is_read_whole() -> None:
    answer = await push(chunks(b"01234", b"", b"56789"))

    assert answer.content == b"0123456789"


async def test_an_empty_body_is_empty() -> None:
    assert (await push(b"")).content == b""


async def test_an_announced_length_over_the_limit_is_refused_before_reading() -> None:
    async def untouched() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    answer = await push(untouched(), headers={"content-length": "99999999999999"})

    assert answer.text == "BodyTooLarge"


async def test_reading_stops_as_soon_as_the_limit_is_passed() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"0123"

    answer = await push(endless())

    assert answer.text == "BodyTooLarge"
    assert sent == 3


@pytest.mark.parametrize("announced", ["-1", "abc", "3", "²", "9" * 5_000 + "x"])
async def test_an_odd_or_low_content_length_changes_nothing(announced: str) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "headers": [(b"content-length", announced.encode("latin-1"))],
    }
    messages = iter([{"type": "http.request", "body": b"0" * 11, "more_body": False}])

    async def receive() -> Message:
        return next(messages)

    with pytest.raises(BodyTooLarge):
        await read_body(Request(scope, receive), 10, 5)


async def test_a_body_that_stalls_is_too_slow() -> None:
    never = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield b"0"
        await never.wait()

    answer = await push(stalling(), deadline_seconds=0.01)

    assert answer.text == "BodyTooSlow"


async def test_a_sender_that_hangs_up_is_a_disconnect() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)

    with pytest.raises(ClientDisconnect):
        await read_body(request, 10, 5)


@pytest.mark.parametrize("raw", [b'{"challenge": "x"}', b' \n{"challenge": "x"}\r\n'])
def test_a_byte_order_mark_before_json_is_read_past(raw: bytes) -> None:
    assert parse_json(b"\xef\xbb\xbf" + raw) == {"challenge": "x"}


def test_a_byte_order_mark_inside_a_text_stays() -> None:
    assert parse_json(b'{"a": "\xef\xbb\xbfb"}') == {"a": "\ufeffb"}
