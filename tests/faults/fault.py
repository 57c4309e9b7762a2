"""What a fault is: something that goes wrong, and what must hold all the same.

To add one: a file in tests/faults that ends in `FAULT: Fault = <Class>()`. tests/faults/prove_faults.py
runs the short form on each of its engines, ./tests/faults/run the long one and its weaknesses.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tests.databases import PostgreSQL
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:  # it needs a rig itself
    from tests.faults.servers import Nursery


class NotHere(Exception):
    """This machine cannot show the fault; the message says what it lacks."""


@dataclass(frozen=True, slots=True)
class Rig:
    """What a fault is given: a folder and a migrated database of its own, gone afterwards.

    nursery: where servers come from. postgresql: the run's server, not to be stopped; None on
    SQLite.
    """

    engine: str
    short: bool
    folder: Path
    database_url: str
    nursery: Nursery
    postgresql: PostgreSQL | None = None

    def size(self, long: int, short: int) -> int:
        return short if self.short else long

    def limit(self, seconds: float) -> float:
        """How long something may take: the suite's machine may be busy with other tests."""
        return max(seconds, PATIENCE_SECONDS) if self.short else seconds


@dataclass(frozen=True, slots=True)
class Outcome:
    """A line of the table. None: does not apply. lost and doubled count events or deliveries.

    recovered_seconds: from the fault's end until everything was as if it had never been.
    broken: each promise that was not kept, in words; empty when all held.
    """

    sent: int | None = None
    acknowledged: int | None = None
    lost: int | None = None
    doubled: int | None = None
    recovered_seconds: float | None = None
    broken: tuple[str, ...] = ()

    def also(self, broken: Iterable[str]) -> Outcome:
        """The same with more that was broken."""
        return replace(self, broken=(*self.broken, *broken))


class Fault(Protocol):
    """about: what goes wrong, in one line. engines: among tests.databases.ENGINES.

    weaknesses: the negative controls. Each names a defence that run() can be told to take away, and
    with it the outcome must have something broken: else the fault shows nothing.
    """

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> str: ...

    @property
    def engines(self) -> tuple[str, ...]: ...

    @property
    def weaknesses(self) -> tuple[str, ...]: ...

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        """Let it go wrong, on real sockets and processes where it can. Raises NotHere."""


@cache
def faults() -> Mapping[str, Fault]:
    """Every fault in tests/faults, by name."""
    found: dict[str, Fault] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not module.name.startswith("test_"):
            loaded = importlib.import_module(f"tests.faults.{module.name}")
            if hasattr(loaded, "FAULT"):  # the others are the rig
                found[loaded.FAULT.name] = loaded.FAULT
    return found
