"""What the status of an HTTP answer means for a delivery."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from dispatch.plain import cut, one_line
from dispatch.sink import Answer, Outcome, Result
from store.retry_after import retry_after

_GONE = 410
_COME_BACK_LATER = (429, 503)
_MOST_WORDS = 200
_REDIRECTS = (300, 301, 302, 303, 307, 308)
_LONGEST_HOST = 253
_ADDRESS = re.compile(
    r"(?:(https?):)?[/\\]{2}(?:[^/?#\\@]*@)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?(?=[/?#\\]|$)",
    re.IGNORECASE,
)
_PATH = re.compile(r"(?!//|[A-Za-z][A-Za-z0-9+.-]*:)[!-~]+")


def judge_http(answer: Answer, now: datetime, words: str = "") -> Outcome:
    """2xx is delivered, 410 refuses for good, everything else (redirects too) is tried again.

    words: what the receiver said about it, for people.
    """
    if 200 <= answer.status < 300:
        return Outcome(Result.DELIVERED)
    if answer.status == _GONE:
        return Outcome(Result.REFUSED, "410 Gone")
    asked = None
    if answer.status in _COME_BACK_LATER:
        asked = retry_after(answer.headers.get("retry-after"), now)
    words = redirected(answer.status, answer.headers) or words
    said = f": {cut(one_line(words[:_MOST_WORDS]), _MOST_WORDS)}" if words else ""
    return Outcome(Result.RETRY, f"answered {answer.status}{said}", asked)


def redirected(status: int, headers: Mapping[str, str]) -> str | None:
    """Say of a redirect that it is not followed and where it points; None for other statuses.

    Only the host of its URL is named: the rest may be secret.

    >>> redirected(302, {"location": "https://me:key@b.example:8443/c?d=e"})
    'redirects are not followed; it points to b.example (https)'
    """
    if status not in _REDIRECTS:
        return None
    return f"redirects are not followed; it points to {_place(headers.get('location', '').strip())}"


def _place(location: str) -> str:
    address = _ADDRESS.match(location)
    if address is not None and len(address[2]) <= _LONGEST_HOST:
        scheme = f" ({address[1].lower()})" if address[1] else ""
        return f"{address[2].lower()}{scheme}"
    if not location:
        return "no place: there is no Location"
    if _PATH.fullmatch(location):
        return "another path of the same host"
    return "a place that cannot be read"
