"""backup, restore: everything a server knows, into a file and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from deploy.cli import output
from deploy.cli.errors import CommandError, UsageError
from deploy.settings import Settings, SettingsError, load, process_environment, secret_keys_file
from store.errors import StoreError

T = TypeVar("T")

_TOLD = ("tasks", "events", "subscriptions", "deliveries")


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: taskbell backup /backups/taskbell-friday.db")(backup)
    app.command(
        epilog="Example: TASKBELL_DATABASE_URL=postgresql://… taskbell restore taskbell.db"
    )(restore)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new SQLite file.")],
) -> None:
    """Write the whole database, SQLite or PostgreSQL, to a file. Servers may go on meanwhile.

    The secret keys are not in it. Keep them too, in another place: whoever has both can read the
    stored secrets.
    """
    from deploy.backup import write_backup

    settings, counts = _do(lambda settings: (settings, write_backup(settings, file)))
    output.result(f"{file}: {_said(counts)}")
    output.message(f"without the secret keys: keep {_keys(settings)} too, in another place")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup, or a server's database.")],
) -> None:
    """Fill the empty database of TASKBELL_DATABASE_URL from a backup.

    FILE may also be the SQLite database of a server that was stopped: this is how one moves to
    PostgreSQL. The secret keys must be those of the server that FILE comes from.
    """
    from deploy.backup import read_backup

    done = _do(lambda settings: read_backup(settings, file))
    output.result(f"restored from {file}: {_said(done.counts)}")
    for place in done.lost:
        output.message(f"no key opens {place}")
    if done.lost:
        raise CommandError(f"{len(done.lost)} stored secrets cannot be opened with these keys")


def _do(work: Callable[[Settings], T]) -> T:
    try:
        return work(load(process_environment(), Path(".env")))
    except SettingsError as error:
        raise UsageError(str(error)) from None
    except (StoreError, ValueError) as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}") from None


def _said(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {counts[name]:,}" for name in _TOLD)


def _keys(settings: Settings) -> str:
    kept = secret_keys_file(settings)
    return str(kept) if kept and not settings.secret_keys else "TASKBELL_SECRET_KEYS"
