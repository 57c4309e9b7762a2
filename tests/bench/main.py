"""./tests/bench/run: measure every row, print the table, say what was missed."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from store.clock import system_clock
from tests.bench import table
from tests.bench.baseline import Naive
from tests.bench.bench import Bench
from tests.bench.figures import Line, missed
from tests.bench.load import running_sink, send
from tests.bench.postgresql import running_postgresql
from tests.bench.progress import say
from tests.bench.row import rows
from tests.bench.system import peers
from tests.bench.taskbell import Taskbell
from tests.databases import ENGINES

_RUNS = 3
_WIDTH = 160
_EXAMPLES = """\
examples:
  ./tests/bench/run                                  everything, three runs each: about an hour
  ./tests/bench/run --quick                          everything, once and small: does it work?
  ./tests/bench/run --row pushes --database sqlite   one row on one database
  ./tests/bench/run --row pushes --row backlog --markdown table.md

Figures of a --quick run mean nothing. rows:
"""


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    chosen = _options().parse_args()
    runs = chosen.runs or (1 if chosen.quick else _RUNS)
    heading, lines = "", list[Line]()
    try:
        heading = _heading(runs, chosen.quick)
        _measure(chosen, runs, lines)
    except BaseException as error:
        if not _stopped(error):
            raise
        say("stopped")
        sys.exit(130)
    finally:  # an hour's figures are not thrown away for what came after them
        if lines:
            _show(heading, lines, chosen.markdown)
    if any(not line.ours.values for line in lines):
        sys.exit("Taskbell broke: the lines above say where")


def _show(heading: str, lines: Sequence[Line], markdown: Path | None) -> None:
    console = Console()
    console = console if console.is_terminal else Console(width=_WIDTH)
    notes = f"{_summary(lines)}\n\n{_promises(lines)}".strip()
    console.print(heading, table.on_terminal(lines), notes, sep="\n", highlight=False)
    if markdown:
        text = f"{heading}\n\n{table.in_markdown(lines)}\n{notes}\n"
        markdown.write_text(text, encoding="utf-8")


def _stop(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _stopped(error: BaseException | None) -> bool:
    """Also when tidying up failed then: Ctrl-C goes to PostgreSQL and all the others as well."""
    while error and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _options() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<12}{row.about}" for name, row in rows().items())
    options = argparse.ArgumentParser(
        prog="./tests/bench/run",
        description="Measure Taskbell against what it is held against, side by side.",
        epilog=_EXAMPLES + listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument(
        "--quick", action="store_true", help="small and once, to see that it works"
    )
    options.add_argument("--row", action="append", choices=list(rows()), metavar="NAME")
    options.add_argument("--database", choices=[*ENGINES, "both"], default="both")
    options.add_argument("--runs", type=int, help=f"of each ({_RUNS}, with --quick 1)")
    options.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    return options


def _measure(chosen: argparse.Namespace, runs: int, lines: list[Line]) -> None:
    engines = ENGINES if chosen.database == "both" else (chosen.database,)
    with ExitStack() as stack:
        server = None
        if "postgresql" in engines:
            say("starting PostgreSQL")
            server = stack.enter_context(running_postgresql())
        bench = Bench(chosen.quick, runs, engines, server)
        for name in chosen.row or rows():
            say(f"{name}: {rows()[name].about}")
            for line in rows()[name].measure(bench):
                say("    " + "  ".join(filter(None, table.written(line))))
                lines.append(line)


def _heading(runs: int, quick: bool) -> str:
    command = shlex.join(["./tests/bench/run", *sys.argv[1:]])
    size = f"medians of {runs} alternating runs" if runs > 1 else "one run"
    if quick:
        size = "quick, so these figures mean nothing"
    return (
        f"{command}, {system_clock():%Y-%m-%d}: {size};"
        f" {os.cpu_count()} cores, Python {platform.python_version()}.\n{_ends(quick)}"
    )


def _ends(quick: bool) -> str:
    """Sender and sink by themselves: both must be faster than whatever is between them."""
    with running_sink() as sink:
        before = sink.count().cpu_seconds
        sent = send(sink.url, 10_000 if quick else 100_000)
        each = (sink.count().cpu_seconds - before) / sent.count
    return (
        f"The sink takes {sent.per_second:,.0f} requests/s from the sender, at"
        f" {each * 1e6:.0f} µs of its CPU each."
    )


def _summary(lines: Sequence[Line]) -> str:
    goals = [line for line in lines if line.reached is not None]
    return f"{len(goals) - len(missed(goals))} of {len(goals)} goals reached."


def _promises(lines: Sequence[Line]) -> str:
    """What a 200 is worth with each system in the table."""
    shown = " ".join(line.against.name for line in lines if line.against)
    systems = [system for system in (Naive(), *peers().values()) if system.name in shown]
    told = [f"- {system.name}: {system.durability}" for system in (Taskbell(), *systems)]
    return "\n".join(["After a 200:", *told]) if systems else ""


if __name__ == "__main__":
    main()
