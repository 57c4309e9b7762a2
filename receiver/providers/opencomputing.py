"""元境 tasks, which are only ever polled.

Source: the platform's api_zh.md and the gateway module's own docs, both read 2026-11-20. They
disagree on the shape of an answer, so both are read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from receiver.asking import refuse
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
)
from receiver.reading import (
    MAX_OUTPUTS,
    ask_once_more,
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
WRAPPER_WORDS = ("ok", "error")  # about the request, never about the task

BALANCE_WORDS = ("balance", "余额")
BALANCE_WAIT = timedelta(minutes=5)

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

    def challenge(self, body: Any) -> Any:
        return NO_CHALLENGE

    async def verify(
        self, headers: Mapping[str, str], raw: bytes, keys: KeyRing, now: datetime
    ) -> None:
        """Nothing is signed here."""

    def parse(self, body: Any) -> TaskUpdate:
        raise UnreadableBody("元境 does not push")

    async def query(self, ask: Asker, task: Task, now: datetime) -> TaskUpdate:
        params = {"taskid": task.provider_task_id}
        answer = await ask.get(TASKS_PATH, params, raw_statuses=(429,))
        if answer.status == 429:
            raise _slow_down(answer, now)
        return ask_once_more(_read(_unwrap(answer.body), task.kind), task)

    def pace(self, task: Task, now: datetime) -> timedelta:
        age = min(max(now - task.created_at, timedelta(0)), SLOWEST_AT)
        return FIRST_PACE + (SLOWEST_PACE - FIRST_PACE) * (age / SLOWEST_AT)


def _slow_down(answer: Answer, now: datetime) -> ProviderError:
    # 429 is documented for an empty account, too: no question helps until somebody pays
    words = (read_text(read_object(answer.body).get("error")) or "").casefold()
    if not any(word in words for word in BALANCE_WORDS):
        return refuse(answer.status, answer.headers, answer.body, now)
    return ProviderError(
        "元境: 429, insufficient balance",
        code=Code.BALANCE,
        blame=Blame.KEY,
        retry_after=BALANCE_WAIT,
    )


def _unwrap(body: Any) -> Mapping[str, Any]:
    """The task of a flat or wrapped answer. Raises UnreadableBody."""
    answer = read_object(body)
    word = read_word(answer.get("status"))
    if word is not None and word.strip().casefold() not in WRAPPER_WORDS:
        return answer
    inner = read_object(answer.get("data"))
    if not inner:
        raise UnreadableBody("元境: an answer that holds no task")
    return inner


def _read(found: Mapping[str, Any], asked_kind: Kind | None) -> TaskUpdate:
    word = read_word(found.get("status"))
    if word is None:
        raise UnreadableBody("元境: an answer without a status")
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
    return (*named, *(output for output in listed if output.url not in seen))[:MAX_OUTPUTS]


PROVIDER: Provider = OpenComputing()
