"""What every command stands in: the app, how errors are shown, and the way to the server."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from deploy import __version__
from deploy.cli.errors import CommandError, UsageError
from deploy.cli.output import complain
from store.clock import Clock, monotonic, system_clock

if TYPE_CHECKING:
    from deploy.cli.client import Client  # brings httpx, which --help and completion do without


def connect() -> Client:
    """A client for the server that the environment and .env name."""
    from deploy.cli.client import Client
    from deploy.settings import SettingsError, client_settings, process_environment

    try:
        settings = client_settings(process_environment(), Path(".env"))
    except SettingsError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"cannot read {error.filename}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError("cannot read .env: it is not UTF-8 text") from None
    return Client(settings.url, settings.api_key, way=settings.way)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a command needs from outside; a test passes its own as the context's obj."""

    connect: Callable[[], Client] = connect
    clock: Clock = system_clock
    monotonic: Callable[[], float] = monotonic
    sleep: Callable[[float], None] = time.sleep
    interactive: Callable[[], bool] = lambda: sys.stdin.isatty()
    """Whether there is somebody to ask."""


def surroundings(context: typer.Context) -> Surroundings:
    return context.obj if isinstance(context.obj, Surroundings) else Surroundings()


class OneLineErrors(TyperGroup):
    """Shows what went wrong in one line on stderr and exits with its code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        def run() -> Any:
            return super(OneLineErrors, self).main(
                args,
                prog_name,
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )

        if standalone_mode:
            sys.exit(_exit_code(run))
        return run()


@contextmanager
def terminable() -> Iterator[None]:
    """Leave the block by an exception on SIGTERM, so that it gives back the terminal's cursor."""
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(signal_number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + signal_number)


def _exit_code(run: Callable[[], Any]) -> int:
    try:
        code = run()
        sys.stdout.flush()
    except CommandError as error:
        complain(str(error))
        return error.exit_code
    except TyperException as error:
        complain(_with_hint(error))
        return error.exit_code
    except typer.Abort:
        complain("stopped")
        return 1
    except BrokenPipeError:
        # the reader, `head` say, has gone; the interpreter's last flush must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _with_hint(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    # typer quotes pydantic, whose way of speaking is no help here
    return error.format_message().replace("Value error, ", "") + hint


def new_app() -> typer.Typer:
    """An app without commands."""
    app = typer.Typer(
        name="taskbell",
        cls=OneLineErrors,
        help="One inbox for AI generation tasks: callbacks and polling in, signed events out.",
        epilog="Example: taskbell serve --dev",
        pretty_exceptions_enable=False,  # its tracebacks show local variables, keys among them
    )

    @app.callback(invoke_without_command=True)
    def start(
        context: typer.Context,
        version: Annotated[
            bool,
            typer.Option(
                "--version", callback=_show_version, is_eager=True, help="Show the version."
            ),
        ] = False,
    ) -> None:
        help_when_alone(context)

    return app


def help_when_alone(context: typer.Context) -> None:
    """In a group's callback: without a command, show what there is."""
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help())
        raise typer.Exit


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"taskbell {__version__}")
        raise typer.Exit
