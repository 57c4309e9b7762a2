"""What every row is given: how big, which databases, and turns for those it compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic, TypeVar

from tests.bench.figures import Measured
from tests.bench.postgresql import copy_of
from tests.bench.progress import say
from tests.bench.system import Unavailable
from tests.databases import PostgreSQL, copy_sqlite

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bench:
    """engines: "sqlite", "postgresql" or both. postgresql: the run's server, if it has one."""

    quick: bool
    runs: int
    engines: tuple[str, ...]
    postgresql: PostgreSQL | None = None

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder, gone at the end."""
        with TemporaryDirectory(prefix="taskbell-bench-", ignore_cleanup_errors=True) as name:
            yield Path(name)

    @contextmanager
    def database(self, engine: str) -> Iterator[str]:
        """The URL of an empty database of its own, gone at the end."""
        if engine == "postgresql":
            assert self.postgresql is not None
            with self.postgresql.database(migrated=False) as url:
                yield url
        else:
            with self.folder() as folder:
                yield f"sqlite:///{folder}/taskbell.db"

    @contextmanager
    def given(self, engine: str) -> Iterator[str | None]:
        """What a System is told: an empty PostgreSQL database of its own, or None."""
        if engine == "postgresql":
            with self.database(engine) as url:
                yield url
        else:
            yield None

    @contextmanager
    def prepared(
        self, engine: str, fill: Callable[[str], object]
    ) -> Iterator[Callable[[], AbstractContextManager[str]]]:
        """A database that is filled once, and whose copies are then handed out."""
        with self.database(engine) as url:
            say(f"  filling {engine}")
            fill(url)
            yield partial(self._copy, engine, url)

    @contextmanager
    def _copy(self, engine: str, url: str) -> Iterator[str]:
        if engine == "postgresql":
            assert self.postgresql is not None
            with copy_of(self.postgresql, url) as copy:
                yield copy
        else:
            with self.folder() as folder:
                yield copy_sqlite(Path(url.removeprefix("sqlite:///")), folder / "taskbell.db")

    def in_turns(self, takers: Mapping[str, Callable[[], T]]) -> dict[str, Turns[T]]:
        """Let each measure once, then each again, `runs` times; what each measured, by its name.

        Who is Unavailable, or breaks, gets no other turn.
        """
        taken: dict[str, list[T]] = {name: [] for name in takers}
        missing: dict[str, str] = {}
        for number in range(1, self.runs + 1):
            for name in [name for name in takers if name not in missing]:
                say(f"  run {number} of {self.runs}: {name}")
                try:
                    taken[name].append(takers[name]())
                except (Unavailable, RuntimeError) as reason:
                    say(f"  {name} is not measured: {reason}")
                    missing[name] = str(reason).splitlines()[0]
        return {name: Turns(name, tuple(taken[name]), missing.get(name, "")) for name in takers}

    def measured(self, takers: Mapping[str, Callable[[], float]]) -> dict[str, Measured]:
        """The same when each measures one figure."""
        return {name: turns.figure(float) for name, turns in self.in_turns(takers).items()}


@dataclass(frozen=True, slots=True)
class Turns(Generic[T]):
    """What one system measured, turn by turn; missing says why it had none."""

    name: str
    taken: tuple[T, ...]
    missing: str = ""

    def figure(self, of: Callable[[T], float]) -> Measured:
        """One figure of each turn."""
        if self.missing:
            return Measured(self.name, missing=self.missing)
        return Measured(self.name, tuple(of(one) for one in self.taken))
