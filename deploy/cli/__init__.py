"""The command line. Its modules are imported only when the app is built."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def build_app() -> typer.Typer:
    """Every command there is."""
    from deploy.cli import (
        audit,
        backups,
        callbacks,
        doctor,
        events,
        frame,
        keys,
        listen,
        providers,
        replay,
        server,
        subscriptions,
        tasks,
        trigger,
        verify,
    )

    app = frame.new_app()
    for module in (server, tasks, callbacks, subscriptions, events, listen, trigger, keys, audit):
        module.register(app)
    for module in (providers, replay, verify, doctor, backups):
        module.register(app)
    return app


def main() -> None:
    """The console command `taskbell`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal can write every letter
    build_app()(prog_name="taskbell")
