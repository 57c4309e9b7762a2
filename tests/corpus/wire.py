"""The world outside for tests: names that mean what a row says, and every connection noted."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

Answers = Sequence[str] | Sequence[Sequence[str]]
End = tuple[str, int]


class Wire:
    """What this process looks up and connects to, instead of a network.

    answers: of the name servers, by name; `*` is any; a list of lists is one list a look-up.
    leads: where a connection really goes; to anywhere else it is refused. looked_up, connected:
    every attempt since the names were told. honest: sockets tell where they really are connected.
    """

    def __init__(self) -> None:
        self._answers: dict[str, list[Sequence[str]]] = {}
        self.leads: dict[End, End] = {}
        self.connected: list[End] = []
        self.looked_up: list[str] = []
        self.honest = False

    def know(self, answers: Mapping[str, Answers]) -> None:
        """Forget the names and connections there were; know these names."""
        self._answers = {name: _in_turn(found) for name, found in answers.items()}
        self.connected = []
        self.looked_up = []

    def look_up(self, host: str | bytes | None, *_: object, **__: object) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else str(host)
        self.looked_up.append(name)
        queue = self._answers.get(name, self._answers.get("*", [()]))
        found = queue.pop(0) if len(queue) > 1 else queue[0]
        # as the C library does: odd spellings of numbers are no names
        with contextlib.suppress(OSError):
            found = [socket.inet_ntoa(socket.inet_aton(name))]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6 if ":" in text else socket.AF_INET, 1, 6, "", (text, 0))
            for text in found
        ]


def _in_turn(found: Answers) -> list[Sequence[str]]:
    listed = [each for each in found if not isinstance(each, str)]
    if listed:
        return listed
    return [[each for each in found if isinstance(each, str)]]


@contextlib.contextmanager
def wired() -> Iterator[Wire]:
    """Put every look-up and every connection of this process through a Wire."""
    wire = Wire()
    connect, peer = socket.socket.connect, socket.socket.getpeername
    ends: dict[int, End] = {}  # by descriptor: where a socket believes to be

    def noted(plug: socket.socket, address: Any) -> None:
        end = ends[plug.fileno()] = (str(address[0]), int(address[1]))
        wire.connected.append(end)
        if end not in wire.leads:
            raise ConnectionRefusedError(111, "Connection refused")
        connect(plug, wire.leads[end])

    def believed(plug: socket.socket) -> Any:
        end = ends.get(plug.fileno())
        return end if end in wire.leads and not wire.honest else peer(plug)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", wire.look_up)
        patch.setattr(socket.socket, "connect", noted)
        patch.setattr(socket.socket, "getpeername", believed)
        yield wire
