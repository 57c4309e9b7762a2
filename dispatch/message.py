"""An event as people want to read it, before any service's format: every sink renders this.

All texts are on one line and short (`_MOST_…`), so that no service has to cut much. Nothing in a
message depends on when it is sent: the same event reads the same on every attempt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from dispatch.plain import ELLIPSIS, cut, link, one_line
from dispatch.reasons import cause_of
from dispatch.sink import Event
from dispatch.texts import Texts, texts

_MOST_ERROR = 500  # characters
_MOST_LABEL = 40
_MOST_VALUE = 120
_MOST_FACTS = 10
_MOST_USAGE = 3
_MOST_LINKS = 3
_TELLING = re.compile("cost|price|amount|credit|token", re.IGNORECASE)

# names in the words of their owners; another provider goes by its short name
_PROVIDERS = {"minimax": "MiniMax", "atlascloud": "Atlas Cloud", "opencomputing": "元境"}

TEST_MARK = "taskbell_test"
"""The metadata key of a sample event (POST …/test)."""


class Tone(StrEnum):
    """Whether it is good news; services show it as a colour."""

    GOOD = "good"
    BAD = "bad"
    CALM = "calm"


_TONES = {
    "task.succeeded": Tone.GOOD,
    "task.failed": Tone.BAD,
    "task.timed_out": Tone.BAD,
    "subscription.disabled": Tone.BAD,
    "delivery.dead": Tone.BAD,
    "provider.down": Tone.BAD,
    "provider.recovered": Tone.GOOD,
}


@dataclass(frozen=True, slots=True)
class Link:
    """An output that can be opened. kind is video, image, audio, or "" when nobody said."""

    text: str
    url: str
    kind: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A detail with its name."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Message:
    """What a message says, from top to bottom.

    lines: how it ended, why, until when its links hold. preview: the address of a picture.
    colon: what stands between label and value in this language.
    """

    tone: Tone
    title: str
    lines: tuple[str, ...]
    facts: tuple[Fact, ...] = ()
    links: tuple[Link, ...] = ()
    preview: str | None = None
    preview_text: str = ""
    footer: str = "Taskbell"
    colon: str = ": "

    def listed(self) -> list[str]:
        """Each fact as a line."""
        return [f"{fact.label}{self.colon}{fact.value}" for fact in self.facts]

    def link_to(self, kind: str) -> Link | None:
        """The first output of a kind."""
        return next((link for link in self.links if link.kind == kind), None)


def message_of(event: Event, language: str) -> Message:
    """What an event says in a language; whatever its body holds, there is something to say."""
    words = texts(language)
    data = _object(_parsed(event.body).get("data"))
    task = _object(data.get("task"))
    if task and event.type.startswith("task."):
        return _about_task(event, task, bool(data.get("late")), words)
    return _about_taskbell(event, data, words)


def _about_task(event: Event, task: Mapping[str, Any], late: bool, words: Texts) -> Message:
    status = event.type.removeprefix("task.")
    kind = _text(task.get("kind"))
    title = _titled(event, words, noun=words.nouns.get(kind, words.nouns[""]))
    is_test = TEST_MARK in _object(task.get("metadata"))
    links, notes = _links(task, status, words)
    picture = next((each.url for each in links if each.kind == "image"), None)
    return Message(
        tone=_TONES.get(event.type, Tone.CALM),
        title=words.titles["test"].format(title=title) if is_test else title,
        lines=(
            *([words.lines["test"]] if is_test else []),
            _ending(task, status, words),
            *([words.lines["late"]] if late else []),
            *_why(task, words),
            *notes,
        ),
        facts=_facts(task, status, words),
        links=links,
        preview=picture,
        preview_text=words.labels["preview"],
        footer=_footer(task, words),
        colon=words.colon,
    )


def _about_taskbell(event: Event, data: Mapping[str, Any], words: Texts) -> Message:
    """An event about Taskbell or a provider, or a type of a later version: one plain line."""
    if event.type.startswith("provider."):
        return _about_provider(event, data, words)
    about = _object(data.get("subscription")) or _object(data.get("delivery"))
    template = words.lines.get(event.type, words.lines["other"])
    line = template.format(
        id=_text(about.get("id")),
        reason=_text(about.get("reason")),
        event=_text(about.get("event_id")) or _short(event.id),
        type=_text(about.get("event_type")),
        subscription=_text(about.get("subscription_id")),
        attempts=_text(about.get("attempts")),
        error=_text(about.get("last_error")) or "?",
    )
    tone = _TONES.get(event.type, Tone.CALM)
    title = _titled(event, words, noun=words.nouns[""])
    return Message(tone, title, (line,), colon=words.colon)


def _about_provider(event: Event, data: Mapping[str, Any], words: Texts) -> Message:
    """provider.down: since when, and why; provider.recovered: how long it was down."""
    about, previous = _object(data.get("provider")), _object(data.get("previous"))
    name = _text(about.get("name"))
    provider = _PROVIDERS.get(name) or _text(about.get("title")) or name or "?"
    template = words.lines.get(event.type, words.lines["other"])
    took = _between(_moment(previous.get("since")), _moment(about.get("since")), words)
    line = template.format(provider=provider, took=took or "?", event=_short(event.id))
    reason = _text(_object(about.get("reason")).get("message"), _MOST_ERROR)
    why = f"{words.labels['why']}{words.colon}{reason}"
    title = words.titles.get(event.type, words.titles["other"])
    return Message(
        _TONES.get(event.type, Tone.CALM),
        title.format(provider=provider, type=_short(event.type)),
        (line, why) if reason else (line,),
        colon=words.colon,
    )


def _titled(event: Event, words: Texts, noun: str) -> str:
    key = event.type.removeprefix("task.")
    template = words.titles.get(key, words.titles["other"])
    return template.format(noun=noun, type=_short(event.type))


def _ending(task: Mapping[str, Any], status: str, words: Texts) -> str:
    provider, took = _provider(task), _took(task, words)
    template = words.lines.get(f"{status} after") if took else None
    template = template or words.lines.get(status, words.lines["other"])
    return template.format(provider=provider, took=took, event=_text(task.get("id")))


def _why(task: Mapping[str, Any], words: Texts) -> Iterator[str]:
    """What went wrong: in our words when we know them, and always in the provider's."""
    error = _object(task.get("error"))
    code, message = _text(error.get("code")), _text(error.get("message"), _MOST_ERROR)
    cause = cause_of(code, message) if error else None
    if cause is not None:
        yield words.causes[cause]
    said = f"{message} ({code})" if message and code and code != message else message or code
    if said:
        yield f"{words.labels['said']}{words.colon}{said}"


def _links(
    task: Mapping[str, Any], status: str, words: Texts
) -> tuple[tuple[Link, ...], list[str]]:
    """The outputs that can be opened, and what has to be said about them and the others."""
    outputs = [_object(each) for each in _list(task.get("outputs"))]
    named = [each for each in outputs if each.get("url")]
    links, notes, unsound = [], [], False
    task_id = _text(task.get("id"))
    for number, output in enumerate(named[:_MOST_LINKS], start=1):
        kind = _text(output.get("kind") or task.get("kind"))
        text = words.opens.get(kind, words.opens[""])
        if len(named) > 1:
            text = words.notes["numbered"].format(open=text, number=number)
        url = link(output["url"])
        unsound = unsound or url is None
        if url is not None:
            links.append(Link(text, url, kind))
            notes += _expiry(output, text, words)
    if unsound:
        notes.append(words.notes["bad link"].format(task=task_id))
    if len(named) > _MOST_LINKS:
        count = len(named) - _MOST_LINKS
        notes.append(words.notes["more links"].format(count=count, task=task_id))
    if status == "succeeded" and not named:
        notes.append(words.notes["no link"])
    return tuple(links), notes


def _expiry(output: Mapping[str, Any], text: str, words: Texts) -> list[str]:
    moment = _moment(output.get("expires_at"))
    if moment is None:
        return []
    return [words.notes["expires"].format(open=text, time=f"{moment:%Y-%m-%d %H:%M}")]


def _facts(task: Mapping[str, Any], status: str, words: Texts) -> tuple[Fact, ...]:
    labels = words.labels
    facts = [
        Fact(labels["provider"], _provider(task)),
        Fact(labels["model"], _text(task.get("model"))),
        Fact(labels["took"], _took(task, words)),
        Fact(labels["progress"], _percent(task) if status == "processing" else ""),
        *_pairs(_spent(_object(task.get("usage")))),
        *_pairs(_metadata(task)),
    ]
    told = [fact for fact in facts if fact.value]
    if len(told) > _MOST_FACTS:
        more = words.notes["more facts"].format(count=len(told) - _MOST_FACTS + 1)
        told = [*told[: _MOST_FACTS - 1], Fact(ELLIPSIS, more)]
    return tuple(told)


def _pairs(values: Mapping[str, Any]) -> list[Fact]:
    return [Fact(_text(key, _MOST_LABEL) or "?", _text(value)) for key, value in values.items()]


def _spent(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Cost and use, the money first; numbers alone mean something to people."""
    numbers = {
        key: value
        for key, value in usage.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    first = sorted(numbers, key=lambda key: not _TELLING.search(key))
    return {key: numbers[key] for key in first[:_MOST_USAGE]}


def _metadata(task: Mapping[str, Any]) -> dict[str, Any]:
    metadata = _object(task.get("metadata"))
    return {key: value for key, value in metadata.items() if key != TEST_MARK}


def _footer(task: Mapping[str, Any], words: Texts) -> str:
    theirs = _text(task.get("provider_task_id"))
    beside = f"{words.labels['provider task']}{words.colon}{theirs}" if theirs else ""
    return " · ".join(part for part in ("Taskbell", _text(task.get("id")), beside) if part)


def _provider(task: Mapping[str, Any]) -> str:
    name = _text(task.get("provider"))
    return _PROVIDERS.get(name, name) or "?"


def _took(task: Mapping[str, Any], words: Texts) -> str:
    """How long we knew the task; "" when it has not ended, or came to us ended."""
    return _between(_moment(task.get("created_at")), _moment(task.get("finished_at")), words)


def _between(start: datetime | None, end: datetime | None, words: Texts) -> str:
    if start is None or end is None or (end - start).total_seconds() < 1:
        return ""
    minutes, seconds = divmod(round((end - start).total_seconds()), 60)
    hours, rest = divmod(minutes, 60)
    if hours:
        return words.durations[2].format(hours=hours, minutes=rest)
    return words.durations[bool(minutes)].format(minutes=minutes, seconds=seconds)


def _percent(task: Mapping[str, Any]) -> str:
    progress = task.get("progress")
    return f"{progress:.0%}" if isinstance(progress, int | float) and 0 <= progress <= 1 else ""


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment is not None and moment.tzinfo is not None else None


def _short(text: str, most: int = _MOST_VALUE) -> str:
    return cut(one_line(text[: 4 * most]), most)


def _text(value: object, most: int = _MOST_VALUE) -> str:
    """Any JSON value on one short line; "" for null."""
    if value is None:
        return ""
    return _short(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), most)


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        return _object(json.loads(body))
    except ValueError:
        return {}


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
