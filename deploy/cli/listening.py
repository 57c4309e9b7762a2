"""Following the event stream, and passing each event on to a program on this machine.

One event is held at a time and nothing is read ahead: while the program is away the stream waits,
is cut off by the server, and goes on later behind the last event that was answered.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from rich.console import Console
from rich.text import Text

from deploy.cli import output
from deploy.cli.client import Client
from deploy.cli.errors import CommandError, CursorGone, ServerAway
from deploy.cli.eventstream import Message, messages
from deploy.cli.frame import Surroundings
from deploy.cli.local import Absent, HungUp, Local, Reply, Untrusted
from dispatch.sink import Event

PAUSE_SECONDS = 1.0
SILENCE_SECONDS = 45.0  # a heartbeat comes every 15 s
MOST_TRIES = 3
"""How often an event is sent to a program that takes it and hangs up."""

PATH = "/v1/events/stream"

_WHAT_TO_DO = (
    "start listen again: it begins with what is still to come, with --replay 1h so far back"
)


class Face(Protocol):
    """How events and answers are shown."""

    def event(self, event: Event, cursor: int) -> None:
        """It came."""

    def reply(self, event: Event, cursor: int, reply: Reply) -> None:
        """What the program on this machine made of it."""


class Listener:
    """Follows from a cursor on, for ever; None: from where the query says. local None: only shows."""

    def __init__(
        self,
        api: Client,
        wanted: Mapping[str, str],
        cursor: int | None,
        local: Local | None,
        face: Face,
        around: Surroundings,
    ) -> None:
        self.seen = 0
        self.answered: Counter[bool] = Counter()
        self._api = api
        self._wanted = wanted
        self._cursor = cursor
        self._local = local
        self._face = face
        self._around = around

    def run(self) -> None:
        """Until interrupted. Raises CommandError when the server wants nothing of it."""
        away = False
        while True:
            try:
                with self._stream() as chunks:
                    if away:
                        output.message("Taskbell is back")
                        away = False
                    for message in messages(chunks):
                        self._take(message)
            except ServerAway as error:
                if not away:
                    output.message(f"{error}: trying again, nothing gets lost")
                away = True
            except CursorGone as error:
                raise CommandError(f"{error}; {_WHAT_TO_DO}") from None
            self._around.sleep(PAUSE_SECONDS)

    def _stream(self) -> Any:
        place = {"accept": "text/event-stream"}
        if self._cursor is not None:
            place["last-event-id"] = str(self._cursor)
        return self._api.stream(PATH, self._wanted, place, silence=SILENCE_SECONDS)

    def _take(self, message: Message) -> None:
        event = event_of(message.data)
        self.seen += 1
        self._face.event(event, message.cursor)
        if self._local is not None:
            reply = self._delivered(event, self._local)
            self.answered[reply.accepted] += 1
            self._face.reply(event, message.cursor, reply)
        self._cursor = message.cursor

    def _delivered(self, event: Event, local: Local) -> Reply:
        """The answer, however long it takes until somebody is there to give one."""
        absent, tries = False, 0
        while True:
            try:
                reply = local.send(event)
            except Absent as error:
                if not absent:
                    output.message(f"nobody is at {local.url} ({error}): waiting with this event")
                absent = True
            except Untrusted as error:
                raise CommandError(
                    f"no safe connection to {local.url}: {error.args[0].removesuffix('.')}"
                    " (SSL_CERT_FILE=… trusts an authority of your own)"
                ) from None
            except HungUp:
                tries += 1
                if tries == MOST_TRIES:
                    return Reply(None, 0, "it hung up without an answer")
            else:
                return reply
            self._around.sleep(PAUSE_SECONDS)


def event_of(data: bytes) -> Event:
    """An event out of its JSON. Raises CommandError for what is none."""
    try:
        body = json.loads(data)
        about = body["data"]
        task = about.get("task") or {}
        subject = task or about.get("subscription") or about.get("delivery") or {}
        provider = task.get("provider")
        return Event(
            id=str(body["id"]),
            type=str(body["type"]),
            source=f"/taskbell/{provider}" if provider else "/taskbell",
            subject=str(subject.get("id") or ""),
            time=datetime.fromisoformat(body["timestamp"]),
            body=data,
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CommandError(
            "the event stream sent what is no event: is TASKBELL_URL right?"
        ) from None


class LineFace:
    """`-->` what came, `<--` what was answered; with colour on a terminal."""

    def __init__(self) -> None:
        self._console = output.terminal()

    def event(self, event: Event, cursor: int) -> None:
        words = [output.plain(event.type), output.plain(event.subject), output.plain(event.id)]
        if self._console is not None and len("--> " + "  ".join(words)) > self._console.width:
            words.pop()  # the answer's line has it too
        _print(
            self._console, ("--> ", "cyan"), (words[0], "bold"), ("  ".join(["", *words[1:]]), "")
        )

    def reply(self, event: Event, cursor: int, reply: Reply) -> None:
        style = "green" if reply.accepted else "red"
        told = (reply.status, reply.error and output.plain(reply.error))
        said = ": ".join(str(each) for each in told if each is not None)
        rest = f"  {reply.seconds * 1000:.0f} ms  {output.plain(event.id)}"
        _print(self._console, (f"<-- {said}", style), (rest, ""))


def _print(console: Console | None, *parts: tuple[str, str]) -> None:
    if console is None:
        output.result("".join(text for text, _ in parts))
    else:
        console.print(Text.assemble(*parts), soft_wrap=True)


class JsonFace:
    """A line for each event once it is done with: as the API shows it, with the answer beside it."""

    def __init__(self, *, answered: bool) -> None:
        self._answered = answered

    def event(self, event: Event, cursor: int) -> None:
        if not self._answered:
            output.json_line({**json.loads(event.body), "cursor": cursor})

    def reply(self, event: Event, cursor: int, reply: Reply) -> None:
        answer = {
            "status": reply.status,
            "seconds": round(reply.seconds, 6),
            "error": reply.error,
        }
        output.json_line({**json.loads(event.body), "cursor": cursor, "answer": answer})
