"""The command that follows events as they come, and sends them to a program on this machine."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli import output
from deploy.cli.errors import UsageError
from deploy.cli.frame import Surroundings, surroundings
from deploy.cli.options import EventTypes, Json, OfProviders, seconds, words
from deploy.settings import process_environment, webhook_secret
from store.events import rfc3339

if TYPE_CHECKING:
    from deploy.cli.client import Client
    from deploy.cli.listening import Listener
    from deploy.cli.local import Local


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: taskbell listen 3000 --type task.succeeded --replay 10m")(listen)


def listen(
    context: typer.Context,
    to: Annotated[
        str | None,
        typer.Argument(
            metavar="PORT|URL",
            help="Where each event is sent: 3000/hook is http://127.0.0.1:3000/hook. Without it they are"
            " only shown.",
            show_default=False,
        ),
    ] = None,
    types: EventTypes = None,
    providers: OfProviders = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="TASK", help="Only of these. Several times or with commas."),
    ] = None,
    replay: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Begin so far back: 90s, 10m, 2h, 7d.")
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(
            metavar="WHSEC",
            help="Sign with this secret, whsec_… Default: TASKBELL_WEBHOOK_SECRET, else a new one,"
            " shown.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Send events to a program on this machine as they come, signed as a subscriber gets them.

    Events wait, in order, while your program or Taskbell is away. Ctrl-C ends it.
    """
    from deploy.cli.eventstream import newest_cursor
    from deploy.cli.listening import JsonFace, LineFace, Listener

    around = surroundings(context)
    back = timedelta(seconds=seconds("--replay", replay)) if replay is not None else None
    wanted = {
        "type": ",".join(words(types) or ["task.*"]),
        "provider": ",".join(words(providers) or ()),
        "task": ",".join(words(tasks) or ()),
    }
    face = JsonFace(answered=to is not None) if as_json else LineFace()
    secret = secret or (webhook_secret(process_environment(), Path(".env")) if to else None)
    with _local(to, secret, around) as local, around.connect() as api:
        begin = newest_cursor(api) if back is None else None
        if back is not None:
            wanted["since"] = rfc3339(around.clock() - back)
        _tell(api, local, secret)
        asked = {name: value for name, value in wanted.items() if value}
        _follow(Listener(api, asked, begin, local, face, around))


def _follow(listener: Listener) -> None:
    with _sigterm_as_interrupt():
        try:
            listener.run()
        except KeyboardInterrupt:
            output.message(_summary(listener))


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _local(to: str | None, secret: str | None, around: Surroundings) -> Local | nullcontext[None]:
    """Where to send. Raises UsageError."""
    from deploy.cli.local import Local, address
    from dispatch.signing import new_secret, sign

    if to is None:
        if secret is not None:
            raise UsageError("--secret signs what is sent to a PORT or URL; give one")
        return nullcontext()
    secret = secret or new_secret()
    try:
        sign(secret, "evt", 0, b"")
    except ValueError as error:
        raise UsageError(f"--secret: {error}") from None
    return Local(address(to), secret, around.clock, around.monotonic)


def _tell(api: Client, local: Local | None, given: str | None) -> None:
    if local is None:
        output.message(f"events of {api.url} are shown as they come (Ctrl-C to stop)")
        return
    output.message(f"events of {api.url} go to {local.url} as they come (Ctrl-C to stop)")
    signed = "the secret you gave" if given else f"{local.secret} (--secret keeps it)"
    output.message(f"signed with {signed}")


def _summary(listener: Listener) -> str:
    good, bad = listener.answered[True], listener.answered[False]
    if not good and not bad:
        return f"{listener.seen} events came"
    return f"{listener.seen} events came, {good} answered with 2xx, {bad} not"
