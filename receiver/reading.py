"""Careful readers of what providers say: each gives None for what is not there, or not usable."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from receiver.common_words import common_status
from receiver.failures import Code
from receiver.provider import Answer, ProviderError
from store.events import Failure, Kind, Output, Status, Task, TaskUpdate
from store.text import clean

MAX_OUTPUTS = 100
_ENVELOPES = ("task", "data", "payload", "tasks", "items")
_REQUEST_WORDS = ("ok", "success", "error", "fail")
_ID_FIELDS = ("task_id", "taskid", "taskId", "session_id", "prediction_id", "id")  # id: inside only
_MAX_DEPTH = 4

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_DOTS = re.compile(r"\.+")
_NUMBER_LIMIT = 10**100
_MAX_WORD = 64
_MAX_CODE = 64

_SUFFIX = re.compile(r"\.([A-Za-z0-9]{2,4})(?=[?#&]|$)")
_INLINE = re.compile(r"data:(image|video|audio)/", re.IGNORECASE)
_LONGEST_URL = 8_192
_KINDS = {
    **dict.fromkeys(("avif", "bmp", "gif", "jpeg", "jpg", "png", "webp"), Kind.IMAGE),
    **dict.fromkeys(("avi", "m4v", "mkv", "mov", "mp4", "webm"), Kind.VIDEO),
    **dict.fromkeys(("aac", "flac", "m4a", "mp3", "ogg", "opus", "wav"), Kind.AUDIO),
}


def segment(task_id: str) -> str:
    """A task id as one segment of a path. Raises ProviderError for one that would climb out.

    >>> segment("a/b?c")
    'a%2Fb%3Fc'
    """
    # no quoting helps here: clients read %2e%2e as .. too
    if _DOTS.fullmatch(task_id) or not task_id:
        raise ProviderError("not a task id", code=Code.BAD_ID, permanent=True)
    return quote(task_id, safe="", errors="replace")


def read_object(value: Any) -> Mapping[str, Any]:
    """The value when it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def read_text(value: Any) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def read_id(value: Any) -> str | None:
    """An id of 1 to 128 of A-Z a-z 0-9 . _ : -, from a text or a JSON integer.

    >>> read_id(115334141465231360)
    '115334141465231360'
    >>> read_id("../files/delete")
    """
    if _is_integer(value) and value >= 0:
        return str(value)
    if isinstance(value, str) and _ID.fullmatch(value) and not _DOTS.fullmatch(value):
        return value
    return None


def read_code(value: Any) -> str | None:
    """An error code: a short printable text, or an integer as text.

    >>> read_code(1026), read_code("1026"), read_code(True)
    ('1026', '1026', None)
    """
    if _is_integer(value):
        return str(value)
    if isinstance(value, str) and value.isprintable():
        return clean(value, _MAX_CODE) or None
    return None


def read_word(value: Any) -> str | None:
    """A status word: a text of at most 64 characters that is not blank."""
    if not isinstance(value, str) or len(value) > _MAX_WORD or not value.strip():
        return None
    return value


def status_of(word: str, words: Mapping[str, Status]) -> Status:
    """What a provider's word means by its table (casefolded), or else in the trade in general.

    An unknown word is processing.
    """
    own = words.get(word.strip().casefold())
    return own or common_status(word) or Status.PROCESSING


def contradicts_itself(body: Any, words: Mapping[str, Status], *, with_ids: bool = True) -> bool:
    """True when two places of a body name two tasks, or tell one ended and the other not so.

    Half of such a body would be wrong, and nothing says which half. with_ids: False where another
    id than the task's own stands in it, too.
    """
    ids: set[str] = set()
    said: set[Status] = set()
    for depth, place in _places(body, 2):
        for name in _ID_FIELDS if depth else _ID_FIELDS[:-1]:
            ids.add(read_id(place.get(name)) or "")
        word = (read_word(place.get("status")) or "").strip().casefold()
        about_a_request = word in _REQUEST_WORDS and not ids - {""}
        known = words.get(word) or common_status(word)
        if known is not None and not (depth == 0 and about_a_request):
            said.add(known)
    ended = {status for status in said if status.final}
    agree = not ended or (ended == said and (Status.SUCCEEDED not in said or len(said) == 1))
    return not agree or (with_ids and len(ids - {""}) > 1)


def _places(value: Any, depth: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects in a body that may speak of a task, with how deep they lie."""
    level: list[Any] = [value]
    for deep in range(depth + 1):
        found = [each for each in level if isinstance(each, dict)]
        yield from ((deep, each) for each in found)
        inner = [each[name] for each in found for name in _ENVELOPES if name in each]
        level = [
            item
            for each in inner
            for item in (each[:MAX_OUTPUTS] if isinstance(each, list) else [each])
        ]


def read_failure(error: Any, code: Any, word: str) -> Failure:
    """Why a task failed: error is a text or an object of code and message.

    word, the status word that said so, stands in for a code that is missing.
    """
    details = read_object(error)
    return Failure(
        code=read_code(code) or read_code(details.get("code")) or word.strip().casefold(),
        message=read_text(error) or read_text(details.get("message")) or "",
    )


def read_urls(value: Any) -> list[str]:
    """The URLs of a text, an object with a `url`, or a list of these; repeats left out."""
    return list(dict.fromkeys(_urls(value, _MAX_DEPTH)))


def outputs_of(urls: Sequence[str], kind: Kind | None) -> tuple[Output, ...]:
    """Outputs of these URLs; kind is for those whose suffix tells nothing."""
    return tuple(Output(url=url, kind=kind_of_url(url) or kind) for url in urls)


def bounded(outputs: Sequence[Output]) -> tuple[Output, ...]:
    """At most 100 of them; of more, the last one says how many are missing."""
    if len(outputs) <= MAX_OUTPUTS:
        return tuple(outputs)
    missing = len(outputs) - (MAX_OUTPUTS - 1)
    note = f"{missing} more outputs are not listed: Taskbell keeps {MAX_OUTPUTS - 1} of a task"
    return (*outputs[: MAX_OUTPUTS - 1], Output(kind=outputs[-1].kind, note=note))


def as_far_as_read(update: TaskUpdate, answer: Answer) -> TaskUpdate:
    """Add an output without a link to a success whose answer was too large to be read to its end."""
    if not answer.cut or update.status is not Status.SUCCEEDED:
        return update
    missing = Output(kind=update.kind, note="the provider's answer was too large to be read whole")
    return replace(update, outputs=bounded((*update.outputs, missing)))


def kind_of_url(url: str) -> Kind | None:
    """What a URL's suffix says, in its path or at the end of a query value.

    >>> kind_of_url("https://opencomputing.ai/idfile?path=/1/cover.jpeg")
    <Kind.IMAGE: 'image'>
    """
    inline = _INLINE.match(url)
    if inline:
        return Kind(inline[1].lower())
    kinds = (_KINDS.get(suffix.lower()) for suffix in _SUFFIX.findall(url[:_LONGEST_URL]))
    return next((kind for kind in kinds if kind is not None), None)


def ask_once_more(update: TaskUpdate, task: Task) -> TaskUpdate:
    """A polled success that names no output is held as processing, once.

    The word may be ahead of the files. When the next answer says the same it is believed, so
    that no task waits for ever. After a time-out it is believed at once: a timed-out task does
    not go back to processing, so the word would not be remembered.
    """
    if update.status is not Status.SUCCEEDED or update.outputs:
        return update
    said_before = (task.provider_status or "").casefold() == update.provider_status.casefold()
    if said_before or task.status is Status.TIMED_OUT:
        return update
    return replace(update, status=Status.PROCESSING)


def _is_integer(value: Any) -> bool:
    # the limit keeps str() from refusing a number of thousands of digits
    return type(value) is int and -_NUMBER_LIMIT < value < _NUMBER_LIMIT


def _urls(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, list) and depth:
        for item in value:
            yield from _urls(item, depth - 1)
    elif isinstance(value, dict) and isinstance(value.get("url"), str):
        yield from _urls(value["url"], depth)
