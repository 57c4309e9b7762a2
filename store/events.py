"""The words of Taskbell (task, update, event) and the state machine that moves a task.

Everything here is pure. The picture of `advance`:

    queued ──▶ processing ──▶ succeeded | failed | canceled      (final: nothing follows)
       │            │                       ▲
       └────────────┴──▶ timed_out ─────────┘                    (late)

Steps may be skipped, never taken back. A task that was announced nowhere yet (version 0)
may start in any status.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from typing import Any


class Status(StrEnum):
    """Where a task stands, in Taskbell's words."""

    QUEUED = "queued"
    PROCESSING = "processing"
    TIMED_OUT = "timed_out"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def final(self) -> bool:
        """True when nothing can follow."""
        return _RANK[self] == _FINAL


_FINAL = 3
_RANK = {
    Status.QUEUED: 0,
    Status.PROCESSING: 1,
    Status.TIMED_OUT: 2,
    Status.SUCCEEDED: _FINAL,
    Status.FAILED: _FINAL,
    Status.CANCELED: _FINAL,
}


class Kind(StrEnum):
    """What is being made."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"


class Source(StrEnum):
    """The way an update came in."""

    PUSH = "push"
    POLL = "poll"
    API = "api"


class Verdict(StrEnum):
    """What became of an update; receipts keep it."""

    RECORDED = "recorded"
    REPEATED = "repeated"
    STALE = "stale"
    CONTRADICTION = "contradiction"
    HELD = "held"  # an unsigned ending that waits for the provider's word
    REFUTED = "refuted"  # the provider does not know this task
    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"  # refused, and only its beginning kept
    CHALLENGE = "challenge"  # no update: the address was tried out, and answered


@dataclass(frozen=True, slots=True)
class Output:
    """One thing a task made. MiniMax v1 pushes name a file_id and leave the URL to a second call.

    note: why there is no URL, in words.
    """

    url: str | None = None
    kind: Kind | None = None
    file_id: str | None = None
    expires_at: datetime | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task failed: the provider's code (a word or a number, as text) and its message."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class TaskUpdate:
    """What a push or a poll said about a task, in Taskbell's words.

    provider_task_id is None when the body does not name the task (a poll knows whom it asked);
    provider_status is the provider's own word; progress runs from 0.0 to 1.0.
    """

    status: Status
    provider_status: str
    provider_task_id: str | None = None
    kind: Kind | None = None
    model: str | None = None
    family: str | None = None
    progress: float | None = None
    outputs: tuple[Output, ...] = ()
    error: Failure | None = None
    usage: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One generation job at a provider, as the store knows it.

    version counts its events; 0 means none was recorded yet: the task is known only from an
    unsigned push that nobody has confirmed.
    """

    id: str
    provider: str
    provider_task_id: str
    created_at: datetime
    updated_at: datetime
    deadline_at: datetime
    family: str | None = None
    kind: Kind | None = None
    model: str | None = None
    status: Status = Status.QUEUED
    provider_status: str | None = None
    progress: float | None = None
    outputs: tuple[Output, ...] = ()
    error: Failure | None = None
    usage: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0
    finished_at: datetime | None = None
    source: Source = Source.API
    confirmed: bool = False
    expect_push: bool = False
    rescued_by_poll: bool = False
    # polling
    next_poll_at: datetime | None = None
    polls: int = 0
    poll_failures: int = 0  # in a row
    poll_refusals: int = 0  # of these, those in which the provider itself refused the question
    poll_fence: int = 0
    poll_claims: int = 0  # since the last one that was finished
    # why the last poll of an open task brought nothing, or what is odd about its answer
    trouble: Failure | None = None
    # an unsigned ending that waits for the provider's word
    hint: TaskUpdate | None = None
    hint_at: datetime | None = None
    token_id: str | None = None  # of the first callback URL that pushed it


_FIELDS = tuple(each.name for each in fields(Task))
_values_of = attrgetter(*_FIELDS)
_setters = tuple(vars(Task)[name].__set__ for name in _FIELDS)


def changed(task: Task, changes: Mapping[str, Any]) -> Task:
    """A copy with other values; twice as fast as dataclasses.replace, and made for every event."""
    values = {**dict(zip(_FIELDS, _values_of(task), strict=True)), **changes}
    copy = object.__new__(Task)
    for put, value in zip(_setters, values.values(), strict=True):
        put(copy, value)
    return copy


@dataclass(frozen=True, slots=True)
class Change:
    """The next state of a task. event_type is None when only details (progress …) moved."""

    task: Task
    previous: Status | None
    event_type: str | None
    late: bool = False


def judge(task: Task, status: Status) -> Verdict:
    """What an update to `status` is to this task: the state machine itself."""
    if task.version == 0:
        return Verdict.RECORDED
    if task.status.final:
        if status == task.status:
            return Verdict.REPEATED
        return Verdict.CONTRADICTION if status.final else Verdict.STALE
    if status == task.status:
        return Verdict.REPEATED
    return Verdict.RECORDED if _RANK[status] > _RANK[task.status] else Verdict.STALE


def advance(
    task: Task, update: TaskUpdate, *, source: Source, confirmed: bool, now: datetime
) -> Change | None:
    """Move a task by an update, or None when there is nothing to write.

    A step forward makes an event. A repetition may still bring news (progress, the provider's own
    word, a model name) as long as the task has not ended. confirmed says whether the provider
    itself vouches for the update: it answered a query, or it signed the push.
    """
    verdict = judge(task, update.status)
    if verdict is Verdict.RECORDED:
        return _step(task, update, source=source, confirmed=confirmed, now=now)
    if verdict is Verdict.REPEATED and not task.status.final:
        news = changed(task, _details(task, update))
        if news == task:
            return None
        return Change(changed(news, {"updated_at": now}), task.status, None)
    return None


def _step(
    task: Task, update: TaskUpdate, *, source: Source, confirmed: bool, now: datetime
) -> Change:
    first = task.version == 0
    ended = update.status.final
    changes = _details(task, update) | {
        "status": update.status,
        "version": task.version + 1,
        "updated_at": now,
        "finished_at": now if ended else None,
        "source": source,
        "confirmed": confirmed,
        "hint": None if ended else task.hint,
        "hint_at": None if ended else task.hint_at,
        "trouble": None if ended else task.trouble,
    }
    moved = changed(task, changes)
    return Change(
        task=moved,
        previous=None if first else task.status,
        event_type=f"task.{update.status.value}",
        late=not first and task.status is Status.TIMED_OUT,
    )


def _details(task: Task, update: TaskUpdate) -> dict[str, Any]:
    """What the update tells besides the status; what it leaves out stays."""
    progress = update.progress if update.progress is not None else task.progress
    return {
        "provider_status": update.provider_status or task.provider_status,
        "kind": task.kind or update.kind,
        "model": task.model or update.model,
        "family": task.family or update.family,
        "progress": 1.0 if update.status is Status.SUCCEEDED else progress,
        "outputs": update.outputs or task.outputs,
        "error": update.error or task.error,
        "usage": update.usage if update.usage is not None else task.usage,
    }


@lru_cache(maxsize=1024)  # one moment is written many times: a transaction has one time
def rfc3339(moment: datetime) -> str:
    """A UTC time as subscribers see it.

    >>> rfc3339(datetime(2026, 11, 21, 2, 55, 3, 120000, tzinfo=UTC))
    '2026-11-21T02:55:03.120000Z'
    """
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def task_json(task: Task) -> dict[str, Any]:
    """The public picture of a task: what the API answers and events carry."""
    return {
        "id": task.id,
        "provider": task.provider,
        "provider_task_id": task.provider_task_id,
        "family": task.family,
        "kind": task.kind,
        "model": task.model,
        "status": task.status,
        "provider_status": task.provider_status,
        "progress": task.progress,
        "outputs": [_output_json(output) for output in task.outputs],
        "error": None
        if task.error is None
        else {"code": task.error.code, "message": task.error.message},
        "usage": task.usage,
        "metadata": task.metadata,
        "version": task.version,
        "created_at": rfc3339(task.created_at),
        "updated_at": rfc3339(task.updated_at),
        "finished_at": rfc3339(task.finished_at) if task.finished_at else None,
        "deadline_at": rfc3339(task.deadline_at),
        "source": task.source,
        "confirmed": task.confirmed,
        "rescued_by_poll": task.rescued_by_poll,
        "trouble": None
        if task.trouble is None
        else {"code": task.trouble.code, "message": task.trouble.message},
    }


def _output_json(output: Output) -> dict[str, Any]:
    return {
        "url": output.url,
        "kind": output.kind,
        "file_id": output.file_id,
        "expires_at": rfc3339(output.expires_at) if output.expires_at else None,
        "note": output.note,
    }


TASK_EVENTS = tuple(f"task.{status.value}" for status in Status)
OWN_EVENTS = ("subscription.disabled", "delivery.dead", "provider.down", "provider.recovered")
EVENT_TYPES = (*TASK_EVENTS, *OWN_EVENTS)
FAMILIES = tuple(dict.fromkeys(f"{name.partition('.')[0]}.*" for name in EVENT_TYPES))
"""What stands for all types with the same beginning: `task.*`, …"""


@dataclass(frozen=True, slots=True)
class Interest:
    """Which events a subscription wants. Absent means: no condition (types: `task.*`)."""

    types: tuple[str, ...] | None = None
    providers: tuple[str, ...] | None = None
    metadata: Mapping[str, Any] | None = None


def wants(
    interest: Interest, event_type: str, provider: str | None, metadata: Mapping[str, Any]
) -> bool:
    """Whether an event is for a subscription. Events about Taskbell itself must be named.

    >>> wants(Interest(), "task.failed", "minimax", {})
    True
    >>> wants(Interest(), "delivery.dead", None, {})
    False
    >>> wants(Interest(types=("provider.*",), providers=("atlascloud",)), "provider.down", "minimax", {})
    False
    >>> wants(Interest(metadata={"customer": "42"}), "task.failed", "minimax", {"customer": "7"})
    False
    """
    if not _type_wanted(interest.types, event_type):
        return False
    own = event_type in OWN_EVENTS
    if interest.providers is not None and provider not in interest.providers:
        return own and provider is None
    if own:
        return True
    return all(
        key in metadata and metadata[key] == value
        for key, value in (interest.metadata or {}).items()
    )


def _type_wanted(types: Sequence[str] | None, event_type: str) -> bool:
    if types is None:
        return event_type.startswith("task.")
    return event_type in types or f"{event_type.partition('.')[0]}.*" in types


def types_of(names: Collection[str]) -> frozenset[str]:
    """The exact event types that names stand for, `task.*` and the like among them.

    >>> sorted(types_of(["provider.*", "task.failed"]))
    ['provider.down', 'provider.recovered', 'task.failed']
    """
    exact = frozenset(names) - frozenset(FAMILIES)
    return exact | {name for name in EVENT_TYPES if f"{name.partition('.')[0]}.*" in names}
