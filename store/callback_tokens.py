"""Callback tokens beyond what they carry: which were revoked, which task a token for one is for.

Most tokens have no row. An id starts with the time at which its token ends, so that rows can go
when they say nothing any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter

from sqlalchemy import Connection, func, select

from store.among import among
from store.bulk import Bulk
from store.counting import raise_counter, read_counter
from store.errors import ConflictError, StoreError
from store.tables import callback_tokens, callback_urls
from store.writer import Operation, Tx

TOKENS = "tokens"
"""The topic: a token was revoked."""

MOST_REVOKED = 100_000
"""Each process that takes callbacks has them in memory."""

FOREIGN = "foreign"
"""What a receipt says of a push whose token is for another task."""

_PREFIX = "cb_"
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, as in store/ids.py
_NOISE_BITS = 80
_NEVER = (1 << 50) - 1
_OVER_FOR = timedelta(days=1)  # hosts' clocks differ
_COUNTER = "callback_tokens"


class ForeignPushError(StoreError):
    """The push's token is for another task: it is kept as a receipt, and nothing else."""


def make_token_id(ends_at: datetime | None, noise: int) -> str:
    """cb_, ten characters for the time, in milliseconds, and sixteen for 80 random bits.

    >>> make_token_id(None, 31)
    'cb_zzzzzzzzzz000000000000000z'
    """
    ends = _NEVER if ends_at is None else int(ends_at.timestamp() * 1000)
    value = ends << _NOISE_BITS | noise
    return _PREFIX + "".join(_ALPHABET[value >> bits & 31] for bits in range(125, -1, -5))


@dataclass(frozen=True, slots=True)
class Revoked:
    """The revoked tokens' ids. version: raised with each revocation."""

    version: int
    ids: frozenset[str]


NONE_REVOKED = Revoked(0, frozenset())


def read_revoked(connection: Connection, known: Revoked) -> Revoked:
    """What is revoked now; one row is read when nothing has changed since `known`."""
    version = read_counter(connection, _COUNTER)
    if version == known.version:
        return known
    return Revoked(version, frozenset(connection.execute(_READ_REVOKED).scalars()))


_READ_REVOKED = select(callback_tokens.c.id).where(callback_tokens.c.revoked_at.is_not(None))
_COUNT_REVOKED = select(func.count()).where(callback_tokens.c.revoked_at.is_not(None))


def _revoke(tx: Tx, ids: Sequence[str]) -> list[bool | StoreError]:
    known = {
        row.id: row.revoked_at
        for row in tx.connection.execute(
            select(callback_tokens).where(callback_tokens.c.id.in_(set(ids)))
        )
    }
    new = sorted(token_id for token_id in set(ids) if known.get(token_id) is None)
    if not new:
        return [False] * len(ids)
    if tx.connection.execute(_COUNT_REVOKED).scalar_one() + len(new) > MOST_REVOKED:
        full = ConflictError(
            f"{MOST_REVOKED} callback URLs are revoked already; a new secret key in place of the"
            " old ones ends all of them"
        )
        return [full if token_id in new else False for token_id in ids]
    _mark_revoked(tx, [token_id for token_id in new if token_id in known])
    _insert_revoked(tx, [token_id for token_id in new if token_id not in known])
    tx.connection.execute(callback_urls.delete().where(callback_urls.c.id.in_(new)))
    raise_counter(tx, _COUNTER)
    tx.wake(TOKENS)
    return [token_id in new for token_id in ids]


revoke: Operation[str, bool] = Operation("revoke_token", _revoke)
"""Revoke a token by its id, whether anything is known of it or not; False when it was already.

Its URL leaves the list.
"""


def _mark_revoked(tx: Tx, ids: Sequence[str]) -> None:
    if ids:
        chosen = callback_tokens.c.id.in_(ids)
        tx.connection.execute(callback_tokens.update().where(chosen).values(revoked_at=tx.now))


def _insert_revoked(tx: Tx, ids: Sequence[str]) -> None:
    # an id that another process inserts at this moment breaks the key: the writer tries again
    if ids:
        about = {"provider": "", "seen_at": tx.now, "revoked_at": tx.now}
        tx.connection.execute(
            callback_tokens.insert(), [{"id": token_id, **about} for token_id in ids]
        )


@dataclass(frozen=True, slots=True)
class Use:
    """A push for a task, with a token that is for one task only."""

    token_id: str
    provider: str
    provider_task_id: str


def bind(tx: Tx, uses: Sequence[Use]) -> dict[str, str | None]:
    """Bind each token to the task of its first use, unless it is bound; token ids to their tasks.

    None for a token that was revoked before it was used: it is for no task.
    """
    if not uses:
        return {}
    found = tx.connection.execute(_FIND, {"ids": {use.token_id for use in uses}})
    tasks_of = {row.id: row.provider_task_id for row in found}
    rows = []
    for use in uses:
        if use.token_id not in tasks_of:
            tasks_of[use.token_id] = use.provider_task_id
            rows.append(
                {
                    "id": use.token_id,
                    "provider": use.provider,
                    "provider_task_id": use.provider_task_id,
                    "seen_at": tx.now,
                }
            )
    # of two processes that bind one token at this moment, one breaks the key and tries again
    tx.write(_INSERT, sorted(rows, key=itemgetter("id")))
    return tasks_of


_FIND = select(callback_tokens.c.id, callback_tokens.c.provider_task_id).where(
    among(callback_tokens.c.id, "ids")
)
_INSERT = Bulk(callback_tokens.insert(), "id", "provider", "provider_task_id", "seen_at")


def forget_ended(tx: Tx, limit: int) -> int:
    """Delete what is known of tokens that ended over a day ago; how many rows went."""
    ended = (
        select(callback_tokens.c.id)
        .where(
            callback_tokens.c.id >= _PREFIX,
            callback_tokens.c.id < make_token_id(tx.now - _OVER_FOR, 0),
        )
        .order_by(callback_tokens.c.id)
        .limit(limit)
    )
    gone = tx.connection.execute(
        callback_tokens.delete()
        .where(callback_tokens.c.id.in_(ended.scalar_subquery()))
        .returning(callback_tokens.c.id)
    )
    return len(gone.all())
