"""TCP ports for servers that a test starts later, or in another process."""

from __future__ import annotations

import itertools
import socket

_FIRST, _PAST = 20_000, 32_000
"""Below the ports that systems give to outgoing connections: none of these can take one meanwhile."""

_reserved: list[socket.socket] = []
_numbers = itertools.count()


def free_port() -> int:
    """Return a port on 127.0.0.1 that nobody else who calls this gets while this process lives.

    The UDP socket of the same number, bound until the process ends, keeps other test processes away.
    """
    for _ in range(_FIRST, _PAST):
        port = _FIRST + next(_numbers) % (_PAST - _FIRST)
        reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            reservation.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        _reserved.append(reservation)
        return port
    raise OSError(f"no port from {_FIRST} to {_PAST - 1} is free")
