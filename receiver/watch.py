"""What the callback door and the poller tell whoever counts (deploy/metrics.py)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from receiver.failures import Blame, Code
from store.events import Failure, Task


@dataclass(frozen=True, slots=True)
class Heard:
    """What became of one question to a provider about one task.

    task: as it was when the question was put. blame None: a good answer. trouble: what to show on
    the task, in words; a good answer has one only for a status word that nobody knows.
    """

    task: Task
    at: datetime
    blame: Blame | None = None
    trouble: Failure | None = None

    @property
    def good(self) -> bool:
        return self.blame is None

    @property
    def provider_is_there(self) -> bool:
        """True when the provider itself answered: what is wrong, if anything, is this task's."""
        return self.blame in (None, Blame.TASK)

    @property
    def unknown_word(self) -> bool:
        return self.trouble is not None and self.trouble.code == Code.UNKNOWN_WORD


class Watch:
    """Counts nothing by itself. Called on the event loop."""

    def challenged(self, provider: str, seconds: float) -> None:
        """A challenge was answered."""

    def refused(self, provider: str, status: int) -> None:
        """A push was answered with a problem. provider: as the URL names it, whatever that is."""

    def waited(self, provider: str, seconds: float) -> None:
        """A question waited for its turn."""

    def asked(self, provider: str, result: str) -> None:
        """A question was answered. result: a task's status, or a ProviderError's code."""

    def verdict(self, heard: Heard) -> None:
        """A question was answered, or failed: once for each question, whatever came of it."""

    def took_over(self, provider: str) -> None:
        """Another process polled this provider until now: what it found is not known here."""
