"""Taskbell's event stream from a client's side: taking it apart, and finding where it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from deploy.cli.client import Client
from deploy.cli.errors import CommandError, CursorGone

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


def newest_cursor(api: Client) -> int | None:
    """The cursor of the newest event, 0 when there is none; None from a server that does not say."""
    try:
        # no log goes so far: the server says where its own ends
        api.listing("/v1/events", {"after": str(_LAST_CURSOR)}, limit=1, cursor_name="after")
    except CursorGone as error:
        return error.known
    return None
