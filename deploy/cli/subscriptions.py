"""Commands about subscriptions: subscribe, subscriptions."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

import typer

from deploy.cli import output
from deploy.cli.completion import event_types, formats, languages
from deploy.cli.errors import UsageError
from deploy.cli.frame import surroundings
from deploy.cli.lists import show_list
from deploy.cli.options import (
    EventTypes,
    Json,
    Limit,
    Meta,
    OfProviders,
    count,
    headers,
    json_object,
    number,
    pairs,
    words,
)
from deploy.cli.output import Column


def register(app: typer.Typer) -> None:
    app.command(
        epilog="Example: taskbell subscribe https://example.com/hook --type task.succeeded"
    )(subscribe)
    group = typer.Typer(
        help="List subscriptions, newest first, or change one.",
        epilog="Example: taskbell subscriptions --json",
    )
    group.callback(invoke_without_command=True)(subscriptions)
    group.command("list", epilog="Example: taskbell subscriptions list --json")(list_all)
    for name, command, options in (
        ("show", show, ""),
        ("edit", edit, " --format slack"),
        ("pause", pause, ""),
        ("resume", resume, " --skip"),
        ("test", try_out, ""),
        ("rotate-secret", rotate_secret, ""),
        ("delete", delete, ""),
    ):
        example = f"Example: taskbell subscriptions {name} sub_01kb3x0e5x{options}"
        group.command(name, epilog=example)(command)
    app.add_typer(group, name="subscriptions")


_SIGNED = ("webhook", "cloudevents")  # chats have no use for our signature


def subscribe(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the events go.")],
    types: EventTypes = None,
    providers: OfProviders = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="The URL's host chooses it: slack, discord, feishu, lark, dingtalk, wecom, telegram,"
            " teams, else webhook. Or cloudevents; apprise with a URL of that library.",
            autocompletion=formats,
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(help="Of chat messages: en (the default), zh.", autocompletion=languages),
    ] = None,
    service_secret: Annotated[
        str | None,
        typer.Option(help="What a Feishu, Lark or DingTalk robot wants messages signed with."),
    ] = None,
    meta: Meta = None,
    filter_: Annotated[
        dict[str, Any] | None,
        typer.Option(
            "--filter", parser=json_object, metavar="JSON", help='{"data.task.model": "…"}'
        ),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(metavar="JMESPATH", help="What makes the body of an event.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="POST (the default), PUT or PATCH.")] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="'NAME: VALUE'", help="Send this header too. May be repeated."),
    ] = None,
    description: Annotated[str | None, typer.Option(help="A note for people.")] = None,
    max_in_flight: Annotated[
        int | None,
        typer.Option(parser=count, metavar="N", help="Deliveries under way at once."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(parser=number, metavar="N", help="Deliveries a second.")
    ] = None,
    allow_duplicate: Annotated[
        bool,
        typer.Option(
            "--allow-duplicate", help="Also when one with this URL and these events is there."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Send events to a URL. The signing secret is shown now and never again."""
    body = {
        "url": url,
        "types": words(types),
        "providers": words(providers),
        "format": format_,
        "language": language,
        "service_secret": service_secret,
        "metadata": pairs("--meta", meta),
        "filter": filter_,
        "shape": shape,
        "method": method,
        "headers": headers("--header", header),
        "description": description,
        "max_in_flight": max_in_flight,
        "rate_per_second": rate,
        "allow_duplicate": allow_duplicate or None,
    }
    with surroundings(context).connect() as api:
        made = api.post("/v1/subscriptions", body).body
    chosen = made.get("format") or format_ or "webhook"
    if as_json:
        output.json_line(made)
    else:
        output.result(f"id {made.get('id')}")
        if chosen in _SIGNED:
            output.result(f"secret {made.get('secret')}")
    if format_ is None and chosen != "webhook":
        output.message(f"format {chosen}, chosen by the URL's host")
    for warning in made.get("warnings") or ():
        output.message(f"warning: {warning}")
    if chosen in _SIGNED:
        output.message("the secret is shown once: keep it now")


SubscriptionId = Annotated[str, typer.Argument(metavar="ID", help="sub_…")]


def show(context: typer.Context, subscription_id: SubscriptionId, as_json: Json = False) -> None:
    """Show a subscription, a field a line. Secrets are never shown again."""
    with surroundings(context).connect() as api:
        found = api.get(_one(subscription_id))
    if as_json:
        output.json_line(found)
        return
    for name, value in found.items():
        if value not in (None, {}, []):
            output.result(f"{name} {value if isinstance(value, str) else json.dumps(value)}")


def edit(
    context: typer.Context,
    subscription_id: SubscriptionId,
    url: Annotated[
        str | None,
        typer.Option(
            help="Another URL. To another host, give headers and the service secret again."
        ),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            help="Instead of all others: task.succeeded, task.*, … Several times or with commas.",
            autocompletion=event_types,
        ),
    ] = None,
    providers: OfProviders = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="Another format.", autocompletion=formats)
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Of chat messages: en, zh.", autocompletion=languages)
    ] = None,
    service_secret: Annotated[
        str | None, typer.Option(help='Of a chat robot; "" takes it away.')
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'NAME: VALUE'",
            help='Instead of all others; "" takes them away. May be repeated.',
        ),
    ] = None,
    description: Annotated[str | None, typer.Option(help="A note for people.")] = None,
    max_in_flight: Annotated[
        int | None,
        typer.Option(parser=count, metavar="N", help="Deliveries under way at once."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(parser=number, metavar="N", help="Deliveries a second.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change a subscription. What is not given stays as it is."""
    body: dict[str, Any] = {
        "url": url,
        "types": words(types),
        "providers": words(providers),
        "format": format_,
        "language": language,
        "service_secret": service_secret,
        "description": description,
        "max_in_flight": max_in_flight,
        "rate_per_second": rate,
    }
    body = {name: value for name, value in body.items() if value is not None}
    if service_secret == "":
        body["service_secret"] = None
    if header is not None:
        body["headers"] = None if header == [""] else headers("--header", header)
    if not body:
        raise UsageError("nothing to change: give at least one option")
    with surroundings(context).connect() as api:
        changed = api.patch(_one(subscription_id), body).body
    if as_json:
        output.json_line(changed)
        return
    output.result(f"{subscription_id} changed")
    for warning in changed.get("warnings") or ():
        output.message(f"warning: {warning}")


def pause(context: typer.Context, subscription_id: SubscriptionId, as_json: Json = False) -> None:
    """Send a subscription nothing more. What it wants is kept until it is resumed."""
    with surroundings(context).connect() as api:
        paused = api.post(f"{_one(subscription_id)}/pause", {}).body
    if as_json:
        output.json_line(paused)
        return
    output.result(f"{subscription_id} paused, {_waiting(paused)}")
    expires_at = paused.get("waiting_expires_at")
    if expires_at:
        output.message(f"the first of them expires {output.when(expires_at, None)}")


def resume(
    context: typer.Context,
    subscription_id: SubscriptionId,
    skip: Annotated[
        bool, typer.Option("--skip", help="Cancel what was kept instead of sending it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send a subscription events again: what was kept first, in order. Enables a disabled one."""
    body = {"backlog": "skip"} if skip else {}
    with surroundings(context).connect() as api:
        resumed = api.post(f"{_one(subscription_id)}/resume", body).body
    if as_json:
        output.json_line(resumed)
    else:
        output.result(f"{subscription_id} active, {_waiting(resumed)}")


def try_out(context: typer.Context, subscription_id: SubscriptionId, as_json: Json = False) -> None:
    """Send a subscription a sample event now. Exit code 1 when it was not delivered."""
    with surroundings(context).connect() as api:
        trial = api.post(f"{_one(subscription_id)}/test", {}).body
    if as_json:
        output.json_line(trial)
    elif trial.get("delivered"):
        output.result(f"delivered, {_answered(trial)}")
    else:
        output.result(f"not delivered: {trial.get('reason') or _answered(trial)}")
        if trial.get("hint"):
            output.message(str(trial["hint"]))
    raise typer.Exit(0 if trial.get("delivered") else 1)


def _answered(trial: dict[str, Any]) -> str:
    return f"answered {trial.get('status_code')} in {trial.get('duration_ms')} ms"


def rotate_secret(
    context: typer.Context, subscription_id: SubscriptionId, as_json: Json = False
) -> None:
    """Make a new signing secret. The old one signs beside it for a day."""
    with surroundings(context).connect() as api:
        rotated = api.post(f"{_one(subscription_id)}/rotate-secret", {}).body
    if as_json:
        output.json_line(rotated)
        return
    output.result(f"secret {rotated.get('secret')}")
    output.message("the secret is shown once: keep it now; the old one goes on to sign for a day")


def delete(context: typer.Context, subscription_id: SubscriptionId) -> None:
    """Delete a subscription. Deliveries that still wait for it are canceled."""
    with surroundings(context).connect() as api:
        api.delete(_one(subscription_id))
    output.result(f"{subscription_id} deleted")


def _waiting(row: dict[str, Any]) -> str:
    count = row.get("waiting") or 0
    return "1 delivery waits" if count == 1 else f"{count} deliveries wait"


def _one(subscription_id: str) -> str:
    from deploy.cli.client import segment

    return f"/v1/subscriptions/{segment('ID', subscription_id)}"


def subscriptions(context: typer.Context, limit: Limit = 50, as_json: Json = False) -> None:
    """List subscriptions, newest first, or change one."""
    if context.invoked_subcommand is None:
        list_all(context, limit, as_json)


def list_all(context: typer.Context, limit: Limit = 50, as_json: Json = False) -> None:
    """List subscriptions, newest first."""
    around = surroundings(context)
    with around.connect() as api:
        found = api.listing("/v1/subscriptions", {}, limit=limit)
    show_list(found, "subscriptions", _columns, clock=around.clock, as_json=as_json)


def _columns(now: datetime | None) -> list[Column]:
    return [
        Column("ID", lambda row: row.get("id"), whole=True),
        Column("STATE", _state, status=True),
        Column("URL", lambda row: row.get("url")),
        Column("TYPES", lambda row: _joined(row.get("types")) or "task.*"),
        Column("PROVIDERS", lambda row: _joined(row.get("providers")) or "all", spare=True),
        Column("FORMAT", lambda row: row.get("format"), spare=True),
        Column("CREATED", lambda row: output.when(row.get("created_at"), now), spare=True),
        Column("NOTE", _note),
    ]


def _state(row: dict[str, Any]) -> str:
    if row.get("active"):
        return "active"
    return "disabled" if row.get("disabled_reason") else "paused"


def _note(row: dict[str, Any]) -> str:
    waiting = row.get("waiting")
    kept = f"{waiting} waiting" if waiting and not row.get("active") else None
    return ", ".join(filter(None, (row.get("disabled_reason"), kept, row.get("description"))))


def _joined(values: Any) -> str:
    return ",".join(map(str, values)) if isinstance(values, list) else ""
