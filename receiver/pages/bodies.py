"""Bodies as pages show them: laid out, cut, and with nothing in them that cannot be seen."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from receiver.body import BadBody, parse_json

SHOWN = 64 * 1024
"""Characters that a page shows of a body."""


@dataclass(frozen=True, slots=True)
class Body:
    """laid_out: its JSON on lines of its own, None when it is none. cut: it has more than SHOWN."""

    size: int
    text: str
    laid_out: str | None
    cut: bool


def body_of(raw: bytes) -> Body:
    text = raw[: 4 * SHOWN].decode("utf-8", "replace")
    laid_out = _laid_out(raw)
    cut = max(len(text), len(laid_out or "")) > SHOWN or len(raw) > 4 * SHOWN
    return Body(len(raw), visible(text[:SHOWN]), laid_out and visible(laid_out[:SHOWN]), cut)


def visible(text: str) -> str:
    r"""The text with what cannot be seen written out: overrides of direction, control characters.

    >>> visible("a\u202eb\x1b[2J 元境")
    'a\\u202eb\\u001b[2J 元境'
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter == "\n" else _escaped(letter) for letter in text
    )


def _escaped(letter: str) -> str:
    return json.dumps(letter)[1:-1] if ord(letter) != 0x7F else "\\u007f"


def _laid_out(raw: bytes) -> str | None:
    try:
        return json.dumps(parse_json(raw), ensure_ascii=False, indent=2)
    except BadBody:
        return None


def asking(public_url: str, event_id: str) -> str:
    """The command that asks for an event."""
    url = f"{public_url.rstrip('/')}/v1/events/{event_id}"
    return f'curl -H "Authorization: Bearer $TASKBELL_API_KEY" {shlex.quote(url)}'


def sending(body: bytes, event_id: str, most: int = 8_000) -> str | None:
    """The command that sends a body to $URL as a delivery would, unsigned; None for a long one."""
    if len(body) > most:
        return None
    text = body.decode("utf-8", "replace")
    if not text.isprintable():  # a terminal would obey it; the same JSON can be said in ASCII
        text = json.dumps(json.loads(text), separators=(",", ":"))
    return (
        f"curl -X POST -H 'content-type: application/json' -H 'webhook-id: {event_id}'"
        f' --data-binary {shlex.quote(text)} "$URL"'
    )
