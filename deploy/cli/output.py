"""What is shown: results on stdout, messages on stderr, and nothing that steers the terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

# C0, DEL and C1 controls, marks that turn the writing direction, separators that act as line
# breaks, half characters
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)

_LOOKS = {
    "queued": ("○", ""),
    "processing": ("●", "cyan"),
    "succeeded": ("✓", "green"),
    "failed": ("✗", "red"),
    "canceled": ("–", "yellow"),
    "timed_out": ("!", "yellow"),
    "pending": ("○", ""),
    "in_flight": ("●", "cyan"),
    "delivered": ("✓", "green"),
    "dead": ("✗", "red"),
    "active": ("✓", "green"),
    "paused": ("–", "yellow"),
    "disabled": ("✗", "red"),
    "ok": ("✓", "green"),
    "degraded": ("!", "yellow"),
    "down": ("✗", "red"),
    "no_key": ("!", "yellow"),
    "idle": ("○", ""),
}


def plain(text: str) -> str:
    r"""Foreign text in one line, with nothing in it that a terminal would obey.

    >>> plain("a\nb\x1b[2J")
    'a b\ufffd[2J'
    """
    return _UNSAFE.sub(lambda found: " " if found[0] in "\t\r\n" else "\ufffd", text)


def word(value: Any) -> str:
    """A value out of an answer, as text for a cell."""
    return "-" if value is None or value == "" else plain(str(value))


def result(text: str) -> None:
    """A line on stdout, at once: the reader may be a pipe."""
    print(plain(text), flush=True)


def message(text: str) -> None:
    print(plain(text), file=sys.stderr)


def complain(text: str) -> None:
    message(f"taskbell: {text}")


def json_line(value: Any) -> None:
    """A value as one line of JSON on stdout."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    text = json.dumps(value, ensure_ascii=encoding != "utf8")
    print(_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text), flush=True)


def terminal() -> Console | None:
    """The console on stdout, or None when that is no terminal a person looks at."""
    console = Console(highlight=False, markup=False, emoji=False)
    return console if sys.stdout.isatty() and not console.is_dumb_terminal else None


def look(status: str) -> Text:
    """A status with its icon and colour."""
    icon, style = _LOOKS.get(status, ("·", ""))
    return Text(f"{icon} {plain(status)}", style=style)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a list.

    whole: never broken over lines, because it gets copied. spare: left out when the terminal is
    too narrow. status: shown with icon and colour.
    """

    title: str
    cell: Callable[[dict[str, Any]], Any]
    whole: bool = False
    spare: bool = False
    status: bool = False


def rows_as_columns(rows: Sequence[dict[str, Any]], columns: Sequence[Column]) -> None:
    """A table on a terminal, aligned columns otherwise."""
    console = terminal()
    if console is None:
        _print_aligned(rows, columns)
    else:
        console.print(_table(rows, _fitting(rows, columns, console.width)))


def _print_aligned(rows: Sequence[dict[str, Any]], columns: Sequence[Column]) -> None:
    lines = [[column.title for column in columns]]
    lines += [[word(column.cell(row)) for column in columns] for row in rows]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        padded = [
            cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)
        ]
        print("  ".join(padded).rstrip())


def _fitting(rows: Sequence[dict[str, Any]], columns: Sequence[Column], width: int) -> list[Column]:
    """The columns without as many spare ones, from the right, as the width asks for."""
    kept = list(columns)
    for column in reversed(columns):
        if sum(_width(rows, each) + 2 for each in kept) - 2 <= width:
            break
        if column.spare:
            kept.remove(column)
    return kept


def _width(rows: Sequence[dict[str, Any]], column: Column) -> int:
    icon = 2 if column.status else 0
    return max(cell_len(column.title), *(cell_len(word(column.cell(row))) + icon for row in rows))


def _table(rows: Sequence[dict[str, Any]], columns: Sequence[Column]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(Text(column.title), no_wrap=column.whole or column.status, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(column, row) for column in columns))
    return table


def _cell(column: Column, row: dict[str, Any]) -> Text:
    text = word(column.cell(row))
    return look(text) if column.status else Text(text)


def moment(value: Any) -> datetime | None:
    """A time out of an answer."""
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def when(value: Any, now: datetime | None) -> str:
    """A time as its age, or in full to the second when now is None.

    >>> when("2026-11-21T02:55:03.120000Z", None)
    '2026-11-21T02:55:03Z'
    """
    then = moment(value)
    if then is None:
        return word(value)
    if now is None:
        return then.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
    return age((now - then).total_seconds())


def age(seconds: float) -> str:
    """How long ago, in its largest unit.

    >>> age(59), age(3 * 3600 + 60), age(-2)
    ('59s', '3h', '0s')
    """
    rest = max(0, int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if rest >= size:
            return f"{rest // size}{unit}"
    return f"{rest}s"


def stopwatch(seconds: float) -> str:
    """Time gone by.

    >>> stopwatch(67), stopwatch(3671)
    ('1:07', '1:01:11')
    """
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
