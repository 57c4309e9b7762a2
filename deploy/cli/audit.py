"""The command that lists the audit."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from deploy.cli import output
from deploy.cli.frame import surroundings
from deploy.cli.lists import show_list
from deploy.cli.options import Json, Limit
from deploy.cli.output import Column


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: taskbell audit --action subscription.changed")(audit)


def audit(
    context: typer.Context,
    action: Annotated[str | None, typer.Option(help="api_key.created, …")] = None,
    object_: Annotated[
        str | None, typer.Option("--object", metavar="ID", help="Only about this one.")
    ] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List who changed what through the API, newest first."""
    around = surroundings(context)
    asked = {"action": action, "object": object_}
    with around.connect() as api:
        found = api.listing("/v1/audit", asked, limit=limit)
    show_list(found, "changes", _columns, clock=around.clock, as_json=as_json)


def _columns(now: datetime | None) -> list[Column]:
    return [
        Column("WHEN", lambda row: output.when(row.get("at"), now), whole=True),
        Column("WHO", lambda row: row.get("actor_name") or row.get("key_id")),
        Column("ACTION", lambda row: row.get("action"), whole=True),
        Column("OBJECT", lambda row: row.get("object_id"), whole=True),
        Column("FIELDS", _fields, spare=True),
    ]


def _fields(row: dict[str, Any]) -> str:
    """The names of what was given, with the values that are shown."""
    detail = row.get("detail") or {}
    values = detail.get("values") or {}
    return " ".join(
        f"{name}={values[name]}" if name in values else str(name)
        for name in detail.get("fields") or ()
    )
