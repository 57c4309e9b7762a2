"""What is going on, for whoever waits: on stderr, so that the table stands alone on stdout."""

from __future__ import annotations

import sys
import time

_BEGAN = time.monotonic()


def say(text: str) -> None:
    """A line, after the seconds this has taken so far."""
    print(f"{time.monotonic() - _BEGAN:6.0f} s  {text}", file=sys.stderr, flush=True)
