"""One-time links that sign a person in: what `serve --dev` and the demo print beside the key.

Opening one shows a button, and only pressing it uses the link up: chats and mail programs open
links by themselves to show what is behind them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from store.clock import monotonic as real_monotonic

VALID_SECONDS = 600.0
_MOST = 100


class OnceLinks:
    """The links of this process. They sign in with TASKBELL_API_KEY."""

    def __init__(self, monotonic: Callable[[], float] = real_monotonic) -> None:
        self._monotonic = monotonic
        self._until: dict[str, float] = {}

    def issue(self) -> str:
        """The text behind `/login?once=`."""
        if len(self._until) >= _MOST:
            del self._until[next(iter(self._until))]
        text = secrets.token_hex(32)  # chats and terminals cut a - or _ from the end of a link
        self._until[text] = self._monotonic() + VALID_SECONDS
        return text

    def good(self, text: str) -> bool:
        """Whether it can still be used. 256 random bits need no constant time."""
        return self._until.get(text, 0.0) > self._monotonic()

    def use(self, text: str) -> bool:
        """Whether it could be used; afterwards it cannot."""
        return self._until.pop(text, 0.0) > self._monotonic()
