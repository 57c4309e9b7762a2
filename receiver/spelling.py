"""The spelling of callback tokens: lower-case letters and digits, which others carry unchanged.

itsdangerous writes base64 with dots. There are proxies that refuse a path segment that begins with
a dot or looks like a file name, firewalls that take `--` for SQL, servers that fold the case of a
path, and programs that cut a `-` or `_` from the end of a link. Base 32 gives none of them a reason,
for a fifth more characters.
"""

from __future__ import annotations

from base64 import b32decode, b32encode

from itsdangerous import base64_decode, base64_encode

PREFIX = "cbt_"
"""What new tokens begin with: a letter first, and something that logs and scanners can look for."""

_SIGNATURE_BYTES = 32  # HMAC-SHA-256
_COMPRESSED = "."  # itsdangerous puts it before a compressed payload


def spell(signed: str) -> str:
    """Return a token for what itsdangerous has signed.

    >>> spell(f"e30.{'A' * 43}")
    'cbt_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaahw7i'
    """
    payload, _, signature = signed.rpartition(".")
    raw = base64_decode(signature) + base64_decode(payload.removeprefix(_COMPRESSED))
    return PREFIX + b32encode(raw).decode().rstrip("=").lower()


def unspell(text: str) -> str:
    """Return what itsdangerous is to verify; an older token is that itself.

    Upper-case letters are read, too. Raises ValueError for what spell cannot have written.

    >>> unspell(spell(f"e30.{'A' * 43}")) == f"e30.{'A' * 43}"
    True
    >>> unspell("eyJhIjoxfQ.sig")
    'eyJhIjoxfQ.sig'
    """
    prefix, rest = text[: len(PREFIX)].lower(), text[len(PREFIX) :]
    if prefix != PREFIX:
        return text
    raw = b32decode(rest.upper() + "=" * (-len(rest) % 8))
    signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
    # a payload is a JSON object, or compressed
    before = "" if payload.startswith(b"{") else _COMPRESSED
    return f"{before}{base64_encode(payload).decode()}.{base64_encode(signature).decode()}"
