"""What a row of the benchmark is: one question, asked of Taskbell and of what it is held against.

To add one: a file in tests/bench/rows/ that ends in `ROW: Row = <Class>()`. Its name is what
`--row` says.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Protocol

from tests.bench.bench import Bench
from tests.bench.figures import Line


class Row(Protocol):
    """about: what is measured, for --help, in one line."""

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> str: ...

    def measure(self, bench: Bench) -> Iterator[Line]:
        """The lines it adds to the table, each as soon as it is known."""


@cache
def rows() -> Mapping[str, Row]:
    """Every row in tests/bench/rows, by name, in the order of the table."""
    package = importlib.import_module("tests.bench.rows")
    found: dict[str, Row] = {}
    for module in pkgutil.iter_modules(package.__path__):
        row: Row = importlib.import_module(f"tests.bench.rows.{module.name}").ROW
        found[row.name] = row
    return {name: found[name] for name in sorted(found, key=_place)}


_ORDER = (
    *("pushes", "delivered", "latency", "backlog", "finished", "endpoints", "polls", "detection"),
    *("processes", "idle", "streams", "pages"),
)


def _place(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)
