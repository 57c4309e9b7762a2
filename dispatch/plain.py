"""Foreign text made fit for a chat: one line, nothing hidden in it, cut where no letter breaks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from urllib.parse import quote, urlsplit

ELLIPSIS = "…"
LONGEST_LINK = 2000
"""Characters of a link. Slack takes 3000, Discord 2000 in a message's text."""

Weigh = Callable[[str], int]
"""The size of a text in a service's unit; of two texts together, the sum of theirs."""
Escape = Callable[[str], str]
"""Text as a service must get it to show it as it is; letter by letter."""

_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
# marks and overrides of writing direction, zero-width blanks, and what is no character at all;
# U+200D stays: it joins emoji
_HIDDEN = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
    "|[\ufdd0-\ufdef\ufffe\uffff]"
)
_HALF = re.compile("[\ud800-\udfff]")
_JOINER = "\u200d"
_LONGEST_CLUSTER = 32  # letters; a longer one is made to annoy, and is broken
_KEPT_IN_LINKS = "%/:?#[]@!$&'()*+,;=-._~"


def one_line(text: str) -> str:
    r"""The text on one line, without control characters and what changes its direction.

    >>> one_line("a\r\n b\x00c \u202egnp.exe \ud83d")
    'a b c gnp.exe \ufffd'
    """
    return _BLANK.sub(" ", _HALF.sub("\ufffd", _HIDDEN.sub("", text))).strip()


def units(text: str) -> int:
    """Characters as most services count them, in UTF-16: an emoji is two.

    >>> units("a😀")
    3
    """
    return len(text) + sum(letter > "\uffff" for letter in text)


def octets(text: str) -> int:
    """Bytes in UTF-8."""
    return len(text.encode())


def cut(text: str, most: int, weigh: Weigh = units) -> str:
    """The text when it weighs at most that, else its beginning and an ellipsis.

    >>> cut("a family 👨‍👩‍👧", 11), cut("short", 5)
    ('a family…', 'short')
    """
    text = text[: most + 1]  # a letter weighs at least 1
    if weigh(text) <= most:
        return text
    left = most - weigh(ELLIPSIS)
    end = 0
    for letter in text:
        left -= weigh(letter)
        if left < 0:
            break
        end += 1
    return text[: _between_letters(text, end)].rstrip() + ELLIPSIS


def fitted(text: str, most: int, escape: Escape, weigh: Weigh = units) -> str:
    """The text escaped, cut so that it weighs at most that after it."""
    return escape(cut(text, most, lambda part: weigh(escape(part))))


def fitted_lines(
    lines: Sequence[str], most: int, escape: Escape = str, weigh: Weigh = units
) -> str:
    r"""The lines escaped, one under the other: what has no room is cut, and an ellipsis says so.

    >>> fitted_lines(["one", "two three"], 9)
    'one\ntwo…'
    """
    kept: list[str] = []
    left = most
    for number, line in enumerate(lines, start=1):
        # a mark for the lines behind this one must have room, too
        room = left - (weigh("\n" + ELLIPSIS) if number < len(lines) else 0)
        ready = escape(line)
        if weigh(ready) > room:
            return "\n".join([*kept, fitted(line, room, escape, weigh)])
        kept.append(ready)
        left -= weigh(ready + "\n")
    return "\n".join(kept)


def link(url: object) -> str | None:
    """A web address that a service will take as one, or None: not http(s), or too long.

    >>> link("https://cdn.example/元 1.mp4?a=b&c"), link("javascript:alert(1)")
    ('https://cdn.example/%E5%85%83%201.mp4?a=b&c', None)
    """
    if not isinstance(url, str) or not url.lower().startswith(("https://", "http://")):
        return None
    if len(url) > LONGEST_LINK:
        return None
    sound = quote(url, safe=_KEPT_IN_LINKS, errors="replace")
    try:
        parts = urlsplit(sound)
        named = bool(parts.hostname) and "@" not in parts.netloc and "%" not in parts.netloc
    except ValueError:
        return None
    return sound if named and len(sound) <= LONGEST_LINK else None


def _between_letters(text: str, end: int) -> int:
    """The last place up to `end` where what people see as one letter is not torn apart."""
    for place in range(end, max(0, end - _LONGEST_CLUSTER), -1):
        if not _joined(text, place):
            return place
    return 0 if end < _LONGEST_CLUSTER else end


def _joined(text: str, place: int) -> bool:
    """Whether the letters before and behind a place belong together."""
    before, behind = text[place - 1], text[place : place + 1]
    if not behind:
        return False
    if before == _JOINER or behind == _JOINER or unicodedata.combining(behind):
        return True
    if "\ufe00" <= behind <= "\ufe0f" or "\U0001f3fb" <= behind <= "\U0001f3ff":
        return True  # variants, skin tones
    return _flag(before) and _flag(behind)


def _flag(letter: str) -> bool:
    """Half of a flag. In a row of flags the cut may fall before all of them; none is broken."""
    return "\U0001f1e6" <= letter <= "\U0001f1ff"
