"""What this process has seen of each provider since it started, for the page that shows it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from receiver.watch import Heard, Watch
from store.clock import Clock
from store.events import Status

CHALLENGE_LIMIT = 3
"""Seconds that MiniMax gives the answer to a challenge (platform.minimaxi.com, callback, 2026-11-20)."""

_REMEMBERED = 200  # challenges
_MOST_RESULTS = 50  # codes are a provider's own words
_KEY_REFUSED = "key_refused"


@dataclass(slots=True)
class Seen:
    """Of one provider. answers: to questions, by a status or a ProviderError's code.

    refused: pushes answered with a problem, by its status. key_good: what the last answer that told
    said about our key; None when none has.
    """

    challenges: int = 0
    slowest: float = 0.0
    too_late: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    last_result: str | None = None
    last_at: datetime | None = None
    key_good: bool | None = None
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    @property
    def usual_challenge(self) -> float:
        """The median of the last ones, in seconds; 0.0 when there was none."""
        return median(self._recent or (0.0,))

    def challenged(self, seconds: float) -> None:
        self.challenges += 1
        self.slowest = max(seconds, self.slowest)
        self.too_late += seconds > CHALLENGE_LIMIT
        self._recent.append(seconds)

    def asked(self, result: str, now: datetime) -> None:
        full = result not in self.answers and len(self.answers) >= _MOST_RESULTS
        self.answers["other" if full else result] += 1
        self.last_result, self.last_at = result, now
        if result == _KEY_REFUSED or result in frozenset(Status):
            self.key_good = result != _KEY_REFUSED


class Lately(Watch):
    """Remembers, and tells whoever else counts. since: when it began to."""

    def __init__(self, other: Watch, providers: Iterable[str], clock: Clock) -> None:
        self._other = other
        self._clock = clock
        self.since = clock()
        self.of = {name: Seen() for name in providers}

    def challenged(self, provider: str, seconds: float) -> None:
        if provider in self.of:
            self.of[provider].challenged(seconds)
        self._other.challenged(provider, seconds)

    def refused(self, provider: str, status: int) -> None:
        if provider in self.of:
            self.of[provider].refused[str(status)] += 1
        self._other.refused(provider, status)

    def waited(self, provider: str, seconds: float) -> None:
        self._other.waited(provider, seconds)

    def asked(self, provider: str, result: str) -> None:
        if provider in self.of:
            self.of[provider].asked(result, self._clock())
        self._other.asked(provider, result)

    def verdict(self, heard: Heard) -> None:
        self._other.verdict(heard)

    def took_over(self, provider: str) -> None:
        self._other.took_over(provider)
