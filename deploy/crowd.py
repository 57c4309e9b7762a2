"""Everybody who is connected: how many there may be, who has to go for newcomers, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

logger = logging.getLogger("taskbell.connections")

_LOOK_AGAIN_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take of us. What took too long is ended up to look_seconds later."""

    receive_seconds: float = 9.0
    """From a request's first byte to its last; also from the accept to the first byte."""
    idle_seconds: float = 75.0
    """Between two requests: longer than clients keep theirs, so that they are the ones who close.

    A request that is sent in the moment in which we close is lost.
    """
    take_seconds: float = 9.0
    """For answers to be taken, once 64 KiB wait here."""
    ended_seconds: float = 5.0
    """For the answers to a client that ended its side: most of those are gone."""
    last_seconds: float = 1.0
    """For one more request, once the process was asked to end."""
    shutdown_seconds: float = 2.0
    """For the rest of a request, and for answers to be taken, once the process was asked to end."""
    linger_seconds: float = 1.0
    """For a refused client to take the answer, while the rest of what it sends is thrown away."""
    grace_seconds: float = 0.25
    """How long everybody may keep us waiting, whoever else wants to be let in."""
    look_seconds: float = 0.5
    connections: int = 1024
    unread_bytes: int = 64 * 1024 * 1024
    """Of answers that wait to be taken, of everybody together."""
    head_bytes: int = 64 * 1024
    head_lines: int = 100
    queued: int = 16
    """Requests read ahead, before the answer to the first; each is an object of ours."""

    @property
    def kept_for_newcomers(self) -> int:
        """Connections that no request may hold for long."""
        return max(1, self.connections // 10)


class Wait(IntEnum):
    """What we wait for a client for. The lower, the sooner it has to go when places are short."""

    REQUEST = 0
    REST_OF_REQUEST = 1
    TO_TAKE_ANSWER = 2


class Waiting(NamedTuple):
    """Since when we have been waiting for a client."""

    wait: Wait
    since: float


class Member(Protocol):
    """A connection, as its crowd knows it."""

    @property
    def waiting(self) -> Waiting | None:
        """What we wait for; None when the client waits for us."""

    @property
    def unread_bytes(self) -> int:
        """How much of our answers waits here to be taken."""

    @property
    def has_unread(self) -> bool:
        """Whether the kernel has something of it that we have not read yet."""

    def look(self, now: float) -> None:
        """End what took too long."""

    def shutdown(self) -> None:
        """Let it end with the request that is under way, or the next one."""

    def make_room(self) -> None:
        """Close it for somebody else; say so if it is in the middle of a request."""

    def cut_off(self) -> None:
        """Close it without another word."""


class Crowd:
    """For newcomers those have to go who keep us waiting longest, idle ones first."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.busy = 0
        """Connections whose client waits for an answer of ours."""
        self.ending = False
        self._coming: set[Member] = set()
        self._here: set[Member] = set()
        self._pushed_out = 0

    @property
    def is_short_of_places(self) -> bool:
        """Whether a request that begins now must be answered without waiting for anybody."""
        return self.busy >= self.limits.connections - self.limits.kept_for_newcomers

    def expects(self, connection: Member) -> None:
        """It was accepted, and will join or leave in a moment."""
        self._coming.add(connection)

    def joined(self, connection: Member) -> None:
        self._coming.discard(connection)
        self._here.add(connection)
        if self.ending:
            connection.shutdown()

    def left(self, connection: Member) -> None:
        self._coming.discard(connection)
        self._here.discard(connection)

    async def keep_watch(self) -> None:
        """Look at everybody, now and then, until canceled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.limits.look_seconds)
            try:
                for connection in list(self._here):
                    connection.look(loop.time())
                self._cut_off_greedy()
            except Exception:  # a bug with one must not leave the others unwatched for good
                logger.exception("looking at the connections failed")
            self._report()

    def disperse(self) -> None:
        """Cut everybody off."""
        for connection in list(self._here):
            connection.cut_off()

    async def end(self) -> None:
        """Let everybody send what is on its way, for a second; then close who says nothing."""
        loop = asyncio.get_running_loop()
        self.ending = True
        for connection in list(self._here):
            connection.shutdown()
        give_up = loop.time() + self.limits.last_seconds
        while self._idle() and loop.time() < give_up:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        for connection in self._idle():
            connection.make_room()

    @property
    def is_full(self) -> bool:
        return len(self._here) + len(self._coming) >= self.limits.connections

    def makes_room(self) -> bool:
        """Send somebody away for a newcomer. Whether there was anybody who may be."""
        # some at once: the search takes a while, and a flood brings the next one soon
        some = self._longest_waiting()[: self.limits.connections // 32 + 1]
        for connection in some:
            connection.make_room()
            self._here.discard(connection)
            self._pushed_out += 1
        return bool(some)

    def _longest_waiting(self) -> list[Member]:
        waiting = sorted(
            (waiting, number, connection)
            for number, connection in enumerate(self._here)
            if (waiting := connection.waiting) is not None
        )
        if not waiting:
            return []
        first = waiting[0][0].wait  # who is idle for a moment only goes before who sends slowly
        since = asyncio.get_running_loop().time() - self.limits.grace_seconds
        return [
            one
            for (wait, began), _, one in waiting
            if wait is first and began <= since and not (wait is Wait.REQUEST and one.has_unread)
        ]

    def _idle(self) -> list[Member]:
        return [one for one in self._here if (w := one.waiting) and w.wait is Wait.REQUEST]

    def _cut_off_greedy(self) -> None:
        """Those for whom most waits, until no more waits than may."""
        unread = [(one.unread_bytes, number, one) for number, one in enumerate(self._here)]
        too_much = sum(size for size, _, _ in unread) - self.limits.unread_bytes
        if too_much <= 0:
            return
        for size, _, connection in sorted(unread, reverse=True):
            connection.cut_off()
            too_much -= size
            if too_much <= 0:
                return

    def _report(self) -> None:
        if self._pushed_out:
            logger.warning(
                "too many connections: the idle and slow ones were closed",
                extra={"closed": self._pushed_out, "most": self.limits.connections},
            )
            self._pushed_out = 0
