"""The options that several commands share, and how their words are read."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from deploy.cli.completion import event_types, provider_names
from deploy.cli.errors import UsageError
from store.events import rfc3339


def count(value: str | int) -> int:
    """A whole number above 0. Raises typer.BadParameter."""
    text = str(value)  # the option's own default comes through here too, as it is
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) == 0:
        raise typer.BadParameter(f"{text!r} is not a whole number above 0")
    return int(text)


def number(text: str) -> float:
    """A number above 0, with a fraction if need be. Raises typer.BadParameter."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or float(text) == 0:
        raise typer.BadParameter(f"{text!r} is not a number above 0")
    return float(text)


def json_object(text: str) -> dict[str, Any]:
    """A JSON object. Raises typer.BadParameter."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise typer.BadParameter('it is not a JSON object like {"data.task.model": "…"}')
    return value


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
Limit = Annotated[
    int, typer.Option("--limit", parser=count, metavar="N", help="Show at most so many.")
]
Meta = Annotated[
    list[str] | None,
    typer.Option("--meta", metavar="KEY=VALUE", help="Metadata. May be given several times."),
]
EventTypes = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        help="task.succeeded, task.*, … Several times or with commas. Default: task.*",
        autocompletion=event_types,
    ),
]
OfProviders = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        help="Only of these. Several times or with commas.",
        autocompletion=provider_names,
    ),
]
ProviderName = Annotated[
    str,
    typer.Argument(
        metavar="PROVIDER",
        help="minimax, atlascloud, opencomputing.",
        show_default=False,
        autocompletion=provider_names,
    ),
]

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(option: str, text: str) -> int:
    """A duration in seconds: `90`, `90s`, `10m`, `2h`, `7d`. Raises UsageError.

    >>> seconds("--timeout", "10m")
    600
    """
    found = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if found is None or int(found[1]) == 0:
        raise UsageError(f"{option} {text!r} is not a duration like 90s, 10m, 2h, 7d or seconds")
    return int(found[1]) * _UNITS[found[2]]


def moment(option: str, text: str, now: datetime) -> str:
    """A time in RFC 3339, given so or as how long ago. Raises UsageError.

    >>> moment("--since", "90m", datetime.fromisoformat("2026-11-21T12:00:00Z"))
    '2026-11-21T10:30:00.000000Z'
    """
    if text[:1].isdigit() and "T" in text:
        return rfc3339(with_zone(option, text))
    try:
        return rfc3339(now - timedelta(seconds=seconds(option, text)))
    except OverflowError:
        raise UsageError(f"{option} {text!r} is before all time") from None


def with_zone(option: str, text: str) -> datetime:
    """A time that says its zone, in UTC. Raises UsageError."""
    try:
        given = datetime.fromisoformat(text)
        if given.tzinfo is not None:
            return given.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"{option} {text!r} is not a time like 2026-11-21T12:00:00Z")


def pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """What was given as `key=value`. Raises UsageError.

    >>> pairs("--meta", ["customer=42", "note=a=b"])
    {'customer': '42', 'note': 'a=b'}
    """
    found: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {text!r} is not key=value")
        if key in found:
            raise UsageError(f"{option} {text!r} names {key!r} a second time")
        found[key] = value
    return found


def headers(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """What was given as `Name: value`. Raises UsageError, which does not show the value.

    >>> headers("--header", ["X-Team: video"])
    {'X-Team': 'video'}
    """
    found: dict[str, str] = {}
    for place, text in enumerate(texts or (), start=1):
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            # it may be a token that lost its name
            raise UsageError(f"{option} number {place} is not 'Name: value'")
        found[name.strip()] = value.strip()
    return found


def words(texts: Sequence[str] | None) -> list[str] | None:
    """Several values of one option, given one by one or with commas; None when there are none.

    >>> words(["task.failed,task.canceled", "task.succeeded"])
    ['task.failed', 'task.canceled', 'task.succeeded']
    """
    found = [word.strip() for text in texts or () for word in text.split(",")]
    return [word for word in found if word] or None
