"""What is no longer needed, removed a bounded step at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, or_, select, text

from store.audit import forget_audit
from store.backlog import EXPIRED, awaited, expire
from store.callback_tokens import forget_ended
from store.callback_urls import forget_ended_urls
from store.claims import waiting_subscriptions
from store.counting import EVENTS_DELETED, raise_counter_to
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


EXPIRED_SHOWN = timedelta(days=1)
"""How long a delivery that expired stays to be looked at, with its event and its task."""

_LOOKED_AT = 10


def _prune(tx: Tx, items: Sequence[Prune]) -> list[int]:
    return [_prune_one(tx, item) for item in items]


prune: Operation[Prune, int] = Operation("prune", _prune, order=3)
"""Answers how many rows went, of tasks, events, receipts, tokens, audit, states; 0: nothing is left to do.

An event that is kept for a paused subscription stays: its deliveries expire, and it goes a day later.
"""


def _expire_waiting(tx: Tx, items: Sequence[Prune]) -> list[int]:
    return [expire(tx, _passed(tx, item).awaited) for item in items]


expire_waiting: Operation[Prune, int] = Operation("expire_waiting", _expire_waiting, order=3)
"""Cancel what was kept for a paused subscription past retention; answers how many deliveries."""


@dataclass(frozen=True, slots=True)
class _Passed:
    """Tasks and events that may go now. awaited: events that may not, for they are kept for somebody."""

    task_ids: list[str]
    event_ids: list[str]
    awaited: set[str]


def _passed(tx: Tx, item: Prune) -> _Passed:
    before = tx.now - item.keep
    ended = (
        select(tasks.c.id.label("task_id"))
        .where(text(ENDED), tasks.c.updated_at < before)
        .order_by(tasks.c.updated_at)
        .limit(_LOOKED_AT * item.limit)
        .subquery()
    )
    held = _held(tx, events.c.task_id == ended.c.task_id)
    task_ids = _ids(tx, select(ended.c.task_id).where(~held).limit(item.limit))
    own = (
        select(events.c.id)
        .where(events.c.task_id.is_(None), events.c.created_at < before)
        .order_by(events.c.cursor)
        .limit(_LOOKED_AT * item.limit)
        .subquery()
    )
    held = _held(tx, events.c.id == own.c.id)
    event_ids = _ids(tx, select(own.c.id).where(~held).limit(item.limit))
    of_tasks = {}
    if task_ids:
        query = select(events.c.id, events.c.task_id).where(events.c.task_id.in_(task_ids))
        of_tasks = {row.id: row.task_id for row in tx.connection.execute(query)}
    kept = awaited(tx.connection, [*event_ids, *of_tasks])
    late = {of_tasks[each] for each in kept if each in of_tasks}
    return _Passed(
        task_ids=[each for each in task_ids if each not in late],
        event_ids=[each for each in event_ids if each not in kept]
        + [event for event, task in of_tasks.items() if task not in late],
        awaited=kept,
    )


def _prune_one(tx: Tx, item: Prune) -> int:
    passed = _passed(tx, item)
    task_ids, event_ids = passed.task_ids, passed.event_ids
    expired = expire(tx, passed.awaited)
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
    removed = len(task_ids) + len(event_ids) + len(receipt_ids)
    return removed + tokens + audited + states + over + expired


def _ids(tx: Tx, query: Select[Any]) -> list[str]:
    return list(tx.connection.execute(query).scalars())


def _held(tx: Tx, of: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a delivery of these events expired lately, and is to be seen for a while."""
    return exists(
        select(word(1))
        .select_from(events)
        .join(deliveries, deliveries.c.event_id == events.c.id)
        .where(
            of,
            deliveries.c.status == "canceled",
            deliveries.c.last_error == EXPIRED,
            deliveries.c.finished_at > tx.now - EXPIRED_SHOWN,
        )
        .correlate_except(events, deliveries)
    )


def _delete_events(tx: Tx, event_ids: list[str]) -> None:
    if not event_ids:
        return
    owed = select(deliveries.c.id).where(deliveries.c.event_id.in_(event_ids))
    tx.connection.execute(attempts.delete().where(attempts.c.delivery_id.in_(owed)))
    tx.connection.execute(deliveries.delete().where(deliveries.c.event_id.in_(event_ids)))
    gone = tx.connection.execute(
        events.delete().where(events.c.id.in_(event_ids)).returning(events.c.cursor)
    )
    cursors = gone.scalars().all()
    if cursors:
        raise_counter_to(tx, EVENTS_DELETED, max(cursors))


def _cancel_leftovers(tx: Tx, limits: Sequence[int]) -> list[int]:
    """Cancel, a few at a time, what is still owed to deleted and disabled subscriptions."""
    answers = []
    for limit in limits:
        gone = [
            (each.id, tx.subscriptions.get(each.id))
            for each in waiting_subscriptions(tx)
            if each.id not in tx.subscriptions
            or tx.subscriptions[each.id].disabled_reason is not None
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
