"""The lines of a run as a table, on a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from tests.bench.figures import Goal, Line, Measured, percent

HEADINGS = ("what", "database", "Taskbell", "against", "its figure", "ratio", "to reach", "")
_RIGHT = {"Taskbell", "its figure", "ratio", "to reach"}
_COLOURS = {True: "green", False: "red", None: ""}


def on_terminal(lines: Sequence[Line]) -> Table:
    table = Table()
    for heading in HEADINGS:
        table.add_column(
            heading,
            justify="right" if heading in _RIGHT else "left",
            no_wrap=bool(heading),
            min_width=0 if heading else 16,  # verdicts are short, reasons may wrap
        )
    for line, cells in zip(lines, grouped(map(written, lines)), strict=True):
        table.add_row(*cells[:-1], f"[{_COLOURS[line.reached] or 'default'}]{cells[-1]}")
    return table


def in_markdown(lines: Sequence[Line]) -> str:
    rules = ("--:" if heading in _RIGHT else ":--" for heading in HEADINGS)
    rows = [HEADINGS, tuple(rules), *grouped(map(written, lines))]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def written(line: Line) -> tuple[str, ...]:
    """A line's cells.

    >>> from tests.bench.figures import at_least
    >>> ours, bare = Measured("taskbell", (900.0, 1000.0, 1100.0)), Measured("bare", (4000.0,))
    >>> written(Line("pushes/s", "sqlite", ours, bare, at_least(0.3)))[2:]
    ('1,000 ± 10 %', 'bare', '4,000', '0.25 ×', '≥ 0.3 ×', 'missed by 17 %')
    """
    ratio = line.ratio
    return (
        line.what,
        line.database,
        figure(line.ours),
        line.against.name if line.against else "",
        figure(line.against) if line.against else "",
        "" if ratio is None else f"{number(ratio)} ×",
        goal(line.goal, times=line.against is not None) if line.goal else "",
        line.verdict,
    )


def grouped(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Without what the line before has said already: its question, database and own figure."""
    shown: list[tuple[str, ...]] = []
    before: tuple[str, ...] = ()
    for row in rows:
        same = row[:3] == before
        shown.append(("", "", "", *row[3:]) if same else row)
        before = row[:3]
    return shown


def figure(measured: Measured) -> str:
    if not measured.values:
        return "–"
    spread = f" ± {percent(measured.spread)}" if measured.spread else ""
    return number(measured.median) + spread


def goal(wanted: Goal, *, times: bool) -> str:
    sign = ("<" if wanted.beyond else "≤") if wanted.at_most else (">" if wanted.beyond else "≥")
    return f"{sign} {number(wanted.bound)}{' ×' if times else ''}"


def number(value: float) -> str:
    """With as many digits as matter.

    >>> [number(value) for value in (12345.6, 123.4, 12.34, 0.3, 0.12345, 15, 0)]
    ['12,346', '123', '12.3', '0.3', '0.123', '15', '0']
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
