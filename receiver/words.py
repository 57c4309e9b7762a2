"""Status words that no table knows: they count as processing, and each is logged once."""

from __future__ import annotations

import logging

from receiver.common_words import common_status
from receiver.failures import Code
from receiver.provider import Provider
from store.events import Failure

logger = logging.getLogger("taskbell.words")

_MOST = 200  # a provider that sends a new word each time must not fill the memory


class UnknownWords:
    """The unknown words a process has met, by provider."""

    def __init__(self) -> None:
        self._met: set[tuple[str, str]] = set()

    def __len__(self) -> int:
        return len(self._met)

    def of(self, provider: Provider) -> list[str]:
        """Those that a provider used, in the order of the alphabet."""
        return sorted(word for name, word in self._met if name == provider.name)

    def note(self, provider: Provider, word: str) -> None:
        """Log a word the first time it is met."""
        plain = word.strip().casefold()[:64]
        key = (provider.name, plain)
        if _is_known(provider, word) or key in self._met or len(self._met) >= _MOST:
            return
        self._met.add(key)
        logger.warning(
            "unknown status word %r counts as processing", plain, extra={"provider": provider.name}
        )


def unknown_word(provider: Provider, word: str) -> Failure | None:
    """The trouble of a task whose status word nobody knows; None for a known word."""
    if _is_known(provider, word):
        return None
    return Failure(
        Code.UNKNOWN_WORD,
        f"{provider.title} says {word.strip()[:64]!r}, a status word that Taskbell does not know:"
        " it counts as processing",
    )


def _is_known(provider: Provider, word: str) -> bool:
    plain = word.strip().casefold()
    return not plain or plain in provider.words or common_status(plain) is not None
