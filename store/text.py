"""Text from outside, made fit for a database: a prompt must not be able to block its own result."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

TEXT_LIMIT = 16_384
"""Characters kept of one text. The raw body is kept whole, as bytes."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_DEPTH = 16
_ITEMS = 200


def json_bytes(value: Any) -> bytes:
    """Compact JSON in UTF-8.

    >>> json_bytes({"seed": 2**70})
    b'{"seed":1180591620717411303424}'
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # numbers beyond 64 bits, lone surrogates: both may come from outside
        return json.dumps(value, separators=(",", ":")).encode()


def clean(text: str, limit: int = TEXT_LIMIT) -> str:
    r"""Replace what PostgreSQL cannot store (NUL, lone surrogates), and cut.

    >>> clean("a\x00b\ud800")
    'a\ufffdb\ufffd'
    """
    return _UNSTORABLE.sub("\ufffd", text[:limit])


def clean_json(value: Any, depth: int = _DEPTH) -> Any:
    """The same for every text in a JSON value; what lies too deep or too far along is dropped."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        if depth == 0:
            return None
        items = list(value.items())[:_ITEMS]
        return {clean(str(key), 256): clean_json(item, depth - 1) for key, item in items}
    if isinstance(value, list | tuple):
        return None if depth == 0 else [clean_json(item, depth - 1) for item in value[:_ITEMS]]
    return value
