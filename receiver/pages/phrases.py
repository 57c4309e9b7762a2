"""Times, spans and numbers in the words of a language."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from receiver.pages.words import Words
from store.events import rfc3339

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_SHORT = 0.05


@dataclass(frozen=True, slots=True)
class Phrases:
    """now: when the page is made."""

    words: Words
    now: datetime

    def span(self, length: timedelta | float) -> str:
        """How long: the two largest units; tenths of a second below ten."""
        seconds = length.total_seconds() if isinstance(length, timedelta) else length
        if seconds < 1:
            return self.words("span.milliseconds", n=round(max(seconds, 0) * 1000))
        if seconds < 10:
            return self.words("span.seconds", n=round(seconds, 1))
        whole = int(seconds)
        for unit, size, smaller in _UNITS:
            if whole >= size:
                return self._two(unit, whole // size, smaller, whole % size)
        return self.words("span.seconds", n=whole)

    def _two(self, unit: str, number: int, smaller: tuple[str, int], rest: int) -> str:
        name, size = smaller
        parts = [self.words(f"span.{unit}", n=number)]
        if rest // size:
            parts.append(self.words(f"span.{name}", n=rest // size))
        return " ".join(parts)

    def rough(self, length: timedelta) -> str:
        """How long, in one unit."""
        whole = int(abs(length.total_seconds()))
        for unit, size, _ in _UNITS:
            if whole >= size:
                return self.words(f"span.{unit}", n=whole // size)
        return self.words("span.seconds", n=whole)

    def when(self, moment: datetime) -> str:
        """How long ago, or in how long."""
        if moment > self.now:
            return self.words("span.ahead", span=self.rough(moment - self.now))
        if self.now - moment < timedelta(seconds=1):
            return self.words("span.now")
        return self.words("span.ago", span=self.rough(self.now - moment))

    def since(self, beginning: datetime, moment: datetime) -> str:
        """How long after the beginning."""
        seconds = (moment - beginning).total_seconds()
        return "+" + (self.span(seconds) if seconds >= _SHORT else self.words("span.seconds", n=0))

    def exact(self, moment: datetime) -> str:
        """UTC to the second, for people; rfc3339 is for machines."""
        return f"{moment:%Y-%m-%d %H:%M:%S} UTC"

    def machine(self, moment: datetime) -> str:
        return rfc3339(moment)


_UNITS = (
    ("days", _DAY, ("hours", _HOUR)),
    ("hours", _HOUR, ("minutes", _MINUTE)),
    ("minutes", _MINUTE, ("seconds", 1)),
)
