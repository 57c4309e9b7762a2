"""The lines of a run as a table, on a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from tests.faults.fault import Outcome

HEADINGS = (
    *("fault", "database", "sent", "acknowledged", "lost", "doubled", "recovered in"),
    *("kept", "controls"),
)
_RIGHT = {"sent", "acknowledged", "lost", "doubled", "recovered in"}


@dataclass(frozen=True, slots=True)
class Line:
    """What a fault came to on one database; or why it could not be shown: not_here.

    controls: what each defence's loss broke.
    """

    fault: str
    database: str
    outcome: Outcome | None = None
    not_here: str = ""
    controls: Mapping[str, Outcome] = field(default_factory=dict)

    @property
    def pale(self) -> list[str]:
        """The defences whose loss was not noticed."""
        return [name for name, outcome in self.controls.items() if not outcome.broken]

    @property
    def failed(self) -> bool:
        return bool(self.pale or (self.outcome and self.outcome.broken))


def on_terminal(lines: Iterable[Line]) -> Table:
    table = Table()
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in _RIGHT else "left")
    for line in lines:
        table.add_row(*written(line), style="red" if line.failed else None)
    return table


def in_markdown(lines: Iterable[Line]) -> str:
    rules = ("--:" if heading in _RIGHT else ":--" for heading in HEADINGS)
    rows = [HEADINGS, tuple(rules), *map(written, lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def written(line: Line) -> tuple[str, ...]:
    """A line's cells.

    >>> outcome = Outcome(sent=9000, acknowledged=8990, lost=0, doubled=12, recovered_seconds=1.23)
    >>> written(Line("kill", "sqlite", outcome, controls={"no lease": Outcome(broken=("x",))}))
    ('kill', 'sqlite', '9,000', '8,990', '0', '12', '1.2 s', 'yes', 'red')
    """
    outcome = line.outcome
    if outcome is None:
        return (line.fault, line.database, *("–",) * 5, f"not shown: {line.not_here}", "")
    figures = (outcome.sent, outcome.acknowledged, outcome.lost, outcome.doubled)
    took = outcome.recovered_seconds
    return (
        line.fault,
        line.database,
        *("–" if figure is None else f"{figure:,}" for figure in figures),
        "–" if took is None else f"{took:.1f} s",
        "; ".join(outcome.broken) or "yes",
        _controls(line),
    )


def _controls(line: Line) -> str:
    if line.pale:
        return f"NOT RED: {', '.join(line.pale)}"
    return "red" if line.controls else "–"


def in_words(lines: Sequence[Line]) -> str:
    """What each control took away, and how that showed."""
    said: dict[str, str] = {}
    for line in lines:
        for name, outcome in line.controls.items():
            how = outcome.broken[0] if outcome.broken else "nothing"
            said.setdefault(f"{line.fault}: {name}", f"{how} ({line.database})")
    return "\n".join(f"- {what}: {how}" for what, how in said.items())
