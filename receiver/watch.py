"""What the callback door and the poller tell whoever counts (deploy/metrics.py)."""

from __future__ import annotations


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
