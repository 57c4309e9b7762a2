"""API keys: shown once, kept as a digest, compared in constant time.

A key is `tb_<id>_<secret>`; the secret holds 256 random bits, so that a fast hash is the right one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, select

from store.counting import ACCESS, raise_counter
from store.database import FIRST_KEY_LOCK
from store.errors import NotFoundError, StoreError
from store.ids import new_id
from store.tables import api_keys, sessions
from store.text import clean
from store.writer import Operation, Tx


class Scope(StrEnum):
    """What a key may do; each scope includes the ones before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def allows(self, needed: Scope) -> bool:
        """Whether a key of this scope may do what needs another.

        >>> Scope.WRITE.allows(Scope.READ), Scope.WRITE.allows(Scope.ADMIN)
        (True, False)
        """
        ladder = list(Scope)
        return ladder.index(self) >= ladder.index(needed)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret."""

    id: str
    name: str
    scope: Scope
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewKey:
    name: str
    scope: Scope
    text: str  # the whole key, made by `new_key_text`


def new_key_text() -> str:
    """A fresh key. What stands before the second underscore may be shown, the rest never again."""
    return f"tb_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def same(one: str, other: str) -> bool:
    """Compare two digests without telling how far they agree."""
    return hmac.compare_digest(one.encode(), other.encode())


def _create(tx: Tx, items: Sequence[NewKey]) -> list[ApiKey]:
    rows = [
        {
            "id": new_id("key", tx.now),
            "name": clean(item.name, 200),
            "scope": item.scope,
            "digest": digest(item.text),
            "created_at": tx.now,
        }
        for item in items
    ]
    tx.connection.execute(api_keys.insert(), rows)
    return [
        ApiKey(str(row["id"]), str(row["name"]), Scope(str(row["scope"])), tx.now) for row in rows
    ]


create: Operation[NewKey, ApiKey] = Operation("create_key", _create)


def _create_first(tx: Tx, items: Sequence[NewKey]) -> list[ApiKey | None]:
    tx.lock(FIRST_KEY_LOCK)
    if tx.connection.execute(select(api_keys.c.id).where(_VALID).limit(1)).first():
        return [None] * len(items)
    nobody: list[ApiKey | None] = [None] * (len(items) - 1)
    return [*_create(tx, items[:1]), *nobody]


create_first: Operation[NewKey, ApiKey | None] = Operation("create_first_key", _create_first)
"""Make a key if there is none, whoever else tries to at this moment; None: there is one."""

_VALID = api_keys.c.revoked_at.is_(None)


def _revoke(tx: Tx, ids: Sequence[str]) -> list[StoreError | None]:
    rows = tx.connection.execute(
        api_keys.update()
        .where(api_keys.c.id.in_(ids), api_keys.c.revoked_at.is_(None))
        .values(revoked_at=tx.now)
        .returning(api_keys.c.id)
    )
    revoked = set(rows.scalars())
    if revoked:
        tx.connection.execute(sessions.delete().where(sessions.c.key_id.in_(revoked)))
        raise_counter(tx, ACCESS)
    return [None if key in revoked else NotFoundError(f"no API key {key}") for key in ids]


revoke: Operation[str, None] = Operation("revoke_key", _revoke)
"""Revoke a key by its id, and end the sessions of whoever signed in with it."""


def find_key(connection: Connection, key_digest: str) -> ApiKey | None:
    """The key of that digest, unless it was revoked."""
    row = connection.execute(
        select(api_keys).where(api_keys.c.digest == key_digest, api_keys.c.revoked_at.is_(None))
    ).first()
    if row is None or not same(row.digest, key_digest):
        return None
    return ApiKey(row.id, row.name, Scope(row.scope), row.created_at)


def get_key(connection: Connection, key_id: str) -> ApiKey | None:
    """The key of that id, unless it was revoked."""
    row = connection.execute(select(api_keys).where(api_keys.c.id == key_id, _VALID)).first()
    return ApiKey(row.id, row.name, Scope(row.scope), row.created_at) if row else None


def known_digests(connection: Connection) -> frozenset[str]:
    """Of every key that was not revoked."""
    query = select(api_keys.c.digest).where(api_keys.c.revoked_at.is_(None))
    return frozenset(connection.execute(query).scalars())


def list_keys(connection: Connection, *, limit: int, before: str | None = None) -> list[ApiKey]:
    """Newest first, without the revoked ones."""
    query = (
        select(api_keys)
        .where(api_keys.c.revoked_at.is_(None))
        .order_by(api_keys.c.id.desc())
        .limit(limit)
    )
    if before:
        query = query.where(api_keys.c.id < before)
    return [
        ApiKey(row.id, row.name, Scope(row.scope), row.created_at)
        for row in connection.execute(query)
    ]
