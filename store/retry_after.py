"""Reads the Retry-After header: providers and subscribers both send it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

LONGEST_WAIT = timedelta(hours=24)
_MAX_DIGITS = 10
_MAX_CHARACTERS = 64  # the longest date form has 33


def retry_after(value: str | None, now: datetime) -> timedelta | None:
    """The wait that was asked for, at most 24 hours; None for a past date or anything unusable.

    Takes seconds and the three date forms of RFC 9110, section 10.2.3.

    >>> now = datetime(2026, 11, 19, tzinfo=UTC)
    >>> retry_after(" 120 ", now)
    datetime.timedelta(seconds=120)
    >>> retry_after("Thu, 19 Nov 2026 00:01:30 GMT", now)
    datetime.timedelta(seconds=90)
    >>> retry_after("soon", now)
    """
    # int() and the date parser also take full-width digits, hence the ASCII test
    if value is None or len(value) > _MAX_CHARACTERS or not value.isascii():
        return None
    text = value.strip(" \t")
    return _seconds(text) if text.isdigit() else _until(text, now)


def _seconds(digits: str) -> timedelta | None:
    if len(digits) > _MAX_DIGITS:
        return None
    return min(timedelta(seconds=int(digits)), LONGEST_WAIT)


def _until(date: str, now: datetime) -> timedelta | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # HTTP dates are UTC; the parser leaves asctime dates and unknown zones naive
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    wait = aware - now
    return min(wait, LONGEST_WAIT) if wait > timedelta(0) else None
