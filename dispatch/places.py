"""Which place a URL leads to, so that two spellings of one place compare equal."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from dispatch.guard import Refused, check_url

_NO_PATH = ("", "/")


def origin(url: str) -> str:
    """Return the scheme, host and port of a URL: what a stored secret is bound to.

    Upper case, a final dot, a default port and other spellings of an IPv6 address make no
    difference. A URL that is not one of HTTP (apprise has others) is its own place.

    >>> origin("https://Hooks.Example.COM.:443/a?b"), origin("http://[0:0::1]/")
    ('https://hooks.example.com:443', 'http://[::1]:80')
    >>> origin("pover://user@token")
    'pover://user@token'
    """
    return _origin(url) or url


def _origin(url: str) -> str | None:
    try:
        place = check_url(url, local_names=True)
    except Refused:
        return None
    host = f"[{place.host}]" if ":" in place.host else place.host
    return f"{place.scheme}://{host}:{place.port}"


def normalized(url: str) -> str:
    """Return a URL in one spelling: its origin, path and query, without the fragment.

    >>> normalized("HTTPS://a.example.:443#x") == normalized("https://A.example/")
    True
    >>> normalized("https://a.example/%7euser/%2f") == normalized("https://a.example/~user/%2F")
    True
    """
    start = _origin(url)
    if start is None:
        return url
    parts = urlsplit(url)
    path = "/" if parts.path in _NO_PATH else _one_spelling(parts.path)
    return f"{start}{path}?{_one_spelling(parts.query)}" if parts.query else f"{start}{path}"


def _one_spelling(text: str) -> str:
    """Percent-encode only what must be, in upper case; encoded delimiters stay encoded."""
    return _ENCODED.sub(lambda found: _plain(found[0]), text)


_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


def _plain(encoded: str) -> str:
    letter = unquote(encoded, encoding="latin-1")
    return letter if _UNRESERVED.fullmatch(letter) else encoded.upper()
