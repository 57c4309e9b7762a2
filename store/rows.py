"""A task as a row of the tasks table, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from store.events import Failure, Kind, Output, Source, Status, Task, TaskUpdate
from store.outputs import whole_or_noted
from store.text import clean, clean_json

_OUTPUTS = 100
_MESSAGE = 4_096
_NOTE = 500


def task_from_row(row: Row[Any]) -> Task:
    v = row._mapping
    return Task(
        id=v["id"],
        provider=v["provider"],
        provider_task_id=v["provider_task_id"],
        created_at=v["created_at"],
        updated_at=v["updated_at"],
        deadline_at=v["deadline_at"],
        family=v["family"],
        kind=Kind(v["kind"]) if v["kind"] else None,
        model=v["model"],
        status=Status(v["status"]),
        provider_status=v["provider_status"],
        progress=v["progress"],
        outputs=tuple(_output(output) for output in v["outputs"]),
        error=Failure(**v["error"]) if v["error"] else None,
        usage=v["usage"],
        metadata=v["metadata"],
        version=v["version"],
        finished_at=v["finished_at"],
        source=Source(v["source"]),
        confirmed=v["confirmed"],
        expect_push=v["expect_push"],
        rescued_by_poll=v["rescued_by_poll"],
        next_poll_at=v["next_poll_at"],
        polls=v["polls"],
        poll_failures=v["poll_failures"],
        poll_refusals=v["poll_refusals"],
        poll_fence=v["poll_fence"],
        poll_claims=v["poll_claims"],
        token_id=v["token_id"],
        hint=update_from_json(v["hint"]) if v["hint"] else None,
        hint_at=v["hint_at"],
        trouble=_trouble(v),
    )


def _trouble(v: Mapping[Any, Any]) -> Failure | None:
    if not v["poll_error"] or v["finished_at"] is not None:
        return None
    return Failure(v["poll_error_code"] or "unknown", v["poll_error"])


TASK_STATE = (
    *("family", "kind", "model", "status", "provider_status", "progress", "outputs", "error"),
    *("usage", "metadata", "version", "updated_at", "finished_at", "deadline_at", "source"),
    *("confirmed", "expect_push", "rescued_by_poll", "next_poll_at", "hint", "hint_at", "polls"),
    *("poll_failures", "poll_refusals", "poll_fence", "token_id", "poll_claims"),
    *("poll_error", "poll_error_code"),
)
"""The columns that an update may change."""


def task_state(task: Task) -> dict[str, Any]:
    """Their values."""
    return {
        "family": task.family,
        "kind": task.kind,
        "model": task.model,
        "status": task.status,
        "provider_status": task.provider_status,
        "progress": task.progress,
        "outputs": [_output_json(output) for output in task.outputs],
        "error": {"code": task.error.code, "message": task.error.message} if task.error else None,
        "usage": task.usage,
        "metadata": task.metadata,
        "version": task.version,
        "updated_at": task.updated_at,
        "finished_at": task.finished_at,
        "deadline_at": task.deadline_at,
        "source": task.source,
        "confirmed": task.confirmed,
        "expect_push": task.expect_push,
        "rescued_by_poll": task.rescued_by_poll,
        "next_poll_at": task.next_poll_at,
        "hint": update_json(task.hint) if task.hint else None,
        "hint_at": task.hint_at,
        "polls": task.polls,
        "poll_failures": task.poll_failures,
        "poll_refusals": task.poll_refusals,
        "poll_fence": task.poll_fence,
        "poll_claims": task.poll_claims,
        "token_id": task.token_id,
        "poll_error": task.trouble.message if task.trouble else None,
        "poll_error_code": task.trouble.code if task.trouble else None,
    }


def new_task_row(task: Task) -> dict[str, Any]:
    """What a task that is not in the table yet is written with."""
    return {
        **task_state(task),
        "id": task.id,
        "provider": task.provider,
        "provider_task_id": task.provider_task_id,
        "created_at": task.created_at,
    }


def clean_update(update: TaskUpdate) -> TaskUpdate:
    """An update whose texts the database can hold and whose sizes are bounded."""
    error = update.error
    return TaskUpdate(
        status=update.status,
        provider_status=clean(update.provider_status, 64),
        provider_task_id=update.provider_task_id,
        kind=update.kind,
        model=clean(update.model, 200) if update.model else None,
        family=update.family,
        progress=update.progress,
        outputs=tuple(
            _clean_output(whole_or_noted(output)) for output in update.outputs[:_OUTPUTS]
        ),
        error=Failure(clean(error.code, 64), clean(error.message, _MESSAGE)) if error else None,
        usage=clean_json(update.usage),
    )


def _clean_output(output: Output) -> Output:
    return replace(
        output,
        file_id=clean(output.file_id, 128) if output.file_id else None,
        note=clean(output.note, _NOTE) if output.note else None,
    )


def clean_trouble(trouble: Failure | None) -> Failure | None:
    """Trouble whose texts the database can hold and whose sizes are bounded."""
    return Failure(clean(trouble.code, 64), clean(trouble.message, 500)) if trouble else None


def update_json(update: TaskUpdate) -> dict[str, Any]:
    return {
        "status": update.status,
        "provider_status": update.provider_status,
        "provider_task_id": update.provider_task_id,
        "kind": update.kind,
        "model": update.model,
        "family": update.family,
        "progress": update.progress,
        "outputs": [_output_json(output) for output in update.outputs],
        "error": {"code": update.error.code, "message": update.error.message}
        if update.error
        else None,
        "usage": update.usage,
    }


def update_from_json(value: Mapping[str, Any]) -> TaskUpdate:
    return TaskUpdate(
        status=Status(value["status"]),
        provider_status=value["provider_status"],
        provider_task_id=value["provider_task_id"],
        kind=Kind(value["kind"]) if value["kind"] else None,
        model=value["model"],
        family=value["family"],
        progress=value["progress"],
        outputs=tuple(_output(output) for output in value["outputs"]),
        error=Failure(**value["error"]) if value["error"] else None,
        usage=value["usage"],
    )


def _output_json(output: Output) -> dict[str, Any]:
    return {
        "url": output.url,
        "kind": output.kind,
        "file_id": output.file_id,
        "expires_at": output.expires_at.isoformat() if output.expires_at else None,
        "note": output.note,
    }


def _output(value: Mapping[str, Any]) -> Output:
    return Output(
        url=value["url"],
        kind=Kind(value["kind"]) if value["kind"] else None,
        file_id=value["file_id"],
        expires_at=datetime.fromisoformat(value["expires_at"]) if value["expires_at"] else None,
        note=value.get("note"),  # missing in what earlier versions wrote
    )
