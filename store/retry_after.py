"""Reads the Retry-After header: providers and subscribers both send it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

LONGEST_WAIT = timedelta(hours=24)
_SECONDS = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,10}))?")
_VALUES = re.compile(r",(?! ?[0-9]{1,2}[ -][A-Z][a-z]{2}[ -])")  # not the comma in a date
_MAX_CHARACTERS = 128  # the longest date form has 33


def retry_after(value: str | None, now: datetime) -> timedelta | None:
    """The wait that was asked for, at most 24 hours; None for a past date or anything unusable.

    Takes seconds (a fraction is rounded up) and the three date forms of RFC 9110, section 10.2.3.
    Of several values, which is how several headers look when they are joined, the longest counts.

    >>> now = datetime(2026, 11, 19, tzinfo=UTC)
    >>> retry_after(" 120 ", now)
    datetime.timedelta(seconds=120)
    >>> retry_after("Thu, 19 Nov 2026 00:01:30 GMT", now)
    datetime.timedelta(seconds=90)
    >>> retry_after("120.5, 7", now)
    datetime.timedelta(seconds=121)
    >>> retry_after("soon", now)
    """
    # int() and the date parser also take full-width digits, hence the ASCII test
    if value is None or len(value) > _MAX_CHARACTERS or not value.isascii():
        return None
    waits = [_wait(text.strip(" \t"), now) for text in _VALUES.split(value)]
    return max((wait for wait in waits if wait is not None), default=None)


def _wait(text: str, now: datetime) -> timedelta | None:
    seconds = _SECONDS.fullmatch(text)
    if seconds is None:
        return _until(text, now)
    whole, fraction = seconds.groups()
    more = int(fraction is not None and fraction.strip("0") != "")
    return min(timedelta(seconds=int(whole) + more), LONGEST_WAIT)


def _until(date: str, now: datetime) -> timedelta | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # HTTP dates are UTC; the parser leaves asctime dates and unknown zones naive
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    wait = aware - now
    return min(wait, LONGEST_WAIT) if wait > timedelta(0) else None
