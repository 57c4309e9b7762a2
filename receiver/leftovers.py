"""How much may be kept of pushes that bring nothing: a leaked callback URL must not fill the disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

logger = logging.getLogger("taskbell.callbacks")

_WINDOW = timedelta(hours=1)
_REMEMBERED = 10_000  # tokens


@dataclass(slots=True)
class _Spent:
    since: datetime
    pieces: int = 0
    size: int = 0
    told: bool = False


class Allowance:
    """So much may be kept of a token's pushes in an hour; each process counts for itself.

    what: in words, for the log, which has one line when a token's hour has no room left.
    """

    def __init__(self, what: str, pieces: int, total_bytes: int) -> None:
        self._what = what
        self._pieces = pieces
        self._bytes = total_bytes
        self._spent: dict[str, _Spent] = {}

    def spend(self, token_id: str, size: int, now: datetime) -> bool:
        """Take room for one more of so many bytes; False when there is none."""
        spent = self._current(token_id, now)
        if spent.pieces < self._pieces and spent.size + size <= self._bytes:
            spent.pieces += 1
            spent.size += size
            return True
        self.tell(token_id, now)
        return False

    def tell(self, token_id: str, now: datetime) -> None:
        """Log that the token has no room, once in its hour."""
        spent = self._current(token_id, now)
        if not spent.told:
            spent.told = True
            logger.warning(
                "too many %s with one callback token: some of them are not kept",
                self._what,
                extra={"token": token_id},
            )

    def give_back(self, token_id: str, size: int) -> None:
        """It was not needed."""
        spent = self._spent.get(token_id)
        if spent is not None and spent.pieces > 0:
            spent.pieces -= 1
            spent.size = max(0, spent.size - size)

    def _current(self, token_id: str, now: datetime) -> _Spent:
        spent = self._spent.get(token_id)
        if spent is None or not timedelta(0) <= now - spent.since < _WINDOW:
            if spent is None and len(self._spent) >= _REMEMBERED:
                del self._spent[next(iter(self._spent))]
            spent = self._spent[token_id] = _Spent(now)
        return spent
