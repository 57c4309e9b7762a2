"""The command that looks for what is wrong, and says what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer
from rich.cells import cell_len
from rich.text import Text

from deploy.cli import output
from deploy.cli.errors import CommandError
from deploy.cli.frame import Surroundings, surroundings
from deploy.cli.options import Json

if TYPE_CHECKING:
    from deploy.cli.checkup.finding import Check, Finding
    from deploy.settings import ClientSettings, Settings

DOTENV = Path(".env")
_STYLES = {"ok": "green", "skip": "dim", "warn": "yellow", "FAIL": "red"}


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: taskbell doctor --json")(doctor)


def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Look for what is wrong: settings, database, server, public URL, keys, subscriptions.

    Run it in the server's folder, with the server's settings, while the server runs. It asks each
    provider about a task that is not there, which costs nothing, and changes nothing but a callback
    URL that ends after a minute. Exit code 1: something is wrong (FAIL).
    """
    wrong = False
    for finding in _examine(surroundings(context)):
        wrong = wrong or finding.level == "FAIL"
        _show(finding, as_json=as_json)
    if wrong:
        raise typer.Exit(1)


def _examine(around: Surroundings) -> Iterator[Finding]:
    from deploy.cli.checkup import local
    from deploy.cli.checkup.finding import fail, run
    from deploy.settings import SettingsError, client_settings, merged, process_environment

    environ = process_environment()
    try:
        values = merged(environ, DOTENV)
    except (OSError, UnicodeDecodeError):
        yield fail("settings", f"{DOTENV} cannot be read", "make it UTF-8 text that you may read")
        values = dict(environ)
    settings, findings = local.settings(values)
    yield from findings
    try:
        client = client_settings(values)
    except (SettingsError, OSError, UnicodeDecodeError) as error:
        client = None
        if settings is not None:
            yield fail("settings", str(error), "set it right, or unset it")
    here = _local_checks(settings, client, around, values) if settings is not None else []
    yield from run(here)
    if client is not None:
        yield from _ask_server(client, around)


def _local_checks(
    settings: Settings,
    client: ClientSettings | None,
    around: Surroundings,
    values: Mapping[str, str],
) -> list[Check]:
    from deploy.cli.checkup import keys, local
    from deploy.cli.checkup.finding import Check, skip
    from receiver.provider import providers

    checks = [
        Check("database", partial(local.database, settings, around.clock)),
        Check("disk", partial(local.disk, settings)),
        Check("network", partial(local.network, settings, values)),
    ]
    if client is not None and _elsewhere(client, settings):
        reason = f"the server is at {client.url}: run this there for its database and disk"
        return [Check("database", lambda: [skip("database", reason)])]
    # what the server has, the server says; a key in this environment may be another one
    return checks + [
        Check(f"{each.title} key", partial(keys.key, each, settings.providers[name], around.clock))
        for name, each in providers().items()
        if settings.providers[name].api_key is not None
    ]


def _elsewhere(client: ClientSettings, settings: Settings) -> bool:
    """Whether the server that is asked is on another machine than this one."""
    own = {"127.0.0.1", "localhost", "::1", settings.host, urlsplit(settings.public_url).hostname}
    return urlsplit(client.url).hostname not in own


def _ask_server(client: ClientSettings, around: Surroundings) -> Iterator[Finding]:
    """First whether it is there, then what our key is for, then all the rest."""
    from deploy.cli.checkup import public, server
    from deploy.cli.checkup.finding import Check, Level, fail, run

    try:
        api = around.connect()
    except CommandError as error:
        yield fail("server", str(error), "set TASKBELL_URL and TASKBELL_API_KEY right")
        return
    with api:
        for check in (
            Check("server", partial(server.server, client.url, api, around.clock)),
            Check("API key", partial(server.api_key, api)),
        ):
            found = list(run([check]))
            yield from found
            if found[0].level is Level.FAIL:
                return
        yield from run(
            [
                Check("public URL", partial(public.public_url, api, around.monotonic)),
                Check("providers", partial(server.providers, api)),
                Check("subscriptions", partial(server.subscriptions, api)),
                Check("deliveries", partial(server.deliveries, api)),
                Check("tasks", partial(server.tasks, api, around.clock)),
            ]
        )


def _show(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        names = ("check", "level", "text", "todo")
        output.json_line({name: getattr(finding, name) for name in names})
        return
    mark = f"{finding.level:4}"
    line = f"{finding.check}{' ' * (16 - cell_len(finding.check))}  {finding.text}"
    console = output.terminal()
    if console is None:
        output.result(f"{mark}  {line}")
    else:
        marked = Text(mark, style=_STYLES[finding.level])
        console.print(marked.append(f"  {output.plain(line)}", style="default"), soft_wrap=True)
    if finding.todo:
        output.result(f"{'':4}  {'':16}  → {finding.todo}")
