"""Heads of requests: which host and page they ask for, and how one is written without an offer."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)([/?][^#]*)?", re.IGNORECASE)


class BadTarget(ValueError):
    """Not a request target that an origin server takes."""


def read_target(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """Return a request target in origin form, and the host it names, if it names one (RFC 9112, 3.2).

    >>> read_target(b"GET", b"/v1/tasks?limit=1")
    (b'/v1/tasks?limit=1', None)
    >>> read_target(b"GET", b"http://taskbell.example:8000?limit=1")
    (b'/?limit=1', b'taskbell.example:8000')
    >>> read_target(b"OPTIONS", b"*")
    (b'/', None)

    Raises BadTarget for every other form, for user names in a URL, and for other schemes.
    """
    if target.startswith(b"/"):
        return target, None
    if target == b"*" and method == b"OPTIONS":  # about the server as a whole
        return b"/", None
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise BadTarget("a request names a path, or a URL of this host")
    rest = found[2] or b"/"
    return (rest if rest.startswith(b"/") else b"/" + rest), found[1]


def head_without_upgrade(
    method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    r"""Write a request's head without its offers of another protocol (RFC 9110, 7.8).

    >>> head_without_upgrade(b"GET", b"/", "1.1", [(b"host", b"x"), (b"upgrade", b"h2c")])
    b'GET / HTTP/1.1\r\nhost: x\r\n\r\n'
    """
    lines = [b"%s %s HTTP/%s" % (method, target, version.encode())]
    lines += [b"%s: %s" % header for header in headers if header[0] != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])


def end_of_heads(data: bytes, start: int, most: int) -> int:
    r"""Return the place in `data` where the last of at most so many heads, or trailers, ends.

    When there are fewer, that is the end of the data.

    >>> end_of_heads(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\nGET", 0, 1)
    18
    >>> end_of_heads(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\nGET", 0, 3)
    39
    """
    end = start
    for _ in range(most):
        found = data.find(b"\r\n\r\n", end)
        if found < 0:
            return len(data)
        end = found + 4
    return end
