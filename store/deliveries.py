"""What is owed to subscribers: how an attempt went, the schedule, the dead, and doing it again."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select

from store.backlog import keep
from store.bulk import Bulk
from store.errors import ConflictError, NotFoundError, StoreError
from store.ids import new_id
from store.matching import interested
from store.outbox import DELIVERIES, delivery_row, event_row, insert_events
from store.outlet import Delivery
from store.pulse import Beat, count_attempts
from store.subscriptions import disable
from store.tables import attempts, deliveries, events, subscriptions, word
from store.text import clean
from store.writer import Operation, Tx

FAILING_FOR = timedelta(days=5)
"""Nothing but failures for this long disables a subscription."""

REFUSALS = 3
"""Attempts at a delivery that must end with a doubtful refusal before it counts as one."""

_ANSWER_KEPT = 2_048


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one try went, for the record."""

    started_at: datetime
    duration: timedelta
    result: str
    status_code: int | None = None
    error: str | None = None
    answer: bytes = b""


@dataclass(frozen=True, slots=True)
class Finished:
    """A try is over. retry_in: the wait before the next one; None with `delivered` False buries it.

    refused: the receiver wants nothing more, so its subscription is disabled with this reason.
    pause: how long it asked to be left alone; one with a rate gets nothing else meanwhile. doubt:
    how this error begins when it may be a refusal: REFUSALS attempts in a row with it are one.
    """

    delivery: Delivery
    attempt: Attempt
    delivered: bool
    retry_in: timedelta | None = None
    refused: str | None = None
    pause: timedelta | None = None
    doubt: str | None = None


def _finish(tx: Tx, items: Sequence[Finished]) -> list[None]:
    held = _still_held(tx, items)
    paused = {known.id for known in tx.subscriptions.values() if known.paused}
    tx.write(_FINISH, [_finish_values(item, paused, tx.now) for item in items])
    tx.write(_INSERT_ATTEMPTS, [_attempt_row(item) for item in items])
    buried = [item for item in items if not item.delivered and item.retry_in is None]
    announce_dead(tx, [i.delivery.id for i in buried if i.delivery.id in held and not i.refused])
    _watch_health(tx, items)
    _pause(tx, items)
    # last: two processes that deliver to one subscription wait for each other from here on
    count_attempts(tx, [_beat(item) for item in items])
    behind = tx.outlet.behind if tx.outlet else None
    if behind is None or any(item.delivery.subscription.id in behind for item in items):
        # a place in flight is free, and the next of the same task may go
        tx.wake(DELIVERIES, here_only=True)
    return [None] * len(items)


finish: Operation[Finished, None] = Operation("finish", _finish, order=2)

_FINISH = Bulk(
    deliveries.update()
    .where(deliveries.c.id == bindparam("delivery"), deliveries.c.fence == bindparam("held_fence"))
    .where(deliveries.c.status == word("in_flight"))
    .values(
        status=bindparam("status_now"),
        due_at=bindparam("due"),
        failures=deliveries.c.failures + bindparam("failed"),
        claims=word(0),
        last_error=bindparam("trouble"),
        finished_at=bindparam("over"),
    )
)
_INSERT_ATTEMPTS = Bulk(
    attempts.insert(),
    *("id", "delivery_id", "number", "started_at", "duration_ms", "result", "status_code"),
    *("error", "answer"),
)


def _still_held(tx: Tx, items: Sequence[Finished]) -> set[str]:
    """Which burials are ours to announce: the others' leases ran out meanwhile."""
    fences = {i.delivery.id: i.delivery.fence for i in items if not i.delivered}
    if not fences:
        return set()
    rows = tx.connection.execute(
        select(deliveries.c.id, deliveries.c.fence).where(
            deliveries.c.id.in_(fences), deliveries.c.status == "in_flight"
        )
    )
    return {row.id for row in rows if fences[row.id] == row.fence}


def _finish_values(item: Finished, paused: Collection[str], now: datetime) -> dict[str, Any]:
    """The new values; what did not arrive at a paused subscription is kept with the rest.

    A refusal as well: paused, it is disabled by nobody.
    """
    kept = item.delivery.subscription.id in paused
    again = not item.delivered and (
        item.retry_in is not None or (kept and item.refused is not None)
    )
    status = "delivered" if item.delivered else "pending" if again else "dead"
    due = now + item.retry_in if again and item.retry_in is not None and not kept else None
    return {
        "delivery": item.delivery.id,
        "held_fence": item.delivery.fence,
        "status_now": status,
        "due": due,
        "failed": 0 if item.delivered else 1,
        "trouble": None if item.delivered else clean(item.attempt.error or "", 500),
        "over": None if again else now,
    }


def _attempt_row(item: Finished) -> dict[str, Any]:
    attempt = item.attempt
    answer = attempt.answer[:_ANSWER_KEPT].decode("utf-8", "replace")
    return {
        "id": new_id("att", attempt.started_at),
        "delivery_id": item.delivery.id,
        "number": item.delivery.attempt,
        "started_at": attempt.started_at,
        "duration_ms": int(attempt.duration.total_seconds() * 1000),
        "result": attempt.result,
        "status_code": attempt.status_code,
        "error": clean(attempt.error, 500) if attempt.error else None,
        "answer": clean(answer) if answer else None,
    }


def _beat(item: Finished) -> Beat:
    attempt = item.attempt
    return Beat(item.delivery.subscription.id, attempt.started_at, attempt.duration, item.delivered)


def _watch_health(tx: Tx, items: Sequence[Finished]) -> None:
    """Remember since when a subscription has only failed, and disable it when that is too long."""
    for item in items:
        known = tx.subscriptions.get(item.delivery.subscription.id)
        if known is None or not known.active:
            continue
        if item.refused:
            disable(tx, known, item.refused)
        elif item.doubt and _again_and_again(tx, item):
            disable(tx, known, f"{item.attempt.error} to {REFUSALS} attempts in a row")
        elif item.delivered and known.failing_since is not None:
            _set_failing_since(tx, known.id, None)
        elif not item.delivered and known.failing_since is None:
            _set_failing_since(tx, known.id, tx.now)
        elif (
            not item.delivered
            and known.failing_since is not None
            and tx.now - known.failing_since >= FAILING_FOR
        ):
            days = FAILING_FOR.days
            disable(tx, known, f"nothing but failures for {days} days: {item.attempt.error}")


def _again_and_again(tx: Tx, item: Finished) -> bool:
    """Return whether the newest attempts at a delivery, this one too, all ended with its doubt."""
    newest = (
        select(attempts.c.error)
        .where(attempts.c.delivery_id == item.delivery.id)
        .order_by(attempts.c.number.desc())
        .limit(REFUSALS)
    )
    errors = list(tx.connection.execute(newest).scalars())
    doubt = item.doubt or ""
    return len(errors) == REFUSALS and all(_begins(error, doubt) for error in errors)


def _begins(error: str | None, doubt: str) -> bool:
    """Return whether an error begins with a doubt, and not with one of another code."""
    return (error or "").startswith((f"{doubt}:", f"{doubt} "))


def _pause(tx: Tx, items: Sequence[Finished]) -> None:
    """Let the next turn of who asked for a pause come up when it is over."""
    for item in items:
        if item.pause is None or item.delivery.subscription.rate_per_second is None:
            continue
        until, turn = tx.now + item.pause, subscriptions.c.next_send_at
        tx.connection.execute(
            subscriptions.update()
            .where(subscriptions.c.id == item.delivery.subscription.id)
            .where(turn.is_(None) | (turn < until))
            .values(next_send_at=until)
        )


def _set_failing_since(tx: Tx, subscription_id: str, since: datetime | None) -> None:
    tx.connection.execute(
        subscriptions.update()
        .where(subscriptions.c.id == subscription_id)
        .values(failing_since=since)
    )
    tx.subscriptions_changed()


def announce_dead(tx: Tx, ids: Iterable[str]) -> None:
    """One delivery.dead event for each buried delivery, unless it was such an event itself."""
    wanted = list(ids)
    if not wanted:
        return
    rows = tx.connection.execute(
        select(deliveries, events.c.type, events.c.provider)
        .join(events, events.c.id == deliveries.c.event_id)
        .where(deliveries.c.id.in_(wanted), events.c.type.not_in(("delivery.dead",)))
    )
    event_rows: list[dict[str, Any]] = []
    delivery_rows: list[dict[str, Any]] = []
    for row in rows:
        data = {
            "delivery": {
                "id": row.id,
                "event_id": row.event_id,
                "event_type": row.type,
                "subscription_id": row.subscription_id,
                "attempts": row.attempts,
                "last_error": row.last_error,
            }
        }
        event = event_row("delivery.dead", data, tx.now, subject=row.id)
        event_rows.append(event)
        delivery_rows.extend(
            delivery_row(event, subscription.id, tx.now)
            for subscription in interested(
                tx.subscriptions, "delivery.dead", None, {}, event["body"]
            )
        )
    insert_events(tx, event_rows, delivery_rows)


def _retry(tx: Tx, ids: Sequence[str]) -> list[StoreError | None]:
    columns = (deliveries.c.id, deliveries.c.status, deliveries.c.subscription_id)
    rows = tx.connection.execute(select(*columns).where(deliveries.c.id.in_(ids))).all()
    found = {row.id: row.status for row in rows}
    answers: list[StoreError | None] = []
    again = []
    for delivery_id in ids:
        status = found.get(delivery_id)
        if status is None:
            answers.append(NotFoundError(f"no delivery {delivery_id}"))
        elif status in ("in_flight", "delivered"):
            answers.append(ConflictError(f"delivery {delivery_id} is {status}; replay its event"))
        else:
            again.append(delivery_id)
            answers.append(None)
    if again:
        tx.connection.execute(
            deliveries.update()
            .where(deliveries.c.id.in_(again), deliveries.c.status != "in_flight")
            .values(status="pending", due_at=tx.now, failures=0, claims=0, finished_at=None)
        )
        known = (tx.subscriptions.get(row.subscription_id) for row in rows if row.id in again)
        for subscription_id in {each.id for each in known if each and each.paused}:
            keep(tx, subscription_id)
        tx.wake(DELIVERIES)
    return answers


retry: Operation[str, None] = Operation("retry", _retry)
"""Put a delivery that is dead, canceled or waiting back on the schedule's start, due now.

For a paused subscription it is kept with what waits.
"""


@dataclass(frozen=True, slots=True)
class Replay:
    """Deliver an event again: to one subscription, or to every active one that wants it."""

    event_id: str
    subscription_id: str | None = None


def _replay(tx: Tx, items: Sequence[Replay]) -> list[list[str] | StoreError]:
    return [_replay_one(tx, item) for item in items]


replay: Operation[Replay, list[str]] = Operation("replay", _replay)


def _replay_one(tx: Tx, item: Replay) -> list[str] | StoreError:
    event = tx.connection.execute(select(events).where(events.c.id == item.event_id)).first()
    if event is None:
        return NotFoundError(f"no event {item.event_id}")
    if item.subscription_id is None:
        metadata = json.loads(event.body)["data"].get("task", {}).get("metadata", {})
        wanting = interested(tx.subscriptions, event.type, event.provider, metadata, event.body)
        chosen = [subscription for subscription in wanting if subscription.active]
    elif item.subscription_id in tx.subscriptions:
        chosen = [tx.subscriptions[item.subscription_id]]
    else:
        return NotFoundError(f"no subscription {item.subscription_id}")
    rows = [delivery_row(dict(event._mapping), subscription.id, tx.now) for subscription in chosen]
    insert_events(tx, [], rows)
    return [row["id"] for row in rows]


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery as the API shows it."""

    id: str
    event_id: str
    event_type: str
    subscription_id: str
    task_id: str | None
    status: str
    attempts: int
    last_error: str | None
    due_at: datetime | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One try, as the API shows it."""

    number: int
    started_at: datetime
    duration_ms: int
    result: str
    status_code: int | None
    error: str | None
    answer: str | None


_VIEW = (
    deliveries.c.id,
    deliveries.c.event_id,
    events.c.type.label("event_type"),
    deliveries.c.subscription_id,
    deliveries.c.task_id,
    deliveries.c.status,
    deliveries.c.attempts,
    deliveries.c.last_error,
    deliveries.c.due_at,
    deliveries.c.created_at,
    deliveries.c.finished_at,
)


def list_deliveries(
    connection: Connection,
    *,
    limit: int,
    before: str | None = None,
    status: str | None = None,
    subscription_id: str | None = None,
    event_id: str | None = None,
) -> list[DeliveryView]:
    """Newest first; `before` is the id of the last delivery already seen."""
    query = _views().order_by(deliveries.c.id.desc()).limit(limit)
    if before:
        query = query.where(deliveries.c.id < before)
    if status:
        query = query.where(deliveries.c.status == status)
    if subscription_id:
        query = query.where(deliveries.c.subscription_id == subscription_id)
    if event_id:
        query = query.where(deliveries.c.event_id == event_id)
    return [DeliveryView(**row._mapping) for row in connection.execute(query)]


def get_delivery(
    connection: Connection, delivery_id: str
) -> tuple[DeliveryView, list[AttemptView]] | None:
    row = connection.execute(_views().where(deliveries.c.id == delivery_id)).first()
    if row is None:
        return None
    tries = connection.execute(
        select(
            attempts.c.number,
            attempts.c.started_at,
            attempts.c.duration_ms,
            attempts.c.result,
            attempts.c.status_code,
            attempts.c.error,
            attempts.c.answer,
        )
        .where(attempts.c.delivery_id == delivery_id)
        .order_by(attempts.c.number)
        .limit(1000)
    )
    return DeliveryView(**row._mapping), [AttemptView(**a._mapping) for a in tries]


def _views() -> Select[Any]:
    return select(*_VIEW).join(events, events.c.id == deliveries.c.event_id)
