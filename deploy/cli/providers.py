"""The command about providers: how each is doing, as the server says."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from deploy.cli import output
from deploy.cli.completion import provider_names
from deploy.cli.frame import surroundings
from deploy.cli.lists import show_list
from deploy.cli.options import Json
from deploy.cli.output import Column


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: taskbell providers minimax")(providers)


def providers(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Only this one, with its history.", autocompletion=provider_names
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how each provider is doing: ok, degraded, down, no_key or idle, since when and why."""
    from deploy.cli.client import segment

    around = surroundings(context)
    with around.connect() as api:
        if name is None:
            found = api.listing("/v1/providers", {}, limit=50)
            show_list(found, "providers", _columns, clock=around.clock, as_json=as_json)
            return
        one = api.get(f"/v1/providers/{segment('NAME', name)}")
    if as_json:
        output.json_line(one)
    else:
        _show(one)


def _columns(now: datetime | None) -> list[Column]:
    return [
        Column("NAME", lambda row: row.get("name")),
        Column("STATE", lambda row: row.get("state"), status=True),
        Column("SINCE", lambda row: output.when(row.get("since"), now), whole=True),
        Column("LAST ANSWER", lambda row: output.when(row.get("last_answer_at"), now), spare=True),
        Column("OPEN TASKS", lambda row: row.get("open_tasks"), spare=True),
        Column("WHY", _why),
    ]


def _why(row: dict[str, Any]) -> Any:
    return (row.get("reason") or {}).get("message")


def _show(one: dict[str, Any]) -> None:
    for label, value in (
        ("provider", f"{one.get('title')} ({one.get('name')})"),
        ("state", one.get("state")),
        ("why", _why(one)),
        ("since", output.when(one.get("since"), None)),
        ("last answer", output.when(one.get("last_answer_at"), None)),
        ("last poll", output.when(one.get("last_asked_at"), None)),
        ("open tasks", one.get("open_tasks")),
        ("last 24 h", _day(one)),
    ):
        output.result(f"{label:12}  {output.word(value)}")
    for past in (one.get("history") or ())[1:]:
        since, until = (output.when(past.get(end), None) for end in ("since", "until"))
        why = f"  {_why(past)}" if _why(past) else ""
        output.result(f"{since}  {until}  {output.word(past.get('state'))}{why}")


def _day(one: dict[str, Any]) -> str:
    ended = f"{one.get('ended_by_push')} ended by push, {one.get('ended_by_poll')} by poll"
    return f"{one.get('pushes')} pushes, {one.get('polls')} polls; {ended}"
