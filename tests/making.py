"""Short ways to make what tests are about: reports, subscriptions, and a look at the rows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, select, text

from store import claims, subscriptions
from store.events import Interest, Source, Status, Task, TaskUpdate
from store.matching import Subscription
from store.records import Polled, Receipt, Recorded, Registration, Report, record
from store.store import Store
from store.subscriptions import NewSubscription
from store.writer import Answer, Item, Operation, Tx
from tests.patience import PATIENCE_SECONDS

TIMEOUT = timedelta(hours=2)
REGISTRATION = Registration(timeout=TIMEOUT)
ASK_IN = timedelta(minutes=1)
LEASE = timedelta(seconds=30)


def subscription_of(start: datetime, **values: Any) -> Subscription:
    """One as the store reads it: a webhook that wants everything; values say what is else."""
    plain = Subscription(
        id="sub_1",
        url="https://hook.example/…",
        format="webhook",
        interest=Interest(),
        description=None,
        header_names=(),
        headers_locked=None,
        secret_locked="locked",
        old_secret_locked=None,
        old_secret_until=None,
        max_in_flight=None,
        rate_per_second=None,
        active=True,
        disabled_reason=None,
        failing_since=None,
        created_at=start,
        updated_at=start,
        deleted_at=None,
    )
    return replace(plain, **values)


def update(status: Status, **details: Any) -> TaskUpdate:
    return TaskUpdate(status, details.pop("provider_status", status.value), **details)


def push(
    task: str = "t1",
    status: Status = Status.SUCCEEDED,
    *,
    provider: str = "minimax",
    trusted: bool = False,
    hold: bool = False,
    registration: Registration | None = REGISTRATION,
    raw: bytes = b"{}",
    token_id: str = "tok_1",
    receipt: Receipt | None = None,
    **details: Any,
) -> Report:
    """A push for a task, as the callback route reports it."""
    return Report(
        provider=provider,
        provider_task_id=task,
        update=update(status, **details),
        source=Source.PUSH,
        trusted=trusted,
        hold=hold,
        registration=registration,
        receipt=receipt or Receipt(token_id, raw),
        ask_in=ASK_IN,
    )


def poll(
    task: str = "t1",
    status: Status = Status.SUCCEEDED,
    *,
    provider: str = "minimax",
    fence: int | None = None,
    ask_in: timedelta | None = ASK_IN,
    unseen: timedelta | None = None,
    **details: Any,
) -> Report:
    """A provider's answer to a question. fence: of the claim behind it."""
    return Report(
        provider=provider,
        provider_task_id=task,
        update=update(status, **details),
        source=Source.POLL,
        polled=None if fence is None else Polled(fence),
        ask_in=ask_in,
        unseen=unseen,
    )


def registered(
    task: str = "t1",
    *,
    provider: str = "minimax",
    ask_in: timedelta | None = ASK_IN,
    timeout: timedelta = TIMEOUT,
    **registration: Any,
) -> Report:
    """`POST /v1/tasks` for a task."""
    return Report(
        provider=provider,
        provider_task_id=task,
        update=update(Status.QUEUED),
        source=Source.API,
        registration=Registration(timeout=timeout, **registration),
        ask_in=ask_in,
    )


def tell(store: Store, report: Report) -> Recorded:
    return store.write_now(record, report)


def told(store: Store, report: Report) -> Task:
    """Record it; the task as it is then."""
    task = tell(store, report).task
    assert task is not None
    return task


def subscribe(store: Store, url: str = "https://a.example/hook", **values: Any) -> Subscription:
    new = NewSubscription(url=url, format="webhook", secret_locked="locked", **values)
    return store.write_now(subscriptions.create, new)


def catch(
    store: Store, limit: int = 100, *, owner: str = "sender", lease: timedelta = LEASE
) -> claims.Catch:
    return store.write_now(claims.claim, claims.Claim(owner, limit, lease))


def rows(store: Store, table: Table, *conditions: ColumnElement[bool]) -> list[Mapping[str, Any]]:
    """What a table holds, in the order of its first column."""

    def ask(connection: Connection) -> list[Mapping[str, Any]]:
        query = select(table).where(*conditions).order_by(next(iter(table.c)))
        return [dict(row) for row in connection.execute(query).mappings()]

    return store.read_now(ask)


@contextmanager
def writer_busy(store: Store) -> Iterator[None]:
    """Keep the writer busy, so that whatever is submitted within shares the next transaction."""
    busy, go_on = threading.Event(), threading.Event()

    def wait(_: Tx, items: Sequence[None]) -> list[None]:
        busy.set()
        go_on.wait(PATIENCE_SECONDS)
        return list(items)

    waiting = store._writer.submit(Operation("wait", wait), None)
    busy.wait(PATIENCE_SECONDS)
    try:
        yield
    finally:
        go_on.set()
    waiting.result(PATIENCE_SECONDS)


async def together(
    store: Store, operation: Operation[Item, Answer], items: Sequence[Item]
) -> list[Answer | BaseException]:
    """Have items written in one transaction, in their order."""
    with writer_busy(store):
        writes = [store._writer.submit(operation, item) for item in items]
    return await asyncio.gather(*map(asyncio.wrap_future, writes), return_exceptions=True)


def ping(connection: Connection) -> bool:
    """The smallest question: whether the database answers."""
    return bool(connection.execute(text("SELECT 1")).scalar() == 1)
