"""What the chat sinks share: requests with a JSON body, and reading what a service answers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from dispatch.answers import judge_http
from dispatch.headers import with_custom
from dispatch.refusals import reason_of
from dispatch.sink import Answer, Outcome, Request, Result, Target
from store.retry_after import retry_after
from store.text import json_bytes

_LONGEST_WAIT = 24 * 3600  # seconds


def json_request(
    target: Target, url: str, body: Mapping[str, Any], instead: Request | None = None
) -> Request:
    """A POST of a JSON body with the subscription's own headers beside ours."""
    headers = with_custom({"content-type": "application/json; charset=utf-8"}, target.headers)
    return Request(url, headers, json_bytes(body), instead)


def with_query(url: str, values: Mapping[str, str]) -> str:
    """The URL with these parameters, in place of any it has of the same names.

    >>> with_query("https://a.example/x?wait=false&t=1", {"wait": "true"})
    'https://a.example/x?t=1&wait=true'
    """
    parts = urlsplit(url)
    kept = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name not in values
    ]
    return urlunsplit(parts._replace(query=urlencode([*kept, *values.items()]), fragment=""))


def said(answer: Answer) -> Mapping[str, Any]:
    """The JSON object that was answered, or an empty one."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def delivered() -> Outcome:
    return Outcome(Result.DELIVERED)


def refused(code: object, words: object, note: str = "") -> Outcome:
    """The hook or its token is gone for good."""
    return Outcome(Result.REFUSED, reason_of(code, words, note))


def failed(code: object, words: object, wait: timedelta | None = None, note: str = "") -> Outcome:
    """Not taken now. wait: what the service asks for before the next try."""
    return Outcome(Result.RETRY, reason_of(code, words, note), wait)


def doubted(code: object, words: object) -> Outcome:
    """Refused by a code that has several meanings, and words that do not say which."""
    return Outcome(Result.RETRY, reason_of(code, words, "gone?"), doubt=f"answered {code}")


def unfit(code: object, words: object) -> Outcome:
    """This request cannot be taken; a plainer one may."""
    return Outcome(Result.RETRY, reason_of(code, words), unfit=True)


def code_of(body: Mapping[str, Any], *names: str) -> int | None:
    """The first number of these names; a truth is none."""
    found = (body.get(name) for name in names)
    return next((n for n in found if isinstance(n, int) and not isinstance(n, bool)), None)


def judge_wordless(answer: Answer, now: datetime) -> Outcome:
    """An answer without the service's own word: a good status proves nothing."""
    return unproven(answer) if 200 <= answer.status < 300 else judge_http(answer, now)


def unproven(answer: Answer) -> Outcome:
    """A status that looks good, and no word that the message was taken."""
    return Outcome(Result.RETRY, f"answered {answer.status} without taking the message")


def wait_of(seconds: object) -> timedelta | None:
    """A number of seconds out of an answer, up to a day; None when it is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    if not math.isfinite(seconds) or seconds < 0:
        return None
    return timedelta(seconds=min(seconds, _LONGEST_WAIT))


def wait_asked(answer: Answer, now: datetime) -> timedelta | None:
    """What the Retry-After header asks for, when the status says that it counts."""
    if answer.status not in (429, 503):
        return None
    return retry_after(answer.headers.get("retry-after"), now)
