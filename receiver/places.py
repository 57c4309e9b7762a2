"""Places: how much work that waits for others may be under way at a time."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from receiver.problems import Busy, Problem

SHORT_OF_PLACES = "taskbell.short_of_places"
"""In the state of a request: nearly every connection is in use, so answer it without waiting."""


def is_short_of_places(scope: Mapping[str, Any]) -> bool:
    """Whether a request has to be answered from memory, or not at all."""
    return SHORT_OF_PLACES in scope.get("state", ())


def short_of_places() -> Problem:
    return Busy(503, "too many requests are under way; try again", {"Retry-After": "2"})


class Places:
    """So many at a time, and so many for one owner."""

    def __init__(self, most: int, what: str, *, each: int | None = None) -> None:
        """what: names them to whoever finds no place, as in "too many pushes are under way"."""
        self.most = most
        self._what = what
        self._each = each
        self._taken = 0
        self._by_owner: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        return self._taken

    @contextlib.contextmanager
    def one(self, owner: str | None = None) -> Iterator[None]:
        """Hold one. Raises Busy: 503 when all are taken, 429 when this owner has enough."""
        if self._each and owner and self._by_owner[owner] >= self._each:
            raise Busy(
                429,
                f"{self._each} {self._what} of this key are under way; try again",
                {"Retry-After": "5"},
            )
        if self._taken >= self.most:
            raise Busy(503, f"too many {self._what} are under way; try again", {"Retry-After": "5"})
        self._taken += 1
        if owner:
            self._by_owner[owner] += 1
        try:
            yield
        finally:
            self._taken -= 1
            if owner:
                self._by_owner[owner] -= 1
                if not self._by_owner[owner]:
                    del self._by_owner[owner]
