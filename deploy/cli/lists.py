"""How every list is shown: JSON lines, or columns and a word on what was left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from deploy.cli import output
from deploy.cli.output import Column
from store.clock import Clock

if TYPE_CHECKING:
    from deploy.cli.client import Listing

MORE = "there are more: raise --limit"


def show_list(
    listing: Listing,
    what: str,
    columns: Callable[[datetime | None], Sequence[Column]],
    *,
    clock: Clock,
    as_json: bool,
    more: str = MORE,
) -> None:
    """Print a list. columns gets the time to reckon ages from, or None for times in full."""
    if as_json:
        for row in listing.rows:
            output.json_line(row)
        return
    if not listing.rows:
        output.message(f"no {what}")
        return
    on_terminal = output.terminal() is not None
    output.rows_as_columns(listing.rows, columns(clock() if on_terminal else None))
    if listing.more is not None:
        output.message(more)
