"""Ids that say what they name and sort by the time they were made: task_01kb…, evt_01kb…."""

from __future__ import annotations

import os
import threading
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]  # ten bits at a time
_RANDOM_BITS = 80

_lock = threading.Lock()
_last = 0


def new_id(prefix: str, now: datetime) -> str:
    """prefix_ and 26 characters: 48 bits of milliseconds, then 80 random ones.

    Ids made in one process never sort before an earlier one, also within a millisecond or after
    the clock stepped back, so that what was recorded first is listed first.
    """
    global _last
    stamp = int(now.timestamp() * 1000)
    value = (stamp << _RANDOM_BITS) | int.from_bytes(os.urandom(10), "big")
    with _lock:
        if value <= _last:
            value = _last + 1
        _last = value
    return f"{prefix}_{_base32(value)}"


def _base32(value: int) -> str:
    pairs = []
    for _ in range(13):
        pairs.append(_PAIRS[value & 1023])
        value >>= 10
    pairs.reverse()
    return "".join(pairs)
