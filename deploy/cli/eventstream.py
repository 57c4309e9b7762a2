"""Taskbell's event stream from a client's side: taking it apart, and finding where to begin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deploy.cli import output
from deploy.cli.client import Client
from deploy.cli.errors import CommandError

MOST_BYTES = 16 * 1024 * 1024
"""Of one message: an event holds less than a push, which is 1 MiB."""

_LAST_CURSOR = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Message:
    """An event as it was sent: data is its JSON, byte for byte what subscribers get."""

    cursor: int
    data: bytes


def messages(chunks: Iterable[bytes]) -> Iterator[Message]:
    """The events of a stream, each once it is whole. Raises CommandError for what is no stream.

    Progress, which has no id, is passed over.
    """
    fields: dict[bytes, bytes] = {}
    for line in _lines(chunks):
        name, _, value = line.partition(b":")
        if line and name:
            fields[name] = value.removeprefix(b" ")
        elif not line:
            if b"id" in fields and b"data" in fields:
                yield Message(_cursor(fields[b"id"]), fields[b"data"])
            fields = {}


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    # no text lines: JSON may hold U+2028 and U+0085, at which Python would break them
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > MOST_BYTES:
            raise CommandError(f"the event stream sent more than {MOST_BYTES} bytes in one line")


def _cursor(text: bytes) -> int:
    if not text.isdigit() or len(text) > len(str(_LAST_CURSOR)):
        raise CommandError("the event stream names no cursor: is TASKBELL_URL right?")
    return int(text)


def cursor_before(api: Client, moment: datetime | None) -> int:
    """A cursor behind which are the events from a moment on; None: those still to come.

    The API lists events by their cursors only, so this asks for one event at a time and halves
    what is left: about twice the logarithm of their number, 40 questions for a million.
    """
    low, step = 0, 1
    while (event := _next(api, low + step - 1, moment)) is not None:
        low, step = event, step * 2
    high = low + step - 1
    while low < high:
        middle = (low + high) // 2
        event = _next(api, middle, moment)
        if event is None:
            high = middle
        else:
            low = event
    return low


def _next(api: Client, cursor: int, moment: datetime | None) -> int | None:
    """The cursor of the first event behind one, when it was before the moment."""
    params = {"after": str(min(cursor, _LAST_CURSOR))}
    rows: list[dict[str, Any]] = api.listing(
        "/v1/events", params, limit=1, cursor_name="after"
    ).rows
    if not rows:
        return None
    then = output.moment(rows[0].get("timestamp"))
    if moment is not None and then is not None and then >= moment:
        return None
    found = rows[0].get("cursor")
    if not isinstance(found, int) or found <= cursor:
        raise CommandError("the list of events has no cursors: is TASKBELL_URL right?")
    return found
