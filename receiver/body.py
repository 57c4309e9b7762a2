"""Bodies from strangers: read within a limit, parsed as strict and bounded JSON."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from math import isinf
from typing import Any

from starlette.requests import Request

MAX_DEPTH = 64
MAX_VALUES = 12_000
MAX_DIGITS = 100


class BadBody(ValueError):
    """Not the JSON we take. The message never quotes the body."""


class BodyTooLarge(Exception):
    """More bytes than the limit."""


class BodyTooSlow(Exception):
    """The last byte did not come before the deadline."""


def parse_json(raw: bytes) -> Any:
    """Read one JSON value of any type. Raises BadBody, and nothing else.

    Refused although the json module takes them: UTF-16 and UTF-32, NaN and Infinity, repeated
    keys, numbers beyond a float, integers of more than 100 digits, more than 64 levels, more than
    12,000 values. Lone surrogate escapes are let through: a challenge holding one must be echoed.

    >>> parse_json(b'{"task_id": 115334141465231360}')
    {'task_id': 115334141465231360}
    >>> parse_json(b'{"status": "processing", "status": "Success"}')
    Traceback (most recent call last):
    receiver.body.BadBody: an object has the same key twice
    """
    value = _decode(_text(raw))
    _check_size(value)
    return value


def dump_json(value: Any) -> bytes:
    r"""Write compact JSON in ASCII, so that even a lone surrogate has a spelling.

    >>> dump_json({"challenge": chr(0xD800)})
    b'{"challenge":"\\ud800"}'
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


async def read_body(request: Request, limit: int, deadline_seconds: float) -> bytes:
    """Read a request's body whole.

    Raises BodyTooLarge as soon as more than limit bytes are announced or came, BodyTooSlow when
    the whole took longer than the deadline, and starlette's ClientDisconnect.
    """
    if _announced(request.headers.get("content-length")) > limit:
        raise BodyTooLarge(f"the body is over {limit} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(deadline_seconds), aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > limit:
                    raise BodyTooLarge(f"the body is over {limit} bytes")
    except TimeoutError:
        raise BodyTooSlow(f"the body took longer than {deadline_seconds:g} s") from None
    return bytes(body)


def _announced(content_length: str | None) -> int:
    # only a hint: what really comes is counted, so an odd value may read as 0
    try:
        return int(content_length or 0)
    except ValueError:
        return 0


def _text(raw: bytes) -> str:
    if not raw:
        raise BadBody("the body is empty")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadBody("the body is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise BadBody("the body starts with a byte order mark")
    return text


def _decode(text: str) -> Any:
    # `from None`, because the json module's error carries the whole body
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise BadBody(f"not JSON: wrong at character {error.pos}") from None
    except RecursionError:
        raise BadBody(f"more than {MAX_DEPTH} levels") from None


def _check_size(value: Any) -> None:
    level = [value]
    values = depth = 0
    while level:
        values += len(level)
        if values > MAX_VALUES:
            raise BadBody(f"more than {MAX_VALUES} values")
        containers = [each for each in level if isinstance(each, dict | list)]
        depth += bool(containers)
        if depth > MAX_DEPTH:
            raise BadBody(f"more than {MAX_DEPTH} levels")
        level = [
            inner
            for each in containers
            for inner in (each.values() if isinstance(each, dict) else each)
        ]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadBody("an object has the same key twice")
    return found


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise BadBody(f"an integer has more than {MAX_DIGITS} digits")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise BadBody("a number is too large")
    return number


def _constant(_word: str) -> None:
    raise BadBody("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_constant,
)
