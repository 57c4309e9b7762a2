"""Events and the deliveries they are owed, as rows, written so that cursors follow the commits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from store.bulk import Bulk
from store.database import EVENTS_LOCK
from store.events import Change, Task, rfc3339, task_json
from store.handover import hand_over
from store.ids import new_id
from store.notices import EVENTS
from store.tables import deliveries, events
from store.text import json_bytes
from store.writer import Tx

DELIVERIES = "deliveries"
"""The topic: something waits to be delivered."""


def insert_events(
    tx: Tx, event_rows: list[dict[str, Any]], delivery_rows: list[dict[str, Any]]
) -> None:
    """Write events so that their cursors follow the commits, and the deliveries they are owed."""
    if event_rows:
        tx.lock(EVENTS_LOCK)
        tx.write(_INSERT_EVENTS, event_rows)
        tx.events += [row["type"] for row in event_rows]
        tx.wake(EVENTS)
    if delivery_rows:
        due = _due(tx, delivery_rows)
        if due and not hand_over(tx, event_rows, due):
            tx.wake(DELIVERIES)
        tx.write(_INSERT_DELIVERIES, delivery_rows)


def _due(tx: Tx, delivery_rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those that are not for a paused subscription, whose rows lose their due time."""
    paused = {known.id for known in tx.subscriptions.values() if known.paused}
    for row in delivery_rows:
        if row["subscription_id"] in paused:
            row["due_at"] = None
    return [row for row in delivery_rows if row["due_at"] is not None]


_INSERT_EVENTS = Bulk(
    events.insert(),
    *("id", "type", "provider", "task_id", "subject", "version", "created_at", "body"),
)
_INSERT_DELIVERIES = Bulk(
    deliveries.insert(),
    *("id", "event_id", "subscription_id", "task_id", "task_version", "status", "due_at"),
    *("owner", "fence", "attempts", "failures", "claims", "created_at"),
)


def task_event_row(change: Change, task: Task, now: datetime) -> dict[str, Any]:
    """An event about a task, its body exactly as every subscriber will get it.

    task: as it is written, which may say more than the change (the way it was found).
    """
    data = {
        "task": task_json(task),
        "previous_status": change.previous,
        "source": task.source,
        "late": change.late,
    }
    return event_row(
        str(change.event_type),
        data,
        now,
        subject=task.id,
        provider=task.provider,
        task_id=task.id,
        version=task.version,
    )


def event_row(
    event_type: str,
    data: Mapping[str, Any],
    now: datetime,
    *,
    subject: str,
    provider: str | None = None,
    task_id: str | None = None,
    version: int = 0,
) -> dict[str, Any]:
    event_id = new_id("evt", now)
    body = {"id": event_id, "type": event_type, "timestamp": rfc3339(now), "data": data}
    return {
        "id": event_id,
        "type": event_type,
        "provider": provider,
        "task_id": task_id,
        "subject": subject,
        "version": version,
        "created_at": now,
        "body": json_bytes(body),
    }


def delivery_row(event: Mapping[str, Any], subscription_id: str, now: datetime) -> dict[str, Any]:
    """A delivery that is due at once."""
    return {
        "id": new_id("dlv", now),
        "event_id": event["id"],
        "subscription_id": subscription_id,
        "task_id": event["task_id"],
        "task_version": event["version"],
        "status": "pending",
        "due_at": now,
        "owner": None,
        "fence": 0,
        "attempts": 0,
        "failures": 0,
        "claims": 0,
        "created_at": now,
    }
