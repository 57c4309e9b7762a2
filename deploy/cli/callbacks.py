"""The command that makes callback URLs."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy.cli import output
from deploy.cli.frame import surroundings
from deploy.cli.options import Json, Meta, ProviderName, pairs, seconds


def register(app: typer.Typer) -> None:
    app.command(
        "callback-url",
        epilog="Example: CALLBACK_URL=$(taskbell callback-url minimax --expires-in 7d)",
    )(callback_url)


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
    output.message(f"to revoke it: DELETE /v1/callback-urls/{made.get('id')}")
    output.result(str(made.get("url")))
