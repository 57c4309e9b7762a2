"""What a check found, and how checks are run so that none hides another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

DEADLINE_SECONDS = 12.0
"""For a whole check. The questions in it have shorter ones of their own."""


class Level(StrEnum):
    OK = "ok"
    SKIP = "skip"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """check: what was looked at. todo: what to do about it, if anything."""

    check: str
    level: Level
    text: str
    todo: str = ""


def ok(check: str, text: str) -> Finding:
    return Finding(check, Level.OK, text)


def skip(check: str, text: str) -> Finding:
    return Finding(check, Level.SKIP, text)


def warn(check: str, text: str, todo: str) -> Finding:
    return Finding(check, Level.WARN, text, todo)


def fail(check: str, text: str, todo: str) -> Finding:
    return Finding(check, Level.FAIL, text, todo)


@dataclass(frozen=True, slots=True)
class Check:
    """A name for what is looked at, and how to look. `look` may raise whatever it likes."""

    name: str
    look: Callable[[], Sequence[Finding]]


@dataclass(slots=True)
class _Running:
    check: Check
    found: list[Finding] = field(default_factory=list)
    thread: threading.Thread | None = None

    def start(self) -> None:
        # a daemon: one that hangs must not keep the process
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self) -> None:
        try:
            self.found = list(self.check.look())
        except Exception as error:  # noqa: BLE001 - a bug in one check must not hide the others
            what = f"the check itself failed: {type(error).__name__}"
            self.found = [fail(self.check.name, what, "report it, with `taskbell --version`")]

    def result(self, seconds: float) -> list[Finding]:
        assert self.thread is not None  # noqa: S101 - started before
        self.thread.join(seconds)
        if self.thread.is_alive():
            return [fail(self.check.name, f"no result in {seconds:g} s", "try again")]
        return self.found


def run(checks: Sequence[Check], seconds: float = DEADLINE_SECONDS) -> Iterator[Finding]:
    """Run checks side by side; their findings in the checks' order, as soon as they are there."""
    runs = [_Running(check) for check in checks]
    for each in runs:
        each.start()
    for each in runs:
        yield from each.result(seconds)
