"""The newest event that a subscription wants: what a preview of its messages is made from."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from store.matching import Subscription, interested
from store.tables import events

LOOK = 500
"""Events that are looked at, the newest ones."""


@dataclass(frozen=True, slots=True)
class Recent:
    """An event as it was recorded: body is the exact JSON."""

    id: str
    type: str
    provider: str | None
    subject: str
    created_at: datetime
    body: bytes


def newest_wanted(connection: Connection, subscription: Subscription) -> Recent | None:
    """None when it wants none of the newest ones. One that is paused is asked as if it were not."""
    awake = {subscription.id: replace(subscription, active=True)}
    columns = (events.c[name] for name in Recent.__dataclass_fields__)
    query = select(*columns).order_by(events.c.cursor.desc()).limit(LOOK)
    recent = (_recent(row) for row in connection.execute(query))
    return next((event for event in recent if _wanted(awake, event)), None)


def _recent(row: Row[Any]) -> Recent:
    values: Any = row
    return Recent(*values)


def _wanted(awake: dict[str, Subscription], event: Recent) -> bool:
    metadata = json.loads(event.body)["data"].get("task", {}).get("metadata", {})
    return bool(interested(awake, event.type, event.provider, metadata, event.body))
