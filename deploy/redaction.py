"""Cuts keys, tokens and secrets out of log lines, however they are spelled there.

Nobody logs a secret on purpose; an exception's text may quote one all the same. What Taskbell makes
is known by its form: API keys, callback tokens of both spellings, signing secrets, session cookies,
one-time links, locked values. It is found as it is, percent-encoded, escaped, in base64 and in hex.
What others make is known by its value, if it is a setting.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from html import unescape
from urllib.parse import unquote

from receiver.redaction import SHORTEST_KEY, Redactor

_CUT = "…"
_ROUNDS = 3  # of escaping within escaping
_DEPTH = 2  # of base64 within base64


def redacted(text: str) -> str:
    """The text without what looks like a secret, a password in an address, or an address's path.

    >>> redacted("POST https://hooks.example.com/T00/B00/x failed: Bearer abc")
    'POST https://hooks.example.com/… failed: Bearer …'
    >>> redacted("postgresql://taskbell:hush@db/taskbell")
    'postgresql://…@db/taskbell'
    """
    text = _WORD.sub(_without_escaped, text)
    text = _plainly(text)
    return _CODED.sub(lambda run: _CUT if _hides(run[0], _DEPTH) else run[0], text)


def redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """The same, and without these values. One that could be an ordinary word is left alone."""
    known = [Redactor(each) for each in secrets if len(each) >= SHORTEST_KEY]

    def cut(text: str) -> str:
        for each in known:
            text = each(text)
        return redacted(text)

    return cut


def _plainly(text: str) -> str:
    text = _USER_INFO.sub(rf"\1{_CUT}@", text)
    text = _SECRET.sub(lambda found: f"{found[found.lastgroup or 0]}{_CUT}", text)
    text = _SIGNED.sub(_CUT, text)
    return _LONG.sub(lambda run: _CUT if _random(run[0]) else run[0], text)


_USER_INFO = re.compile(r"""(\b[a-z+]+://)[^\s"'/@]*@""")
_SECRET = re.compile(
    r"""(?P<bearer>\b[Bb]earer\ )[^\s"',]+
    | (?P<signing>whsec_)(?:[\w+/=%-]|\\+/)+
    | (?P<ours>tb_[0-9a-f]{8}_)[\w-]+
    | (?P<provider>\bsk-)[\w-]{8,}
    | (?P<callback>(?i:cbt_))[\w-]{8,}
    | (?P<token>\beyJ)[\w-]{8,}(?:\.[\w-]+)*
    | (?P<zipped>\.eJ)[\w-]{8,}(?:\.[\w-]+)*
    | (?P<locked>\bgAAAAA)[\w=-]+
    | (?P<address>\bhttps?://[^\s"'/?\#]+[/?\#])[^\s"']+
    """,
    re.VERBOSE,
)
# what itsdangerous signs: a payload, a dot, and 32 bytes in base64
_SIGNED = re.compile(r"(?<![\w.-])\.?[\w-]{6,}\.(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w-]{43}(?![\w-])")
_LONG = re.compile(r"(?<![\w-])(?:[\w-]{40,})")
_HEX = re.compile(r"[0-9a-fA-F]{64}")


def _random(run: str) -> bool:
    """True for a long run of letters that nobody thought of: no name and no id of ours is like it."""
    if not run.isascii():
        return False
    if _HEX.search(run):
        return True
    upper, lower = sum(map(str.isupper, run)), sum(map(str.islower, run))
    if upper < 4 or lower < 4:
        return False
    # words written together change their case less often than chance does
    return any(map(str.isdigit, run)) or len(_SWITCH.findall(run)) >= 6


_SWITCH = re.compile(r"[a-z](?=[A-Z])")


_WORD = re.compile(r"""[^\s"']+""")
_ESCAPE = re.compile(r"%[0-9a-fA-F]{2}|\\+(?:u00[0-9a-fA-F]{2}|x[0-9a-fA-F]{2}|/)|&\#?\w+;")
_BACKSLASHED = re.compile(r"\\+(?:u00([0-9a-fA-F]{2})|x([0-9a-fA-F]{2})|(/))")


def _without_escaped(word: re.Match[str]) -> str:
    """A word as it is, unless a secret comes to light when its escapes are taken away."""
    if not _ESCAPE.search(word[0]):
        return word[0]
    text = word[0]
    for _ in range(_ROUNDS):
        text = unescape(unquote(_BACKSLASHED.sub(_letter, text)))
    cut = _plainly(text)
    return word[0] if cut == text else cut


def _letter(found: re.Match[str]) -> str:
    return found[3] or chr(int(found[1] or found[2], 16))


_CODED = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_OURS = re.compile(
    r"tb_[0-9a-f]{8}_|whsec_[\w+/=]{8}|(?i:cbt_)[a-z2-7]{8}|eyJ[\w-]{8}|\.eJ[\w-]{8}|[Bb]earer \S"
)


def _hides(run: str, depth: int) -> bool:
    """True when a secret of ours comes to light out of base64, however it is aligned."""
    if any(_OURS.search(text) for text in _decodings(run)):
        return True
    if depth == 0:
        return False
    inner = (found[0] for text in _decodings(run) for found in _CODED.finditer(text))
    return any(_hides(each, depth - 1) for each in inner)


def _decodings(run: str) -> Iterable[str]:
    plain = run.rstrip("=").replace("-", "+").replace("_", "/")
    for shift in range(4):
        piece = plain[shift:]
        # one letter over is six bits of nothing
        piece = piece[: len(piece) - (len(piece) % 4 == 1)]
        try:
            yield base64.b64decode(piece + "=" * (-len(piece) % 4)).decode("latin-1")
        except binascii.Error:
            continue
