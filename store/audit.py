"""The audit: who changed what through the API, and when. Names and numbers, never a secret.

A change and its row are one transaction: neither is there without the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic

from sqlalchemy import Connection, or_, select

from store.bulk import Bulk
from store.errors import StoreError
from store.ids import new_id
from store.tables import audit
from store.text import clean
from store.writer import Answer, Item, Operation, Tx

LONG_KEPT = timedelta(days=365)
LONG_KEPT_ABOUT = ("api_key.", "subscription.")
"""What opens doors, and outlives any task, is asked about months later; there is little of it."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something: an API key, or a session of somebody who signed in with it.

    id: the session's, or the key's. name: as it is at this moment, and stays in the audit.
    """

    key_id: str
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Entry:
    """Who does what. detail: names of fields, and values that may be read by anyone."""

    by: Actor
    action: str
    object_id: str | None = None
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Audited(Generic[Item, Answer]):
    """An operation's item, and who has it done.

    changed: the id of what was changed, by the answer; None when nothing was.
    """

    item: Item
    by: Entry
    changed: Callable[[Answer], str | None]


def audited(operation: Operation[Item, Answer]) -> Operation[Audited[Item, Answer], Answer]:
    """The same, with a row in the audit for each item that it changed something for."""

    def run(tx: Tx, items: Sequence[Audited[Item, Answer]]) -> Sequence[Answer | StoreError]:
        answers = operation.run(tx, [each.item for each in items])
        rows = []
        for each, answer in zip(items, answers, strict=True):
            changed = None if isinstance(answer, StoreError) else each.changed(answer)
            if changed is not None:
                rows.append(_row(each.by, changed, tx.now))
        tx.write(_INSERT, rows)
        return answers

    return Operation(f"audited {operation.name}", run, operation.order)


def _note(tx: Tx, entries: Sequence[Entry]) -> list[None]:
    tx.write(_INSERT, [_row(entry, entry.object_id, tx.now) for entry in entries])
    return [None] * len(entries)


note: Operation[Entry, None] = Operation("note", _note)
"""A row about something that is no write of the store's."""

_INSERT = Bulk(
    audit.insert(),
    *("id", "at", "key_id", "action", "object_id", "detail", "actor_id", "actor_name"),
)


def _row(entry: Entry, object_id: str | None, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id("aud", now),
        "at": now,
        "key_id": entry.by.key_id,
        "action": entry.action,
        "object_id": object_id,
        "detail": entry.detail,
        "actor_id": entry.by.id,
        "actor_name": clean(entry.by.name, 200),
    }


@dataclass(frozen=True, slots=True)
class AuditView:
    """A row, as the API shows it. The actor is None in rows from before it was kept."""

    id: str
    at: datetime
    key_id: str
    actor_id: str | None
    actor_name: str | None
    action: str
    object_id: str | None
    detail: Mapping[str, Any] | None


def list_audit(
    connection: Connection,
    *,
    limit: int,
    before: str | None = None,
    action: str | None = None,
    object_id: str | None = None,
) -> list[AuditView]:
    """Newest first; `before` is the id of the last row already seen."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before:
        query = query.where(audit.c.id < before)
    if action:
        query = query.where(audit.c.action == action)
    if object_id:
        query = query.where(audit.c.object_id == object_id)
    return [AuditView(**row._mapping) for row in connection.execute(query)]


def forget_audit(tx: Tx, keep: timedelta, limit: int) -> int:
    """Delete up to so many rows that are older than `keep`, or LONG_KEPT; how many went."""
    long_kept = or_(*(audit.c.action.startswith(about) for about in LONG_KEPT_ABOUT))
    old = audit.c.id < _first_id(tx.now - keep)
    very_old = audit.c.id < _first_id(tx.now - max(keep, LONG_KEPT))
    some = (
        select(audit.c.id).where(old, or_(very_old, ~long_kept)).order_by(audit.c.id).limit(limit)
    )
    ids = list(tx.connection.execute(some).scalars())
    if ids:
        tx.connection.execute(audit.delete().where(audit.c.id.in_(ids)))
    return len(ids)


def _first_id(moment: datetime) -> str:
    """What no id of that moment or later sorts before: ids begin with their time (store/ids.py)."""
    stamp = int(moment.timestamp() * 1000)
    letters = "".join(_ALPHABET[stamp >> bits & 31] for bits in range(45, -1, -5))
    return f"aud_{letters}{'0' * 16}"


_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
