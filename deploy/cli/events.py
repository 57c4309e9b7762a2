"""Commands about what was recorded and what became of it: events, deliveries."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import typer

from deploy.cli import output
from deploy.cli.completion import event_types
from deploy.cli.errors import CommandError, CursorGone
from deploy.cli.frame import surroundings
from deploy.cli.lists import MORE, show_list
from deploy.cli.options import Json, Limit
from deploy.cli.output import Column

DeliveryStatus = Literal["pending", "in_flight", "delivered", "dead", "canceled"]


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: taskbell events --type task.failed --json")(events)
    app.command(epilog="Example: taskbell deliveries --status dead")(deliveries)


def events(
    context: typer.Context,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Only what came after it.")
    ] = None,
    type_: Annotated[
        str | None,
        typer.Option("--type", help="task.succeeded, …", autocompletion=event_types),
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="TASK", help="Only of this task.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List events in the order they were recorded."""
    around = surroundings(context)
    asked = {"after": after, "type": type_, "task": task}
    with around.connect() as api:
        try:
            found = api.listing("/v1/events", asked, limit=limit, cursor_name="after")
        except CursorGone as error:
            again = f"--after {error.known}, or --after 0 for all there is"
            raise CommandError(f"{error} (here: {again})") from None
    more = f"{MORE}, or go on with --after {found.more}"
    show_list(found, "events", _event_columns, clock=around.clock, as_json=as_json, more=more)


def deliveries(
    context: typer.Context,
    status: Annotated[DeliveryStatus | None, typer.Option(help="Only with this status.")] = None,
    subscription: Annotated[
        str | None, typer.Option(metavar="SUB", help="Only to this subscription.")
    ] = None,
    event: Annotated[str | None, typer.Option(metavar="EVENT", help="Only of this event.")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List deliveries, newest first."""
    around = surroundings(context)
    asked = {"status": status, "subscription": subscription, "event": event}
    with around.connect() as api:
        found = api.listing("/v1/deliveries", asked, limit=limit)
    show_list(found, "deliveries", _delivery_columns, clock=around.clock, as_json=as_json)


def _event_columns(now: datetime | None) -> list[Column]:
    return [
        Column("CURSOR", lambda event: event.get("cursor"), whole=True),
        Column("TIME", lambda event: output.when(event.get("timestamp"), now), whole=True),
        Column("TYPE", lambda event: event.get("type"), whole=True),
        Column("ID", lambda event: event.get("id"), whole=True),
        Column("TASK", lambda event: _task(event).get("id"), whole=True, spare=True),
        Column("PROVIDER", lambda event: _task(event).get("provider"), spare=True),
    ]


def _task(event: dict[str, Any]) -> dict[str, Any]:
    data = event.get("data")
    task = data.get("task") if isinstance(data, dict) else None
    return task if isinstance(task, dict) else {}


def _delivery_columns(now: datetime | None) -> list[Column]:
    return [
        Column("ID", lambda row: row.get("id"), whole=True),
        Column("STATUS", lambda row: row.get("status"), status=True),
        Column("TYPE", lambda row: row.get("event_type"), whole=True),
        Column("TRIES", lambda row: row.get("attempt_count"), whole=True),
        Column("CREATED", lambda row: output.when(row.get("created_at"), now), spare=True),
        Column("LAST ERROR", lambda row: row.get("last_error")),
        Column("SUBSCRIPTION", lambda row: row.get("subscription_id"), whole=True, spare=True),
        Column("EVENT", lambda row: row.get("event_id"), whole=True, spare=True),
    ]
