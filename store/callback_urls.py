"""Callback URLs that were made: what each is for, who made it, when it was last used.

These rows are for people. A push is let in by its token's signature and store/callback_tokens.py,
so a URL without a row works as well: URLs made before there were rows, and those of submissions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, or_, select

from store.bulk import Bulk
from store.ids import new_id
from store.tables import callback_urls
from store.writer import Operation, Tx

_KEPT_AFTER_END = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class NewCallbackUrl:
    """id: of its token. created_by: the id of an API key."""

    id: str
    provider: str
    metadata: Mapping[str, Any]
    single_task: bool
    created_by: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class CallbackUrl:
    """A row. place: sorts by the time it was made. last_used_at: to within some minutes."""

    id: str
    place: str
    provider: str
    metadata: Mapping[str, Any]
    single_task: bool
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


def _create(tx: Tx, items: Sequence[NewCallbackUrl]) -> list[str]:
    rows = [
        {
            "id": item.id,
            "place": new_id("url", tx.now),
            "provider": item.provider,
            "metadata": item.metadata,
            "single_task": item.single_task,
            "created_by": item.created_by,
            "created_at": tx.now,
            "expires_at": item.expires_at,
        }
        for item in items
    ]
    tx.connection.execute(callback_urls.insert(), rows)
    return [item.id for item in items]


create: Operation[NewCallbackUrl, str] = Operation("create_callback_url", _create)
"""Answers with its id."""


@dataclass(frozen=True, slots=True)
class Uses:
    """When tokens were used last, by their ids. Those without a row are passed over."""

    last_at: Mapping[str, datetime]


def _note_uses(tx: Tx, items: Sequence[Uses]) -> list[None]:
    last_at: dict[str, datetime] = {}
    for item in items:
        for token_id, at in item.last_at.items():
            last_at[token_id] = max(at, last_at.get(token_id, at))
    # in one order everywhere: two processes that wait for each other's rows would wait for ever
    tx.write(
        _NOTE, [{"token": token_id, "used_at": last_at[token_id]} for token_id in sorted(last_at)]
    )
    return [None] * len(items)


note_uses: Operation[Uses, None] = Operation("note_uses", _note_uses, order=3)

_USED_AT = bindparam("used_at", type_=callback_urls.c.last_used_at.type)
_NOTE = Bulk(
    callback_urls.update()
    .where(
        callback_urls.c.id == bindparam("token"),
        or_(callback_urls.c.last_used_at.is_(None), callback_urls.c.last_used_at < _USED_AT),
    )
    .values(last_used_at=_USED_AT)
)


def list_callback_urls(
    connection: Connection, *, now: datetime, limit: int, before: str | None = None
) -> list[CallbackUrl]:
    """Those that have not ended, newest first; `before` is the place of the last one seen."""
    ends = callback_urls.c.expires_at
    query = (
        select(callback_urls)
        .where(or_(ends.is_(None), ends > now))
        .order_by(callback_urls.c.place.desc())
        .limit(limit)
    )
    if before:
        query = query.where(callback_urls.c.place < before)
    return [CallbackUrl(**row._mapping) for row in connection.execute(query)]


def forget_ended_urls(tx: Tx, limit: int) -> int:
    """Delete rows of URLs that ended over a day ago; how many went."""
    ended = (
        select(callback_urls.c.id)
        .where(callback_urls.c.expires_at < tx.now - _KEPT_AFTER_END)
        .limit(limit)
    )
    gone = tx.connection.execute(
        callback_urls.delete()
        .where(callback_urls.c.id.in_(ended.scalar_subquery()))
        .returning(callback_urls.c.id)
    )
    return len(gone.all())
