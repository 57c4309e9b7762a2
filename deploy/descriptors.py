"""Sharing out the file descriptors that this process may have."""

from __future__ import annotations

import resource
from dataclasses import dataclass

_OURS = 96
"""The database, questions to providers, look-ups of names, what Python and the loop have open."""

_LEAST = 32
_MOST = 4096


@dataclass(frozen=True, slots=True)
class Descriptors:
    """How many connections may be open at a time, idle ones included."""

    to_subscribers: int
    from_clients: int


def share_out(most: int) -> Descriptors:
    """Half of what we do not need ourselves for each way.

    >>> share_out(1024)
    Descriptors(to_subscribers=464, from_clients=464)
    """
    half = max(_LEAST, min((most - _OURS) // 2, _MOST))
    return Descriptors(to_subscribers=half, from_clients=half)


def descriptors() -> Descriptors:
    """By the limit that this process was started with (`ulimit -n`)."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return share_out(_OURS + 2 * _MOST if most == resource.RLIM_INFINITY else most)
