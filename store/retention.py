"""What is no longer needed, removed a bounded step at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import and_, or_, select, text

from store.audit import forget_audit
from store.callback_tokens import forget_ended
from store.callback_urls import forget_ended_urls
from store.claims import waiting_subscriptions
from store.logins import forget_logins
from store.matching import Subscription
from store.provider_states import forget_states
from store.pulse import forget_hour
from store.tables import ENDED, attempts, deliveries, events, receipts, subscriptions, tasks, word
from store.text import clean
from store.writer import Operation, Tx


@dataclass(frozen=True, slots=True)
class Prune:
    """Delete what ended longer ago than `keep`: at most `limit` tasks, and as many other rows."""

    keep: timedelta
    limit: int = 200


ORPHANS_KEPT = timedelta(days=7)
"""Receipts of what became of no task: bodies that could not be read, pushes for another task."""


def _prune(tx: Tx, items: Sequence[Prune]) -> list[int]:
    return [_prune_one(tx, item) for item in items]


prune: Operation[Prune, int] = Operation("prune", _prune, order=3)
"""Answers how many rows went, of tasks, events, receipts, tokens, audit, states; 0: nothing is left to do."""


def _prune_one(tx: Tx, item: Prune) -> int:
    before = tx.now - item.keep
    ended = tx.connection.execute(
        select(tasks.c.id)
        .where(text(ENDED), tasks.c.updated_at < before)
        .order_by(tasks.c.updated_at)
        .limit(item.limit)
    )
    task_ids = list(ended.scalars())
    of_tasks = select(events.c.id).where(events.c.task_id.in_(task_ids)) if task_ids else None
    own = (
        select(events.c.id)
        .where(events.c.task_id.is_(None), events.c.created_at < before)
        .order_by(events.c.cursor)
        .limit(item.limit)
    )
    event_ids = list(tx.connection.execute(own).scalars())
    if of_tasks is not None:
        event_ids += tx.connection.execute(of_tasks).scalars()
    _delete_events(tx, event_ids)
    orphans = (
        select(receipts.c.id)
        .where(
            receipts.c.task_id.is_(None),
            receipts.c.received_at < tx.now - min(item.keep, ORPHANS_KEPT),
        )
        .order_by(receipts.c.received_at)
        .limit(item.limit)
    )
    receipt_ids = list(tx.connection.execute(orphans).scalars())
    tx.connection.execute(receipts.delete().where(receipts.c.id.in_(receipt_ids)))
    tx.connection.execute(receipts.delete().where(receipts.c.task_id.in_(task_ids)))
    tx.connection.execute(tasks.delete().where(tasks.c.id.in_(task_ids)))
    tokens = forget_ended(tx, item.limit) + forget_ended_urls(tx, item.limit)
    audited = forget_audit(tx, item.keep, item.limit)
    states = forget_states(tx, item.keep, item.limit)
    forget_hour(tx)
    over = forget_logins(tx, item.limit)
    return len(task_ids) + len(event_ids) + len(receipt_ids) + tokens + audited + states + over


def _delete_events(tx: Tx, event_ids: list[str]) -> None:
    if not event_ids:
        return
    owed = select(deliveries.c.id).where(deliveries.c.event_id.in_(event_ids))
    tx.connection.execute(attempts.delete().where(attempts.c.delivery_id.in_(owed)))
    tx.connection.execute(deliveries.delete().where(deliveries.c.event_id.in_(event_ids)))
    tx.connection.execute(events.delete().where(events.c.id.in_(event_ids)))


def _cancel_leftovers(tx: Tx, limits: Sequence[int]) -> list[int]:
    """Cancel, a few at a time, what is still owed to deleted and disabled subscriptions."""
    answers = []
    for limit in limits:
        gone = [
            (sid, tx.subscriptions.get(sid))
            for sid, _ in waiting_subscriptions(tx)
            if sid not in tx.subscriptions or tx.subscriptions[sid].disabled_reason is not None
        ]
        canceled = 0
        for sid, known in gone:
            canceled += _cancel(tx, sid, _reason(tx, sid, known), limit)
        answers.append(canceled)
    return answers


cancel_leftovers: Operation[int, int] = Operation("cancel_leftovers", _cancel_leftovers)


def _reason(tx: Tx, subscription_id: str, known: Subscription | None) -> str:
    if known:
        return f"subscription disabled: {known.disabled_reason}"
    there = subscriptions.c.deleted_at.is_(None)
    query = select(subscriptions.c.id).where(subscriptions.c.id == subscription_id, there)
    damaged = tx.connection.execute(query).first()
    return "parked: its subscription cannot be read" if damaged else "subscription deleted"


def _cancel(tx: Tx, subscription_id: str, reason: str, limit: int) -> int:
    some = (
        select(deliveries.c.id)
        .where(
            deliveries.c.subscription_id == subscription_id,
            deliveries.c.finished_at.is_(None),
            or_(
                deliveries.c.status == word("pending"),
                # a dead process held it, and nobody claims for this subscription any more
                and_(deliveries.c.status == word("in_flight"), deliveries.c.due_at <= tx.now),
            ),
        )
        .limit(limit)
    )
    rows = tx.connection.execute(
        deliveries.update()
        .where(deliveries.c.id.in_(some.scalar_subquery()))
        .values(status="canceled", due_at=None, finished_at=tx.now, last_error=clean(reason, 500))
        .returning(deliveries.c.id)
    )
    return len(rows.all())
