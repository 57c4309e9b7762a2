"""serve, migrate, openapi: the commands that are Taskbell rather than talk to it."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from deploy.settings import Settings, SettingsError, load, local_url, process_environment
from store.errors import StoreError

DOTENV = Path(".env")


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: taskbell serve --dev --port 8080")(serve)
    app.command(epilog="Example: TASKBELL_DATABASE_URL=postgresql://… taskbell migrate")(migrate)
    app.command(epilog="Examples: taskbell demo; taskbell demo --stay")(demo)
    app.command(name="openapi", epilog="Example: taskbell openapi > openapi.json")(print_openapi)


def serve(
    dev: Annotated[
        bool,
        typer.Option(
            "--dev", help="Development: print an API key, let deliveries reach this machine."
        ),
    ] = False,
    host: Annotated[str | None, typer.Option(help="Instead of TASKBELL_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Instead of TASKBELL_PORT; 0 takes any.")
    ] = None,
) -> None:
    """Run Taskbell: take callbacks, poll, deliver."""
    try:
        settings = _with_address(load(process_environment(), DOTENV), host, port)
        from deploy.serving import run  # takes a second: a wrong setting is told before

        run(settings, dev=dev)
    except (SettingsError, StoreError, ValueError, OSError) as error:
        _fail(error)


def migrate() -> None:
    """Bring the database's schema to this version's. Safe to repeat."""
    from store.database import open_directly
    from store.fitness import check
    from store.schema import HEAD
    from store.schema import migrate as bring_up
    from store.sqlite_file import check_name

    try:
        settings = load(process_environment(), DOTENV)
        database = open_directly(settings.database_url, settings.direct_database_url)
        with contextlib.closing(database):
            check(database)
            if not database.postgresql:
                check_name(database.file)
            before = bring_up(database)
    except (SettingsError, StoreError, ValueError, OSError) as error:
        _fail(error)
    else:
        now = max(before or "", HEAD)  # a later version may have been here
        was = "it was there already" if before == now else f"it was at {before or 'nothing'}"
        typer.echo(f"{database.name}: schema {now} ({was})")


def demo(
    stay: Annotated[
        bool, typer.Option("--stay", help="Go on with new tasks, and show them in the dashboard.")
    ] = False,
) -> None:
    """Show everything at work in under 20 seconds: no network, no keys, nothing left behind."""
    import asyncio

    from rich.console import Console

    from deploy import logs
    from deploy.demo.show import run_demo
    from deploy.demo.stay import run_until_stopped

    logs.set_up(level=logging.ERROR)
    if stay:
        asyncio.run(run_until_stopped(Console()))
    elif not asyncio.run(run_demo(Console())):
        raise typer.Exit(1)


def print_openapi() -> None:
    """Print the API's OpenAPI document."""
    from deploy.serving import openapi_document

    json.dump(openapi_document(), sys.stdout, indent=2)
    typer.echo()


def _with_address(settings: Settings, host: str | None, port: int | None) -> Settings:
    """Settings for this host and port; the public URL follows unless it was set."""
    moved = replace(
        settings, host=host or settings.host, port=settings.port if port is None else port
    )
    if settings.public_url == local_url(settings.host, settings.port):
        moved = replace(moved, public_url=local_url(moved.host, moved.port))
    return moved


def _fail(error: Exception) -> None:
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    typer.echo(f"taskbell: {said}", err=True)
    raise typer.Exit(2 if isinstance(error, SettingsError) else 1)
