"""Wrong API keys, counted by the address they came from, so that guessing is slow.

The address is the socket's peer. Behind a proxy that is the proxy, for everybody: so whoever
counts here must let a good key pass all the same (receiver/auth.py does).
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address, ip_network

ALLOWED = 30
WINDOW_SECONDS = 60.0
_REMEMBERED_MOST = 10_000


class Guesses:
    """Counts for a minute from the first wrong key of an address. now: monotonic seconds."""

    def __init__(self) -> None:
        # until when, how many; oldest first. A plain dict is slow at its emptied front.
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, address: str, now: float) -> int:
        """One more, as far as is known yet; how many there are in this minute."""
        until, number = self._counts.get(address, (0.0, 0))
        if until <= now:
            self._counts.pop(address, None)
            self._forget(now)
            until, number = now + WINDOW_SECONDS, 0
        self._counts[address] = (until, number + 1)
        return number + 1

    def take_back(self, address: str) -> None:
        """It was a good key."""
        if address in self._counts:
            until, number = self._counts[address]
            self._counts[address] = (until, max(0, number - 1))

    def seconds_left(self, address: str, now: float) -> float:
        """Until its minute is over."""
        until, _ = self._counts.get(address, (now, 0))
        return until - now

    def _forget(self, now: float) -> None:
        """Make room for one: what is over goes, then what is nearest to it."""
        while self._counts:
            address, (until, _) = next(iter(self._counts.items()))
            if until > now and len(self._counts) < _REMEMBERED_MOST:
                break
            del self._counts[address]


def neighbourhood(peer: str) -> str:
    """What counts as one address. An IPv6 user has at least a /64 to himself.

    >>> neighbourhood("2001:db8::1:2:3"), neighbourhood("::ffff:192.0.2.1")
    ('2001:db8::/64', '192.0.2.1')
    """
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:  # a Unix socket has none
        return peer
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ip_network((address, 64), strict=False))
