"""Text from outside, made fit for a database: a prompt must not be able to block its own result."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

TEXT_LIMIT = 16_384
"""Characters kept of one text. The raw body is kept whole, as bytes."""

CUT = "\uffff"
"""Ends a text that was cut while it came in. No character, so no text of its own ends so."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_SHORT = 64  # a text so short has no room for more of a mark than a sign
_MARK_ROOM = 32
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
    r"""Replace what PostgreSQL cannot store (NUL, lone surrogates); what is too long ends with a mark.

    >>> clean("a\x00b\ud800")
    'a\ufffdb\ufffd'
    >>> clean("x" * 200, 100)[-30:]
    'xxxxxxxxxx… (132 more are cut)'
    """
    return _UNSTORABLE.sub("\ufffd", _cut(text, limit))


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit and not text.endswith(CUT):
        return text
    whole = text.removesuffix(CUT)
    if limit <= _SHORT:
        return whole[: limit - 1] + "…"
    kept = whole[: limit - _MARK_ROOM]
    rest = "the rest is cut" if whole != text else f"{len(whole) - len(kept):,} more are cut"
    return f"{kept}… ({rest})"


def clean_json(value: Any, depth: int = _DEPTH) -> Any:
    """The same for every text in a JSON value; what lies too deep or too far along is left out.

    A text in its place says so.
    """
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        if depth == 0:
            return "…"
        items = list(value.items())[:_ITEMS]
        kept = {clean(str(key), 256): clean_json(item, depth - 1) for key, item in items}
        return kept | _left_out(len(value)) if len(value) > _ITEMS else kept
    if isinstance(value, list | tuple):
        if depth == 0:
            return "…"
        kept_items = [clean_json(item, depth - 1) for item in value[:_ITEMS]]
        return [*kept_items, *_left_out(len(value)).values()] if len(value) > _ITEMS else kept_items
    return value


def _left_out(count: int) -> dict[str, str]:
    return {"…": f"{count - _ITEMS:,} more are left out"}
