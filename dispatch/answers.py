"""What the status of an HTTP answer means for a delivery."""

from __future__ import annotations

from datetime import datetime

from dispatch.plain import cut, one_line
from dispatch.sink import Answer, Outcome, Result
from store.retry_after import retry_after

_GONE = 410
_COME_BACK_LATER = (429, 503)
_MOST_WORDS = 200


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
    said = f": {cut(one_line(words[:_MOST_WORDS]), _MOST_WORDS)}" if words else ""
    return Outcome(Result.RETRY, f"answered {answer.status}{said}", asked)
