"""What is measured side by side: something that takes pushes and posts each one on, signed.

Taskbell, the naive way and every file in tests/bench/peers are one.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Protocol


class Unavailable(Exception):
    """It cannot be measured here; the message says why, in a few words for the table."""


class Broken(RuntimeError):
    """It ran, and did not do its work; the message's first line is for the table."""


class System(Protocol):
    """durability says what a 200 is worth: what is lost by a kill -9, what by a power cut."""

    @property
    def name(self) -> str: ...

    @property
    def durability(self) -> str: ...

    def running(
        self, folder: Path, database: str | None, sinks: Sequence[str]
    ) -> AbstractContextManager[str]:
        """Run it, ready for work; the URL that takes pushes. Everything it started ends with it.

        Every push is posted on to each sink URL, with the push's task_id somewhere in the body as
        `"task_id":"<digits>"` (any key that ends so; a blank after the colon does no harm). folder
        is empty and its own. database is the URL of an empty PostgreSQL database of its own, None
        when the run has no PostgreSQL. Raises Unavailable.
        """


@cache
def peers() -> Mapping[str, System]:
    """Every system in tests/bench/peers, by its file's name."""
    package = importlib.import_module("tests.bench.peers")
    found: dict[str, System] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if not module.ispkg:
            loaded = importlib.import_module(f"tests.bench.peers.{module.name}")
            if hasattr(loaded, "SYSTEM"):  # the others help them
                found[module.name] = loaded.SYSTEM
    return found
