"""./tests/faults/run: let each fault happen, with and without its defences, and print the table."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from store.clock import system_clock
from tests.bench.postgresql import running_postgresql
from tests.bench.progress import say
from tests.databases import PostgreSQL
from tests.faults import table
from tests.faults.fault import Fault, NotHere, Outcome, faults
from tests.faults.rigs import new_rig
from tests.faults.servers import Nursery, nursery
from tests.faults.table import Line

_WIDTH = 160
_EXAMPLES = """\
examples:
  ./tests/faults/run                          everything, each control too: over twelve minutes
  ./tests/faults/run --short                  everything, as ./tests/services/run does it
  ./tests/faults/run kill disk-full           two of them
  ./tests/faults/run --markdown faults.md     write the table there too

A control takes a defence away, and then something must be broken: red. Ends with 1 when a promise
was not kept, or a control stayed pale.

faults:
"""


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    chosen = _options().parse_args()
    lines: list[Line] = []
    try:
        for line in _lines(chosen.faults or list(faults().values()), chosen.short):
            lines.append(line)
            say("    " + "  ".join(table.written(line)))
    except KeyboardInterrupt:
        say("stopped")
        sys.exit(130)
    finally:  # ten minutes' lines are not thrown away for what came after them
        if lines:
            _show(lines, chosen.short, chosen.markdown)
    if any(line.failed for line in lines):
        sys.exit("a promise was not kept, or a control stayed pale: the table says which")


def _stop(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _options() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {_word(fault):<24}{fault.about}" for fault in faults().values())
    options = argparse.ArgumentParser(
        prog="./tests/faults/run",
        description="Let go wrong what can, and see that nothing acknowledged is lost.",
        epilog=_EXAMPLES + listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("faults", nargs="*", metavar="fault", type=_fault)
    options.add_argument("--short", action="store_true", help="as ./tests/services/run does it")
    options.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    return options


def _word(fault: Fault) -> str:
    """A name as it is typed."""
    return fault.name.replace(" ", "-")


def _fault(word: str) -> Fault:
    for fault in faults().values():
        if _word(fault) == word:
            return fault
    raise argparse.ArgumentTypeError(f"there is no fault {word!r}; --help lists them")


def _lines(chosen: Sequence[Fault], short: bool) -> Iterator[Line]:
    with ExitStack() as stack:
        home, server = stack.enter_context(nursery()), None
        if any("postgresql" in fault.engines for fault in chosen):
            say("starting PostgreSQL")
            server = stack.enter_context(running_postgresql())
        stage = _Stage(home, server, short)
        for fault in chosen:
            for engine in fault.engines:
                say(f"{fault.name}, {engine}: {fault.about}")
                yield stage.line(fault, engine)


@dataclass(frozen=True, slots=True)
class _Stage:
    nursery: Nursery
    postgresql: PostgreSQL | None
    short: bool

    def line(self, fault: Fault, engine: str) -> Line:
        controls: dict[str, Outcome] = {}
        try:
            outcome = self._outcome(fault, engine)
            for weakness in fault.weaknesses:
                say(f"  without a defence: {weakness}")
                controls[weakness] = self._outcome(fault, engine, weakness)
        except NotHere as reason:
            return Line(fault.name, engine, not_here=str(reason))
        return Line(fault.name, engine, outcome, controls=controls)

    def _outcome(self, fault: Fault, engine: str, weakness: str = "") -> Outcome:
        with new_rig(engine, self.nursery, self.postgresql, short=self.short) as rig:
            return asyncio.run(fault.run(rig, weakness))


def _show(lines: Sequence[Line], short: bool, markdown: Path | None) -> None:
    heading = (
        f"{shlex.join(['./tests/faults/run', *sys.argv[1:]])}, {system_clock():%Y-%m-%d}:"
        f" {os.cpu_count()} cores, Python {platform.python_version()}"
        f"{', short forms' if short else ''}."
    )
    notes = f"What showed without a defence:\n{table.in_words(lines)}"
    console = Console()
    console = console if console.is_terminal else Console(width=_WIDTH)
    console.print(heading, table.on_terminal(lines), notes, sep="\n", highlight=False)
    if markdown:
        text = f"{heading}\n\n{table.in_markdown(lines)}\n{notes}\n"
        markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
