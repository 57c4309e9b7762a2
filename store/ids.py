"""Ids that say what they name and sort by the time they were made: task_01kb…, evt_01kb…."""

from __future__ import annotations

import os
import threading
from datetime import datetime
from functools import lru_cache

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]  # ten bits at a time
_RANDOM_BITS = 80

_lock = threading.Lock()
_last = 0


def new_id(prefix: str, now: datetime) -> str:
    """prefix_ and 26 characters: 48 bits of milliseconds, then 80 more.

    Those 80 are random for the first id of a millisecond; the next ones count up from there. So
    ids made in one process never sort before an earlier one, also after the clock stepped back:
    what was recorded first is listed first, and what is made together lies together in an index.
    """
    global _last
    stamp = int(now.timestamp() * 1000) << _RANDOM_BITS
    with _lock:
        if stamp > _last:
            _last = stamp | int.from_bytes(os.urandom(_RANDOM_BITS // 8), "big")
        else:
            _last += 1
        value = _last
    return f"{prefix}_{_head(value >> 20)}{_PAIRS[value >> 10 & 1023]}{_PAIRS[value & 1023]}"


def first_id(prefix: str, moment: datetime) -> str:
    """The lowest id of a millisecond: what was made from then on sorts at it or behind it.

    >>> first_id("evt", datetime.fromisoformat("2026-11-21T12:00:00Z"))
    'evt_01m7yzmhg00000000000000000'
    """
    stamp = int(moment.timestamp() * 1000) << _RANDOM_BITS
    return f"{prefix}_{_head(stamp >> 20)}{_PAIRS[0]}{_PAIRS[0]}"


@lru_cache(maxsize=64)  # ids that were counted up share it
def _head(value: int) -> str:
    pairs = []
    for _ in range(11):
        pairs.append(_PAIRS[value & 1023])
        value >>= 10
    pairs.reverse()
    return "".join(pairs)
