"""Reads JSON that is far larger than what is wanted of it: long strings are cut while it comes in.

Providers that answer with a file in base64 send megabytes in one string. What remains of such an
answer is small JSON with the same members, so its status can still be read.
"""

from __future__ import annotations

import re

from receiver.body import MAX_DEPTH
from store.text import CUT

KEPT_BYTES = 8 * 1024
"""Of one string. What is left of a longer one ends with CUT, so that it is not taken for a whole."""

_QUOTE, _BACKSLASH, _CUT = b'"', b"\\", CUT.encode()
_STRING_PART = re.compile(rb'(?:[^"\\]+|\\.)*+', re.DOTALL)
_WHOLE_CHARACTERS = re.compile(rb"(?:[^\\]+|\\u[0-9A-Fa-f]{4}|\\[^u])*+", re.DOTALL)
_TOKENS = re.compile(rb'"(?:[^"\\]+|\\.)*+(?P<closed>")?|[\[\]{},:]', re.DOTALL)


class Sieve:
    """Takes JSON in pieces and keeps it with long strings cut. full: it kept more than the limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._in_string = False
        self._after_backslash = False
        self._string_began = 0

    @property
    def full(self) -> bool:
        return len(self._kept) > self._limit

    def feed(self, piece: bytes) -> None:
        place = 0
        while place < len(piece) and not self.full:
            place = self._string(piece, place) if self._in_string else self._outside(piece, place)

    def json(self) -> bytes:
        """What was kept: the whole, or as much of it as makes sound JSON when it broke off."""
        if not (self.full or self._in_string):
            return bytes(self._kept)
        return completed(bytes(self._kept[: self._limit]))

    def _outside(self, piece: bytes, place: int) -> int:
        quote = piece.find(_QUOTE, place)
        end = len(piece) if quote < 0 else quote + 1
        self._kept += piece[place:end]
        if quote >= 0:
            self._in_string, self._string_began = True, len(self._kept)
        return end

    def _string(self, piece: bytes, place: int) -> int:
        if self._after_backslash:
            self._keep(piece[place : place + 1])
            self._after_backslash = False
            return place + 1
        part = _STRING_PART.match(piece, place)
        end = part.end() if part else place
        self._keep(piece[place:end])
        if end == len(piece):
            return end
        if piece[end : end + 1] == _BACKSLASH:  # the last byte of this piece
            self._keep(_BACKSLASH)
            self._after_backslash = True
            return end + 1
        self._end_string()
        return end + 1

    def _keep(self, part: bytes) -> None:
        room = KEPT_BYTES - (len(self._kept) - self._string_began)
        if room > 0:
            self._kept += part[:room]

    def _end_string(self) -> None:
        if len(self._kept) - self._string_began >= KEPT_BYTES:
            text = _sound(bytes(self._kept[self._string_began :]))
            del self._kept[self._string_began :]
            self._kept += text + _CUT
        self._kept += _QUOTE
        self._in_string = False


def completed(begun: bytes) -> bytes:
    r"""Complete JSON that breaks off: the last unfinished member goes, open brackets are closed.

    A string that breaks off as a value stays, as far as it came, with CUT at its end.

    >>> completed(b'{"id": 1, "outputs": ["data:image/png;base64,AAA').replace(_CUT, b" ...")
    b'{"id": 1, "outputs": ["data:image/png;base64,AAA ..."]}'
    >>> completed(b'{"id": 1, "metr')
    b'{"id": 1}'
    """
    closers: list[bytes] = []
    end, last = 0, b""
    for token in _TOKENS.finditer(begun):
        word = token[0]
        if word.startswith(_QUOTE):
            value = last == b":" or (last in b"[," and closers[-1:] == [b"]"])
            if not token["closed"] and value:
                return begun[: token.start()] + _sound(word) + _CUT + _QUOTE + _all(closers)
            last = b'"'
            continue
        if word in b"{[":
            closers.append(b"}" if word == b"{" else b"]")
            if len(closers) > MAX_DEPTH:
                return begun  # refused in any case
            end = token.end()
        elif word in b"}]":
            if not closers or closers.pop() != word:
                return begun  # no JSON: whoever parses it will say so
            end = token.end()
        elif word == b",":
            end = token.start()
        last = word
    return begun[:end] + _all(closers)


def _all(closers: list[bytes]) -> bytes:
    return b"".join(reversed(closers))


def _sound(text: bytes) -> bytes:
    """A cut string without the half of a character or an escape at its end."""
    whole = text if text.isascii() else text.decode("utf-8", "ignore").encode()
    found = _WHOLE_CHARACTERS.match(whole)
    return found[0] if found else b""
