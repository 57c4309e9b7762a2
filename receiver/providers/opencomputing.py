"""元境 tasks, which are only ever polled.

Source: the platform's api_zh.md and the gateway module's own docs, both read 2026-11-20. They
disagree on the shape of an answer, so both are read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from receiver.asking import refuse
from receiver.common_words import common_status
from receiver.failures import Blame, Code
from receiver.provider import (
    NO_CHALLENGE,
    Answer,
    Asker,
    Budget,
    KeyRing,
    Provider,
    ProviderError,
    UnreadableBody,
    Words,
    unreadable,
)
from receiver.reading import (
    as_far_as_read,
    ask_once_more,
    bounded,
    contradicts_itself,
    outputs_of,
    read_failure,
    read_object,
    read_text,
    read_urls,
    read_word,
    status_of,
)
from store.events import Failure, Kind, Output, Status, Task, TaskUpdate

TASKS_PATH = "/llmage/v1/tasks"

WORDS = {
    "created": Status.QUEUED,
    "pending": Status.QUEUED,
    "submitted": Status.QUEUED,
    "running": Status.PROCESSING,
    "unknown": Status.PROCESSING,  # may mean "no such task": the deadline ends it
    "succeeded": Status.SUCCEEDED,
    "failed": Status.FAILED,
}
# the order outputs are listed in: beside a video the image is its cover
OUTPUT_FIELDS = {"video": Kind.VIDEO, "image": Kind.IMAGE, "audio": Kind.AUDIO}
# what gateways and firewalls say of a request, and suppliers of a task
VAGUE_WORDS = (
    *("ok", "error", "errored", "fail", "reject", "rejected", "blocked", "banned", "abort"),
    *("aborted", "killed", "revoked", "stopped", "terminated", "deleted", "拒绝", "已拒绝"),
)
TASK_FIELDS = ("taskid", "usage", "model", "output", *OUTPUT_FIELDS)
ERROR_STATUSES = (400, 401, 403, 429)

BALANCE_WORDS = ("balance", "余额")
BALANCE_WAIT = timedelta(
    seconds=15
)  # then longer; whoever pays sees within a minute that it helped

FIRST_PACE = timedelta(seconds=5)
SLOWEST_PACE = timedelta(seconds=15)
SLOWEST_AT = timedelta(minutes=10)


class OpenComputing:
    name = "opencomputing"
    title = "元境"
    base_url = "https://opencomputing.ai"
    budget = Budget(requests_per_second=5, concurrency=4)
    pushes = False
    signed = False
    words = frozenset(WORDS)
    codes: Mapping[str, Words] = {}  # it documents none

    def owns(self, status: int, body: Any) -> bool:
        """Errors are {"error": text} and nothing else. No page shows a 404: the word is UNKNOWN."""
        found = read_object(body)
        if status != 200:
            said = found.keys() == {"error"} and read_text(found["error"]) is not None
            return said and status in ERROR_STATUSES
        places = (found, read_object(found.get("data")))
        return any(_speaks_of_a_task(each) or read_text(each.get("taskid")) for each in places)

    def challenge(self, body: Any) -> Any:
        return NO_CHALLENGE

    async def verify(
        self, headers: Mapping[str, str], raw: bytes, keys: KeyRing, now: datetime
    ) -> None:
        """Nothing is signed here."""

    def parse(self, body: Any) -> TaskUpdate:
        raise UnreadableBody("元境 does not push")

    def named(self, body: Any) -> str | None:
        return None

    async def query(self, ask: Asker, task: Task, now: datetime) -> TaskUpdate:
        params = {"taskid": task.provider_task_id}
        answer = await ask.get(TASKS_PATH, params, raw_statuses=(429,))
        if answer.status == 429:
            raise _slow_down(answer, now)
        update = as_far_as_read(_read(_unwrap(answer), task.kind), answer)
        return ask_once_more(update, task)

    def pace(self, task: Task, now: datetime) -> timedelta:
        age = min(max(now - task.created_at, timedelta(0)), SLOWEST_AT)
        return FIRST_PACE + (SLOWEST_PACE - FIRST_PACE) * (age / SLOWEST_AT)


def _slow_down(answer: Answer, now: datetime) -> ProviderError:
    # 429 is documented for an empty account, too: no question helps until somebody pays
    words = (read_text(read_object(answer.body).get("error")) or "").casefold()
    if not any(word in words for word in BALANCE_WORDS):
        own = PROVIDER.owns(answer.status, answer.body)
        return refuse(answer.status, answer.headers, answer.body, now, own=own)
    return ProviderError(
        "元境: 429, insufficient balance",
        code=Code.BALANCE,
        blame=Blame.KEY,
        retry_after=BALANCE_WAIT,
    )


def _unwrap(answer: Answer) -> Mapping[str, Any]:
    """The task of a flat or wrapped answer. Raises ProviderError."""
    body = read_object(answer.body)
    inner = read_object(body.get("data"))
    wrapped = _is_vague(_word(body)) and _speaks_of_a_task(inner)
    if not wrapped and not _speaks_of_a_task(body):
        raise unreadable(PROVIDER, answer, "an answer that holds no task")
    # a wrapper's word is about the request
    if contradicts_itself(inner if wrapped else body, WORDS, with_ids=False):
        raise UnreadableBody("元境: an answer that contradicts itself")
    return inner if wrapped else body


def _speaks_of_a_task(found: Mapping[str, Any]) -> bool:
    """True for an object whose status is a task's.

    Many services answer with a status and no more, and with words that are in use for tasks, too.
    Such a word counts where something else speaks of a task.
    """
    word = _word(found)
    return bool(word) and (not _is_vague(word) or any(found.get(name) for name in TASK_FIELDS))


def _is_vague(word: str) -> bool:
    """True for a word that is said of a request as often as of a task."""
    if word in WORDS:
        return False
    return not word or word in VAGUE_WORDS or common_status(word) is Status.SUCCEEDED


def _word(found: Mapping[str, Any]) -> str:
    return (read_word(found.get("status")) or "").strip().casefold()


def _read(found: Mapping[str, Any], asked_kind: Kind | None) -> TaskUpdate:
    word = read_word(found.get("status")) or ""
    status = status_of(word, WORDS)
    outputs = _outputs(found, asked_kind) if status is Status.SUCCEEDED else ()
    usage = read_object(found.get("usage"))
    # the answer's taskid is the supplier's number, so the task is not named here
    return TaskUpdate(
        status=status,
        provider_status=word,
        kind=asked_kind or (outputs[0].kind if outputs else None),
        model=read_text(found.get("model")) or read_text(usage.get("model")),
        outputs=outputs,
        error=_failure(found, word) if status is Status.FAILED else None,
        usage=usage or None,
    )


def _failure(found: Mapping[str, Any], word: str) -> Failure:
    # no field for the reason is documented; these are the usual ones
    return read_failure(found.get("error") or found.get("message"), found.get("code"), word)


def _outputs(found: Mapping[str, Any], asked_kind: Kind | None) -> tuple[Output, ...]:
    named = tuple(
        Output(url=url, kind=kind)
        for field, kind in OUTPUT_FIELDS.items()
        for url in read_urls(found.get(field))
    )
    seen = {output.url for output in named}
    listed = outputs_of(read_urls(found.get("output")), asked_kind)
    return bounded((*named, *(output for output in listed if output.url not in seen)))


PROVIDER: Provider = OpenComputing()
