"""Bodies from strangers: read within a limit, parsed as strict and bounded JSON."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import aclosing
from math import isinf
from typing import Any

from starlette.requests import Request

MAX_DEPTH = 64
MAX_VALUES = 12_000
MAX_DIGITS = 100
_BEGINNING_SECONDS = 0.25


_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9._-]+)", re.IGNORECASE)
_CHARSETS = frozenset(  # not every codec of Python's is a charset, and some take very long
    {
        *("utf-8", "utf8", "us-ascii", "iso-8859-1", "latin1", "iso-8859-15", "windows-1252"),
        *("gbk", "gb2312", "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr"),
        *("utf-16", "utf-16le", "utf-16be", "utf-32"),
    }
)
_BYTE_ORDER_MARK = "\ufeff"  # RFC 8259, section 8.1: a reader may ignore one


class BadBody(ValueError):
    """Not the JSON we take. The message never quotes the body."""


class TooManyValues(BadBody):
    """JSON with more values than we take."""


class BodyTooLarge(Exception):
    """More bytes than the limit. beginning: as much as was read."""

    def __init__(self, message: str, beginning: bytes = b"") -> None:
        super().__init__(message)
        self.beginning = beginning


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
    return parse_text(_text(raw))


def parse_text(text: str) -> Any:
    """Read one JSON value of a text under the same rules. Raises BadBody, and nothing else."""
    value = _decode(text.removeprefix(_BYTE_ORDER_MARK))
    _check_size(value)
    return value


def decoded(raw: bytes, content_type: str = "") -> str:
    """The text of a body of JSON. Raises BadBody when it has none.

    JSON is UTF-8 (RFC 8259), and what is UTF-8 is read as that whatever was declared. UTF-16 and
    UTF-32 show by their first bytes; for anything else the charset of the content type counts.
    """
    if not raw:
        raise BadBody("the body is empty")
    named = _CHARSET.search(content_type)
    charset = named[1].lower() if named else ""
    for encoding in (json.detect_encoding(raw), charset if charset in _CHARSETS else "utf-8"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise BadBody(f"the body is not {charset[:20] or 'UTF-8'}")


def parse_loosely(raw: bytes) -> Any:
    """Read what can be read of JSON that breaks our rules; None when it is no JSON at all.

    Only to see whose it is: nothing in it may be believed.
    """
    try:
        return json.loads(raw.decode("utf-8", "replace").removeprefix(_BYTE_ORDER_MARK))
    except (ValueError, RecursionError):
        return None


def dump_json(value: Any) -> bytes:
    r"""Write compact JSON in ASCII, so that even a lone surrogate has a spelling.

    >>> dump_json({"challenge": chr(0xD800)})
    b'{"challenge":"\\ud800"}'
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


async def read_body(
    request: Request, limit: int, deadline_seconds: float, *, beginning: int = 0
) -> bytes:
    """Read a request's body whole.

    Raises BodyTooLarge as soon as more than limit bytes are announced or came, BodyTooSlow when
    the whole took longer than the deadline, and starlette's ClientDisconnect. beginning: how much
    of a body that is announced as too large is read all the same, if it comes at once: a client that
    waits for `100 Continue` is not told to send it.
    """
    too_large = f"the body is over {limit} bytes"
    body = bytearray()
    announced = _announced(request.headers.get("content-length")) > limit
    enough = beginning if announced else limit
    waits = request.headers.get("expect", "").lower() == "100-continue"
    if announced and (waits or not beginning):
        raise BodyTooLarge(too_large)
    seconds = min(deadline_seconds, _BEGINNING_SECONDS) if announced else deadline_seconds
    try:
        async with asyncio.timeout(seconds), aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > enough:
                    raise BodyTooLarge(too_large, bytes(body[:beginning]))
    except TimeoutError:
        if announced:
            raise BodyTooLarge(too_large, bytes(body)) from None
        raise BodyTooSlow(f"the body took longer than {deadline_seconds:g} s") from None
    if announced:  # it was not as large as it said
        raise BodyTooLarge(too_large, bytes(body))
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
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadBody("the body is not UTF-8") from None


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
            raise TooManyValues(f"more than {MAX_VALUES} values")
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
