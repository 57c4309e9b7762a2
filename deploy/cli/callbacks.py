"""The commands that make, list and revoke callback URLs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from deploy.cli import output
from deploy.cli.frame import surroundings
from deploy.cli.lists import show_list
from deploy.cli.options import Json, Limit, Meta, ProviderName, pairs, seconds
from deploy.cli.output import Column


def register(app: typer.Typer) -> None:
    app.command(
        "callback-url",
        epilog="Example: CALLBACK_URL=$(taskbell callback-url minimax --expires-in 7d)",
    )(callback_url)
    group = typer.Typer(
        help="List callback URLs, newest first, or revoke one.",
        epilog="Example: taskbell callback-urls --json",
    )
    group.callback(invoke_without_command=True)(callback_urls)
    group.command("list", epilog="Example: taskbell callback-urls list")(list_urls)
    group.command(
        "revoke",
        epilog="Example: taskbell callback-urls revoke cb_zzzzzzzzzz0123456789abcdef",
    )(revoke)
    app.add_typer(group, name="callback-urls")


def callback_url(
    context: typer.Context,
    provider: ProviderName,
    expires_in: Annotated[
        str | None, typer.Option(metavar="DURATION", help="90s, 10m, 2h, 7d. Default: never.")
    ] = None,
    meta: Meta = None,
    single_task: Annotated[
        bool,
        typer.Option("--single-task", help="For the first task that is pushed to it, no other."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a URL for a provider to push to. Who knows it can push: keep it secret."""
    body = {
        "provider": provider,
        "expires_in": seconds("--expires-in", expires_in) if expires_in is not None else None,
        "metadata": pairs("--meta", meta),
        "single_task": single_task or None,
    }
    with surroundings(context).connect() as api:
        made = api.post("/v1/callback-urls", body).body
    if as_json:
        output.json_line(made)
        return
    expires_at = made.get("expires_at")
    output.message(f"expires {output.when(expires_at, None)}" if expires_at else "never expires")
    output.message(f"to revoke it: taskbell callback-urls revoke {made.get('id')}")
    output.result(str(made.get("url")))


def callback_urls(context: typer.Context, limit: Limit = 50, as_json: Json = False) -> None:
    """List callback URLs, newest first, or revoke one."""
    if context.invoked_subcommand is None:
        list_urls(context, limit, as_json)


def list_urls(context: typer.Context, limit: Limit = 50, as_json: Json = False) -> None:
    """List the callback URLs that work, newest first, without the URLs themselves."""
    around = surroundings(context)
    with around.connect() as api:
        found = api.listing("/v1/callback-urls", {}, limit=limit)
    show_list(found, "callback URLs", _columns, clock=around.clock, as_json=as_json)


def revoke(
    context: typer.Context,
    url_id: Annotated[str, typer.Argument(metavar="ID", help="cb_…")],
) -> None:
    """Make a callback URL worthless, within two seconds everywhere."""
    from deploy.cli.client import segment

    with surroundings(context).connect() as api:
        api.delete(f"/v1/callback-urls/{segment('ID', url_id)}")
    output.result(f"revoked {url_id}")


def _columns(now: datetime | None) -> list[Column]:
    return [
        Column("ID", lambda url: url.get("id"), whole=True),
        Column("PROVIDER", lambda url: url.get("provider"), whole=True),
        Column("METADATA", lambda url: _metadata(url.get("metadata"))),
        Column("CREATED", lambda url: output.when(url.get("created_at"), now), whole=True),
        Column("EXPIRES", lambda url: output.when(url.get("expires_at"), None), whole=True),
        Column("LAST USED", lambda url: output.when(url.get("last_used_at"), now), spare=True),
    ]


def _metadata(value: Any) -> str | None:
    return ", ".join(f"{key}={each}" for key, each in value.items()) if value else None
