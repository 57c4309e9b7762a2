"""What goes wrong on purpose: pushes that get lost, repeated or forged, queries that are not answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import Any


@dataclass(frozen=True, slots=True)
class Faults:
    """How often what goes wrong, 0.0 to 1.0 where it is a share, drawn anew each time.

    Pushes: drop, duplicate, reorder (per task: all held until its end, then the latest first),
    delay_seconds, forged (made-up pushes before each real one). drop_first and duplicate_first
    lose and repeat exactly that many final pushes, the first ones, whatever the shares are.
    Queries: rate_limited (429; with Retry-After unless that is None), unavailable (500, 502, 503),
    html (a page with status 200), hang (silent for hang_seconds, then cut off).
    Tasks: fail.
    """

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    delay_seconds: float = 0.0
    forged: int = 0
    drop_first: int = 0
    duplicate_first: int = 0
    rate_limited: float = 0.0
    retry_after_seconds: int | None = None
    unavailable: float = 0.0
    html: float = 0.0
    hang: float = 0.0
    hang_seconds: float = 1.0
    fail: float = 0.0


class Trouble(StrEnum):
    """What becomes of a query that is not answered properly."""

    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    HTML = "html"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Push:
    """One push, due at a moment of the monotonic time. copies 0: lost on the way; 2: sent twice."""

    due: float
    body: Mapping[str, Any]
    final: bool
    copies: int = 1
    forged: bool = False


Forge = Callable[[Random], Mapping[str, Any]]
"""Makes the body of a push about a task that does not exist."""


class Dice:
    """Draws what goes wrong. Keeps what is left of drop_first and duplicate_first."""

    def __init__(self, faults: Faults, queries: Random) -> None:
        self.faults = faults
        self.queries = queries
        self._drops_left = faults.drop_first
        self._repeats_left = faults.duplicate_first

    def fails(self, random: Random) -> bool:
        return random.random() < self.faults.fail

    def trouble(self) -> Trouble | None:
        """What becomes of the next query; None: it is answered."""
        shares = {
            Trouble.RATE_LIMITED: self.faults.rate_limited,
            Trouble.UNAVAILABLE: self.faults.unavailable,
            Trouble.HTML: self.faults.html,
            Trouble.HANG: self.faults.hang,
        }
        return next((t for t, share in shares.items() if self.queries.random() < share), None)

    def spoil(self, pushes: list[Push], forge: Forge, random: Random) -> list[Push]:
        """What is really sent of a task's pushes, in the order of sending."""
        if random.random() < self.faults.reorder:
            end = pushes[-1].due
            pushes = [replace(push, due=end) for push in reversed(pushes)]
        sent: list[Push] = []
        for push in pushes:
            late = replace(push, due=push.due + self.faults.delay_seconds)
            for _ in range(self.faults.forged):
                sent.append(Push(late.due, forge(random), final=True, forged=True))
            sent.append(replace(late, copies=self._copies(push, random)))
        return sent

    def _copies(self, push: Push, random: Random) -> int:
        if push.final and self._drops_left:
            self._drops_left -= 1
            return 0
        if push.final and self._repeats_left:
            self._repeats_left -= 1
            return 2
        if random.random() < self.faults.drop:
            return 0
        return 2 if random.random() < self.faults.duplicate else 1
