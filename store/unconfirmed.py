"""Tasks that only an unsigned push has named: how many a callback token may keep, and dropping them.

Whoever knows a callback URL can name tasks that do not exist.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import func, select

from store.among import among
from store.events import Task, Verdict
from store.tables import receipts, tasks, word
from store.writer import Tx

UNCONFIRMED_MOST = 1_000
"""Of a token: tasks that nobody has confirmed, together with receipts of those that were refuted."""

REFUTED_KEPT = 100
"""Receipts of a token's refuted tasks that stay, the newest: they show what was tried."""


class UnconfirmedCounts:
    """How many each of these tokens keeps, counted once and kept up to date in a transaction."""

    def __init__(self, tx: Tx, token_ids: Collection[str]) -> None:
        self._counts: dict[str, int] = dict.fromkeys(token_ids, 0)
        if not token_ids:
            return
        asked = {"ids": list(token_ids)}
        for token_id, count in tx.connection.execute(_COUNT_REFUTED, asked):
            self._counts[token_id] = min(count, REFUTED_KEPT)
        for token_id, count in tx.connection.execute(_COUNT_TASKS, asked):
            self._counts[token_id] += count

    def take(self, token_id: str) -> bool:
        """Count one more task of this token; False when it has no room for one."""
        if self._counts[token_id] >= UNCONFIRMED_MOST:
            return False
        self._counts[token_id] += 1
        return True


_COUNT_TASKS = (
    select(tasks.c.token_id, func.count())
    .where(tasks.c.version == word(0), among(tasks.c.token_id, "ids"))
    .group_by(tasks.c.token_id)
)
_COUNT_REFUTED = (
    select(receipts.c.token_id, func.count())
    .where(receipts.c.verdict == word(Verdict.REFUTED), among(receipts.c.token_id, "ids"))
    .group_by(receipts.c.token_id)
)


def drop_unconfirmed(tx: Tx, dropped: Iterable[Task]) -> None:
    """Delete those of these tasks that nobody has confirmed; the newest of their receipts stay."""
    ids = [task.id for task in dropped]
    if not ids:
        return
    unconfirmed = tasks.delete().where(tasks.c.id.in_(ids), tasks.c.version == 0)
    gone = tx.connection.execute(unconfirmed.returning(tasks.c.id)).scalars().all()
    refuted = tx.connection.execute(
        receipts.update()
        .where(receipts.c.task_id.in_(gone))
        .values(verdict=Verdict.REFUTED, task_id=None)
        .returning(receipts.c.token_id)
    )
    for token_id in sorted(set(refuted.scalars())):
        _trim(tx, token_id)


def _trim(tx: Tx, token_id: str) -> None:
    too_many = (
        select(receipts.c.id)
        .where(receipts.c.verdict == word(Verdict.REFUTED), receipts.c.token_id == token_id)
        .order_by(receipts.c.id.desc())
        .offset(REFUTED_KEPT)
    )
    tx.connection.execute(receipts.delete().where(receipts.c.id.in_(too_many.scalar_subquery())))
