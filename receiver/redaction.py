"""Cuts an API key out of texts that are kept or shown: some providers say which key they refused.

Only out of those. What decides (status words, ids, JSON itself) is read first and as it came.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from store.events import Failure, Output, TaskUpdate

SHORTEST_KEY = 16
"""A shorter one could be an ordinary word, and cutting it would damage what has nothing to do with it."""

_CUT = "..."
_SHORTEST_PIECE = 8  # of a key, at the end of a text that was cut
_MARK = re.compile(r"… \([^()]*\)\)?$|…\)?$|$")
_LONGEST_UNESCAPED = 64 * 1024
"""In a longer text only escaped slashes are unescaped: all others would take too long."""

_DEPTH = 20

Redact = Callable[[str], str]


class Redactor:
    """Knows one key, also as it looks in JSON, in a URL, in HTML and in base64."""

    def __init__(self, key: str | None) -> None:
        self._key = key or ""
        self._pattern = re.compile("|".join(_spellings(key))) if key else None
        self._in_base64 = tuple(_certain(self._key, shift) for shift in range(3))
        self._unescaped = _ESCAPE.sub(_letter_of, self._key)

    def __call__(self, text: str) -> str:
        r"""The text without the key.

        >>> Redactor("sk-0123456789/abcdef")(r"no such key: sk-0123456789\/abcdef")
        'no such key: ...'
        """
        if self._pattern is None:
            return text
        if self._may_be_in(text):  # else the search takes long for nothing
            text = self._pattern.sub(_CUT, text)
        return self._without_beginning(text)

    def raw(self, body: bytes) -> bytes:
        """Return a body without the key, otherwise byte for byte."""
        text = body.decode("latin-1")  # a letter a byte, so that the others come out as they were
        cut = self(text)
        return body if cut is text else cut.encode("latin-1")

    def _may_be_in(self, text: str) -> bool:
        if len(text) > _LONGEST_UNESCAPED:
            unescaped = text.replace("\\/", "/")
        else:
            unescaped = _ESCAPE.sub(_letter_of, text) if _ESCAPED.search(text) else text
        if self._key in unescaped or self._unescaped in unescaped:
            return True
        plain = unescaped.replace("-", "+").replace("_", "/")  # base64's alphabet for URLs
        return any(each in plain for each in self._in_base64)

    def _without_beginning(self, text: str) -> str:
        """Cut the first part of a key, which is all of it that a shortened text holds."""
        if self._key[:_SHORTEST_PIECE] not in text:
            return text
        mark = _MARK.search(text)
        end = mark.start() if mark else len(text)
        for length in range(len(self._key) - 1, _SHORTEST_PIECE - 1, -1):
            if text.endswith(self._key[:length], 0, end):
                return text[: end - length] + _CUT + text[end:]
        return text


def _spellings(key: str) -> list[str]:
    plain = "".join(_letter(letter) for letter in key)
    return [plain, *(_in_base64(key, shift) for shift in range(3))]


def _letter(letter: str) -> str:
    r"""A letter as it is, or as %2F, %252F, \/, \u002f, \x2f or &#47;."""
    code = ord(letter)
    hexed = "".join(f"[{digit.lower()}{digit.upper()}]" for digit in f"{code:02x}")
    ways = (
        re.escape(letter),
        rf"%(?:25){{0,7}}{hexed}",
        rf"\\{{1,7}}(?:u00|x){hexed}",
        rf"\\{{1,7}}{re.escape(letter)}",
        rf"&#(?:0{{0,7}}{code}|[xX]0{{0,7}}{hexed});",
    )
    return f"(?:{'|'.join(ways)})"


_ESCAPED = re.compile(r"[%\\]|&#")
_ESCAPE = re.compile(
    r"%(?:25){0,7}([0-9a-fA-F]{2})|\\{1,7}(?:u00|x)([0-9a-fA-F]{2})|\\{1,7}([^\\])"
    r"|&#0{0,7}([0-9]{1,3});|&#[xX]0{0,7}([0-9a-fA-F]{2});"
)


def _letter_of(found: re.Match[str]) -> str:
    percent, escape, letter, decimal, hexed = found.groups()
    return letter or chr(int(decimal) if decimal else int(percent or escape or hexed, 16))


def _in_base64(key: str, shift: int) -> str:
    """The characters that no byte beside the key has a part in, when that many stand before it."""
    letters = {"+": r"(?:[+-]|%2[bB])", "/": r"(?:[/_]|\\{1,7}/|%2[fF])"}
    return "".join(letters.get(letter, letter) for letter in _certain(key, shift))


def _certain(key: str, shift: int) -> str:
    raw = bytes(shift) + key.encode()
    return base64.b64encode(raw).decode()[-(-shift * 8 // 6) : len(raw) * 8 // 6]


def redacted(update: TaskUpdate, redact: Redact) -> TaskUpdate:
    """An update whose texts do not hold the key; a link that does is left out."""
    error = update.error
    return replace(
        update,
        provider_status=redact(update.provider_status),
        model=redact(update.model) if update.model else None,
        error=Failure(redact(error.code), redact(error.message)) if error else None,
        outputs=tuple(_redacted_output(output, redact) for output in update.outputs),
        usage=_redacted_json(update.usage, redact, _DEPTH),
    )


def _redacted_output(output: Output, redact: Redact) -> Output:
    if output.url and redact(output.url) != output.url:
        return replace(
            output, url=None, note="the link holds the provider's API key: it is left out"
        )
    return output


def _redacted_json(value: Any, redact: Redact, depth: int) -> Any:
    if isinstance(value, str):
        return redact(value)
    if depth == 0:
        return None
    if isinstance(value, Mapping):
        return {redact(key): _redacted_json(item, redact, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted_json(item, redact, depth - 1) for item in value]
    return value
