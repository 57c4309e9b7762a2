"""Sessions of people who signed in: a row each, so that signing out ends it everywhere.

The browser's cookie holds a random secret; a row holds only its digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Row, select

from store.counting import ACCESS, raise_counter
from store.errors import NotFoundError, StoreError
from store.ids import new_id
from store.tables import sessions
from store.text import clean
from store.writer import Operation, Tx


@dataclass(frozen=True, slots=True)
class NewLogin:
    """digest: of the cookie's secret. ticket: of the key that signed in (receiver.auth)."""

    digest: str
    key_id: str
    ticket: str
    name: str
    lasts: timedelta


@dataclass(frozen=True, slots=True)
class Login:
    """A session. name: of the key when it signed in. last_seen_at: to within some minutes."""

    id: str
    key_id: str
    ticket: str
    name: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


def _begin(tx: Tx, items: Sequence[NewLogin]) -> list[Login]:
    rows = [
        {
            "id": new_id("ses", tx.now),
            "digest": item.digest,
            "key_id": item.key_id,
            "ticket": item.ticket,
            "name": clean(item.name, 200),
            "created_at": tx.now,
            "last_seen_at": tx.now,
            "expires_at": tx.now + item.lasts,
        }
        for item in items
    ]
    tx.connection.execute(sessions.insert(), rows)
    found = tx.connection.execute(
        select(sessions).where(sessions.c.id.in_([r["id"] for r in rows]))
    )
    made = {row.id: _login(row) for row in found}
    return [made[str(row["id"])] for row in rows]


begin: Operation[NewLogin, Login] = Operation("begin_session", _begin)


@dataclass(frozen=True, slots=True)
class End:
    """Which session ends. key_id: only if it is this key's; None: whoever's it is."""

    id: str
    key_id: str | None = None


def _end(tx: Tx, items: Sequence[End]) -> list[StoreError | None]:
    answers: list[StoreError | None] = []
    for item in items:
        chosen = [sessions.c.id == item.id]
        if item.key_id is not None:
            chosen.append(sessions.c.key_id == item.key_id)
        gone = tx.connection.execute(sessions.delete().where(*chosen))
        answers.append(None if gone.rowcount else NotFoundError(f"no session {item.id}"))
    if None in answers:
        raise_counter(tx, ACCESS)
    return answers


end: Operation[End, None] = Operation("end_session", _end)


def _see(tx: Tx, ids: Sequence[str]) -> list[None]:
    seen = sessions.update().where(sessions.c.id.in_(ids))
    tx.connection.execute(seen.values(last_seen_at=tx.now))
    return [None] * len(ids)


see: Operation[str, None] = Operation("see_session", _see, order=3)
"""Note that a session is in use."""


def find_login(connection: Connection, digest: str, now: datetime) -> Login | None:
    """The session of that digest, unless it is over."""
    row = connection.execute(
        select(sessions).where(sessions.c.digest == digest, sessions.c.expires_at > now)
    ).first()
    return _login(row) if row else None


def list_logins(
    connection: Connection,
    *,
    now: datetime,
    limit: int,
    before: str | None = None,
    key_id: str | None = None,
) -> list[Login]:
    """Those that are not over, newest first. key_id: only of this key."""
    conditions: list[ColumnElement[bool]] = [sessions.c.expires_at > now]
    if before:
        conditions.append(sessions.c.id < before)
    if key_id:
        conditions.append(sessions.c.key_id == key_id)
    query = select(sessions).where(*conditions).order_by(sessions.c.id.desc()).limit(limit)
    return [_login(row) for row in connection.execute(query)]


def forget_logins(tx: Tx, limit: int) -> int:
    """Delete sessions that are over; how many went."""
    over = select(sessions.c.id).where(sessions.c.expires_at <= tx.now).limit(limit)
    gone = tx.connection.execute(
        sessions.delete().where(sessions.c.id.in_(over.scalar_subquery())).returning(sessions.c.id)
    )
    return len(gone.all())


def _login(row: Row[tuple[object, ...]]) -> Login:
    values = row._mapping
    return Login(**{name: values[name] for name in Login.__slots__})
