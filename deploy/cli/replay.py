"""The command that delivers again: it counts first, then asks."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deploy.cli import output
from deploy.cli.completion import event_types
from deploy.cli.errors import CommandError, UsageError
from deploy.cli.frame import Surroundings, surroundings, terminable
from deploy.cli.options import Json, moment, words

if TYPE_CHECKING:
    from rich.progress import Progress

    from deploy.cli.client import Client

EndStatus = Literal["delivered", "dead", "canceled"]


def register(app: typer.Typer) -> None:
    app.command(
        epilog="Example: taskbell replay --subscription sub_01kb3x0e5x --status dead --since 1h"
    )(replay)


@dataclass(frozen=True, slots=True)
class _Target:
    """What is asked of the server, and where the deliveries go (masked, as the server shows it)."""

    api: Client
    path: str
    wish: dict[str, Any]
    url: str


def replay(
    context: typer.Context,
    subscription: Annotated[
        str, typer.Option(metavar="SUB", help="Deliver to this one.", show_default=False)
    ],
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Recorded since: 90s, 10m, 1h, 7d ago, or a time."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Recorded before that; said the same way.")
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            help="task.succeeded, task.*, … Several times or with commas.",
            autocompletion=event_types,
        ),
    ] = None,
    status: Annotated[
        EndStatus | None, typer.Option(help="Only what was delivered before and ended so.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Deliver events again to a subscription: counts them, asks, then does it.

    Without --status all events that the subscription wants are meant, delivered before or not.
    What is on its way already is left out.
    """
    from deploy.cli.client import segment

    around = surroundings(context)
    now = around.clock()
    wish = {
        "since": moment("--since", since, now) if since is not None else None,
        "until": moment("--until", until, now) if until is not None else None,
        "types": words(types),
        "status": status,
    }
    with around.connect() as api:
        path = f"/v1/subscriptions/{segment('--subscription', subscription)}"
        target = _Target(api, path + "/replay", wish, output.word(api.get(path).get("url")))
        count = _count(target)
        if dry_run:
            _tell(count, target, as_json=as_json, dry_run=True)
        elif count == 0:
            _tell(0, target, as_json=as_json)
        else:
            _agree(count, target, around, yes=yes)
            _tell(_deliver(target, count), target, as_json=as_json)


def _count(target: _Target) -> int:
    count, cursor = 0, None
    while True:
        answer = _call(target, cursor, dry_run=True)
        count += int(answer.get("count") or 0)
        cursor = answer.get("next_cursor")
        if cursor is None:
            return count


def _call(target: _Target, cursor: object, *, dry_run: bool) -> dict[str, Any]:
    more = {"cursor": cursor, "dry_run": dry_run or None}
    return target.api.post(target.path, {**target.wish, **more}).body


def _agree(count: int, target: _Target, around: Surroundings, *, yes: bool) -> None:
    """Raises UsageError when nobody can be asked, typer.Abort when they say no."""
    if yes:
        return
    if not around.interactive():
        raise UsageError(
            f"{_deliveries(count)} to {target.url} would be made:"
            " nobody can be asked here, so add --yes (or --dry-run)"
        )
    typer.confirm(f"Replay {_deliveries(count)} to {target.url}?", abort=True, err=True)


def _deliver(target: _Target, expected: int) -> int:
    """Do it, part by part; how many were made."""
    made, cursor = 0, None
    with terminable(), _progress() as progress:
        bar = progress.add_task("replaying", total=expected) if progress else None
        try:
            while True:
                answer = _call(target, cursor, dry_run=False)
                made += int(answer.get("count") or 0)
                cursor = answer.get("next_cursor")
                if progress is not None and bar is not None:
                    progress.update(bar, completed=made)
                # what is recorded meanwhile is delivered anyway
                if cursor is None or made >= expected:
                    return made
        except KeyboardInterrupt:
            output.message(f"stopped: {made} of {expected} were made")
            raise typer.Exit(130) from None
        except CommandError:
            output.message(f"{made} of {expected} were made before this:")
            raise


def _progress() -> AbstractContextManager[Progress | None]:
    console = output.terminal()
    if console is None:
        return nullcontext()
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _tell(count: int, target: _Target, *, as_json: bool, dry_run: bool = False) -> None:
    if as_json:
        output.json_line({"count": count, "dry_run": dry_run, "url": target.url})
    elif count == 0:
        output.result(f"nothing to replay to {target.url}")
    else:
        would = "would be made" if dry_run else "made; see them with: taskbell deliveries"
        output.result(f"{_deliveries(count)} to {target.url} {would}")


def _deliveries(count: int) -> str:
    return f"{count} {'delivery' if count == 1 else 'deliveries'}"
