"""Changing fields of a JSON body from the command line: `path=value`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from deploy.cli.errors import UsageError


def changed(body: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The body with each `path=value` set. Raises UsageError.

    A value is JSON where it reads as JSON, else text; objects on the way are made.

    >>> changed({"task": {"id": "1"}}, ["task.id=x", "task.usage.total_seconds=7"])
    {'task': {'id': 'x', 'usage': {'total_seconds': 7}}}
    """
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not all(path.split(".")):
            raise UsageError(f"--set {change!r} is not path=value")
        *way, last = path.split(".")
        place: Any = body
        for name in way:
            place = _step(place, name, change)
        _put(place, last, _value(text), change)
    return body


def _step(place: Any, name: str, change: str) -> Any:
    if isinstance(place, dict):
        return place.setdefault(name, {})
    if isinstance(place, list) and name.isdecimal() and int(name) < len(place):
        return place[int(name)]
    raise _no_way(change, name)


def _put(place: Any, name: str, value: Any, change: str) -> None:
    if isinstance(place, dict):
        place[name] = value
    elif isinstance(place, list) and name.isdecimal() and int(name) < len(place):
        place[int(name)] = value
    else:
        raise _no_way(change, name)


def _no_way(change: str, name: str) -> UsageError:
    return UsageError(f"--set {change!r}: there is no place for {name!r}")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
