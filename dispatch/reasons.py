"""Why a task failed, in a few words of ours: what providers say differs, what it means does not."""

from __future__ import annotations

import re
from enum import StrEnum


class Cause(StrEnum):
    """What kind of failure it was."""

    CONTENT = "content"
    BALANCE = "balance"
    BUSY = "busy"
    INPUT = "input"
    EXPIRED = "expired"
    UNTRACKED = "untracked"


# the first that is found counts; English and Chinese words as the providers' pages have them
_WORDS = (
    (Cause.UNTRACKED, r"\buntracked\b"),
    (
        Cause.CONTENT,
        r"sensitiv|moderat|nsfw|unsafe|prohibited|content policy|violat|敏感|违规|审核|不合规",
    ),
    (Cause.BALANCE, r"balance|insufficient (?:quota|credit|fund)|\bcredits?\b|余额|欠费|额度"),
    (Cause.BUSY, r"rate.?limit|too many|overload|\bbusy\b|capacity|限流|繁忙|超限"),
    (Cause.INPUT, r"invalid|unsupported|malformed|missing|参数|格式"),
    (Cause.EXPIRED, r"expired?|timed? ?out|过期|超时"),
)
_CAUSES = tuple((cause, re.compile(words, re.IGNORECASE)) for cause, words in _WORDS)


def cause_of(code: str, message: str) -> Cause | None:
    """What a provider's code and message mean, or None when they say nothing we know.

    >>> cause_of("1026", "video description contains sensitive content")
    <Cause.CONTENT: 'content'>
    """
    text = f"{code} {message}"
    return next((cause for cause, words in _CAUSES if words.search(text)), None)
