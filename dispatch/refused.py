"""Why a delivery does not go to a URL or an address."""

from __future__ import annotations


class Refused(ValueError):
    """A URL or an address that deliveries must not go to. reason is one word for tests and logs."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoSuchHost(Refused):
    """The name has no address now. It may have one later, so this is worth another try."""

    def __init__(self, message: str) -> None:
        super().__init__("dns", message)
