"""The request that an event makes at a subscription, as pages show it; deploy joins it with dispatch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from store.matching import Subscription
from store.sent import StoredEvent


@dataclass(frozen=True, slots=True)
class Rendered:
    """A request without its secrets. stand_in: a chat's own signature in it is not the real one.

    trouble: why there is none, in words; body is empty then.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    stand_in: bool = False
    trouble: str | None = None


Render = Callable[[StoredEvent, Subscription, datetime], Rendered]
"""The request of an attempt that starts at a time."""
