"""The group of commands about keys: the API's, and the ones that secrets are stored under."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from deploy.cli import output
from deploy.cli.errors import CommandError, UsageError
from deploy.cli.frame import help_when_alone, surroundings
from deploy.cli.lists import show_list
from deploy.cli.options import Json, Limit
from deploy.cli.output import Column

Scope = Literal["read", "write", "admin"]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Make, list and revoke API keys; store secrets under a new secret key.",
        epilog="Example: taskbell keys list",
    )
    group.callback(invoke_without_command=True)(help_when_alone)
    group.command("list", epilog="Example: taskbell keys list")(list_keys)
    group.command("create", epilog="Example: taskbell keys create ci --scope write")(create)
    group.command("revoke", epilog="Example: taskbell keys revoke key_01kb3x0e5x")(revoke)
    group.command("rotate", epilog="Example: taskbell keys rotate")(rotate)
    app.add_typer(group, name="keys")


def list_keys(context: typer.Context, limit: Limit = 50, as_json: Json = False) -> None:
    """List API keys, newest first, without their secrets."""
    around = surroundings(context)
    with around.connect() as api:
        found = api.listing("/v1/api-keys", {}, limit=limit)
    show_list(found, "keys", _columns, clock=around.clock, as_json=as_json)


def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will use it.")],
    scope: Annotated[Scope, typer.Option(help="What it may do.")] = "read",
    as_json: Json = False,
) -> None:
    """Make an API key. It is shown now and never again."""
    with surroundings(context).connect() as api:
        made = api.post("/v1/api-keys", {"name": name, "scope": scope}).body
    if as_json:
        output.json_line(made)
    else:
        output.result(f"id {made.get('id')}")
        output.result(f"key {made.get('key')}")
    output.message("the key is shown once: keep it now")


def revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="key_…")],
) -> None:
    """Make an API key worthless, at once."""
    from deploy.cli.client import segment

    with surroundings(context).connect() as api:
        api.delete(f"/v1/api-keys/{segment('ID', key_id)}")
    output.result(f"revoked {key_id}")


def rotate() -> None:
    """Encrypt stored secrets with the newest of TASKBELL_SECRET_KEYS. Safe to repeat.

    It works on the database itself. First add the new key behind the others and start every server
    with it; then rotate; then the old key may be left out. On SQLite stop the server meanwhile.
    """
    from deploy.rotation import rotate as move
    from deploy.settings import SettingsError, load, process_environment
    from store.errors import StoreError

    try:
        done = move(load(process_environment(), Path(".env")))
    except SettingsError as error:
        raise UsageError(str(error)) from None
    except (StoreError, ValueError) as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}") from None
    output.result(f"{done.moved} moved to the newest key, {done.already} there already")
    if done.lost:
        for place in done.lost:
            output.message(f"no key opens {place}")
        raise CommandError(f"{len(done.lost)} stored secrets cannot be opened with these keys")


def _columns(now: datetime | None) -> list[Column]:
    return [
        Column("ID", lambda key: key.get("id"), whole=True),
        Column("NAME", lambda key: key.get("name")),
        Column("SCOPE", lambda key: key.get("scope"), whole=True),
        Column("CREATED", lambda key: output.when(key.get("created_at"), now), whole=True),
    ]
