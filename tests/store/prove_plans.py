"""What is waiting is found through the partial indexes, however much is finished."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection

from store.backlog import count_kept, read_backlogs
from store.claims import Claim, claim
from store.clock import ManualClock
from store.deliveries import Attempt, Finished, finish
from store.records import Challenge, Receipt, Unread, keep_challenge, keep_unread, record
from store.retention import Prune, cancel_leftovers, expire_waiting, prune
from store.stats import read_backlog
from store.store import Store
from store.subscriptions import Resume, delete, pause, resume
from store.tables import deliveries
from store.tasks import Later, Overdue, PollClaim, claim_due, expire, refute, reschedule
from store.timeline import read_timeline
from store.writer import Operation, Tx
from tests.making import LEASE, catch, push, registered, subscribe, tell, told
from tests.statements import watched

FINISHED = 12_000
WAITING = 500
BIG = ("tasks", "events", "deliveries", "attempts", "receipts")
LONG_AGO = "2025-12-25 12:00:00"

_NUMBERS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
    " INSERT INTO {table} ({columns}) SELECT {values} FROM n"
)


def fill(connection: Connection, table: str, values: dict[str, str]) -> None:
    """Insert many rows; values are SQL in which i is the row's number."""
    connection.exec_driver_sql(
        _NUMBERS.format(
            count=FINISHED,
            table=table,
            columns=", ".join(values),
            values=", ".join(values.values()),
        )
    )


def grown(store: Store) -> None:
    """A store with a past: every task ended, most of the deliveries done, nothing old enough to go."""
    subscription = subscribe(store).id
    long_ago = f"'{LONG_AGO}'" if store.database.postgresql else "'2025-12-25T12:00:00.000000Z'"
    if store.database.postgresql:
        long_ago = f"timestamptz {long_ago}"
    tasks = {
        "id": "'task_0' || i",
        "provider": "'minimax'",
        "provider_task_id": "'old' || i",
        "status": "'succeeded'",
        "outputs": "'[]'",
        "metadata": "'{}'",
        "version": "1",
        "source": "'push'",
        **dict.fromkeys(("created_at", "updated_at", "deadline_at"), long_ago),
        **dict.fromkeys(("polls", "poll_claims", "poll_failures", "poll_fence"), "0"),
        **dict.fromkeys(("confirmed", "expect_push", "rescued_by_poll"), "true"),
        "token_id": "'tok_' || i",
    }
    events = {
        "id": "'evt_0' || i",
        "type": "'task.succeeded'",
        "provider": "'minimax'",
        "task_id": "'task_0' || i",
        "subject": "'task_0' || i",
        "version": "1",
        "created_at": long_ago,
        "body": "'{}'::bytea" if store.database.postgresql else "x'7b7d'",
    }
    owed = {
        "id": "'dlv_0' || i",
        "event_id": "'evt_0' || i",
        "subscription_id": f"'{subscription}'",
        "task_id": "'task_0' || i",
        "status": f"CASE WHEN i <= {WAITING} THEN 'pending' ELSE 'delivered' END",
        "due_at": f"CASE WHEN i <= {WAITING} THEN {long_ago} END",
        "created_at": long_ago,
        **dict.fromkeys(("task_version", "fence", "attempts", "failures", "claims"), "1"),
    }
    attempts = {
        "id": "'att_0' || i",
        "delivery_id": "'dlv_0' || i",
        "started_at": long_ago,
        "number": "1",
        "duration_ms": "1",
        "result": "'delivered'",
    }
    receipts = {
        "id": "'rcp_0' || i",
        "provider": "'minimax'",
        "token_id": "'tok_' || i",
        "task_id": "'task_0' || i",
        "received_at": long_ago,
        "verdict": "'recorded'",
        "raw": events["body"],
    }

    def insert(tx: Tx, items: Sequence[None]) -> list[None]:
        for table, values in zip(BIG, (tasks, events, owed, attempts, receipts), strict=True):
            fill(tx.connection, table, values)
        return list(items)

    store.write_now(Operation("fill", insert), None)


@dataclass
class Statement:
    text: str
    parameters: Any


@contextmanager
def seen_by(store: Store) -> Iterator[list[Statement]]:
    """What the writer executes meanwhile."""
    seen: list[Statement] = []
    with watched(store.database.writer, lambda text, values: seen.append(Statement(text, values))):
        yield seen


def plan(store: Store, statement: Statement) -> list[str]:
    """How the database would go about it for the writer, a line a step."""
    explain = "EXPLAIN " if store.database.postgresql else "EXPLAIN QUERY PLAN "

    def ask(tx: Tx, statements: Sequence[Statement]) -> list[list[str]]:
        (one,) = statements
        rows = tx.connection.exec_driver_sql(explain + one.text, one.parameters)
        return [[str(row[-1]) for row in rows]]

    return store.write_now(Operation("explain", ask), statement)


_WHOLE = re.compile(
    # PostgreSQL
    rf"Seq Scan on ({'|'.join(BIG)})"
    # SQLite, where walking along a partial index is as good as a search
    r"|^SCAN (?!.*INDEX ix_(deliveries_(due|kept|lane|in_flight)|tasks_(due|unverified|deadline|ended)))"
    rf"({'|'.join(BIG)}|deliveries_1|d\b)"
)


def examine(store: Store, statements: Sequence[Statement]) -> str:
    """The plans of all of them, after making sure that none walks through a whole table."""
    lines: list[str] = []
    for statement in statements:
        if re.match(r"\s*(SELECT|UPDATE|DELETE|WITH)\b", statement.text):
            steps = plan(store, statement)
            whole = [step for step in steps if _WHOLE.search(step)]
            assert not whole, "\n".join([*whole, statement.text, *steps])
            lines += steps
    return "\n".join(lines)


def analyze(tx: Tx, items: Sequence[None]) -> list[None]:
    tx.connection.exec_driver_sql("ANALYZE")
    return list(items)


def _finish_all(tx: Tx, items: Sequence[None]) -> list[None]:
    tx.connection.execute(
        deliveries.update().values(status="delivered", due_at=None, finished_at=tx.now)
    )
    return list(items)


finish_all = Operation("finish_all", _finish_all)


def claim_deliveries(store: Store, clock: ManualClock) -> None:
    store.write_now(claim, Claim("sender", 50, LEASE))


def finish_deliveries(store: Store, clock: ManualClock) -> None:
    attempt = Attempt(clock(), timedelta(seconds=1), "retry", 500, "status 500")
    for delivery in catch(store, 5).deliveries:
        store.write_now(finish, Finished(delivery, attempt, delivered=False))


def cancel_what_is_left(store: Store, clock: ManualClock) -> None:
    store.write_now(delete, subscribe(store, types=()).id)
    store.write_now(cancel_leftovers, 100)


def resume_what_is_kept(store: Store, clock: ManualClock) -> None:
    paused = [subscribe(store, f"https://a.example/{number}").id for number in range(2)]
    for subscription_id in paused:
        store.write_now(pause, subscription_id)
    tell(store, push("kept"))
    claim_deliveries(store, clock)  # keeps what waits, and leaves it alone
    store.write_now(resume, Resume(paused[0]))
    store.write_now(resume, Resume(paused[1], skip=True))
    claim_deliveries(store, clock)
    store.write_now(expire_waiting, Prune(timedelta(days=30)))

    def count(tx: Tx, items: Sequence[None]) -> list[None]:
        read_backlogs(tx.connection, paused)
        count_kept(tx.connection, tx.now)
        return list(items)

    store.write_now(Operation("count kept", count), None)


def claim_tasks(store: Store, clock: ManualClock) -> None:
    limits = {"minimax": 10, "atlascloud": 10}
    claimed = store.write_now(claim_due, PollClaim("poller", limits, limits, LEASE))
    for task in claimed.tasks:
        store.write_now(reschedule, Later(task.id, task.poll_fence, timedelta(minutes=1)))


def expire_tasks(store: Store, clock: ManualClock) -> None:
    clock.advance(hours=3)
    store.write_now(expire, Overdue(100, timedelta(0), frozenset(), timedelta(minutes=1)))


def record_pushes(store: Store, clock: ManualClock) -> None:
    store.write_now(record, push("new"))
    store.write_now(record, push("old7"))
    store.write_now(keep_unread, Unread("minimax", Receipt("tok_7", b"<html>")))


def refute_pushes(store: Store, clock: ManualClock) -> None:
    for number in range(3):
        task = told(store, push(f"made_up{number}", hold=True, token_id="tok_7"))
        store.write_now(refute, task)


def count_what_is_open(store: Store, clock: ManualClock) -> None:
    def count(tx: Tx, items: Sequence[None]) -> list[None]:
        read_backlog(tx.connection)
        return list(items)

    store.write_now(Operation("count", count), None)


def look_at_a_task(store: Store, clock: ManualClock) -> None:
    for number in range(30):
        store.write_now(keep_challenge, Challenge("minimax", f"tok_{number}"))
    task = tell(store, push("looked at")).task
    assert task is not None
    store.write_now(Operation("look", partial(_look, task.id)), None)


def _look(task_id: str, tx: Tx, items: Sequence[None]) -> list[None]:
    assert read_timeline(tx.connection, task_id)
    return list(items)


def prune_tasks(store: Store, clock: ManualClock) -> None:
    store.write_now(prune, Prune(timedelta(days=30)))
    clock.advance(days=30)
    store.write_now(prune, Prune(timedelta(days=30), limit=10))


@pytest.mark.parametrize(
    ("work", "indexes"),
    [
        (claim_deliveries, {"ix_deliveries_due", "ix_deliveries_lane", "ix_deliveries_in_flight"}),
        (finish_deliveries, {"ix_deliveries_due"}),
        (cancel_what_is_left, {"ix_deliveries_due"}),
        (resume_what_is_kept, {"ix_deliveries_kept", "ix_deliveries_due"}),
        (claim_tasks, {"ix_tasks_due", "ix_tasks_unverified"}),
        (expire_tasks, {"ix_tasks_deadline"}),
        (refute_pushes, {"ix_tasks_unconfirmed", "ix_receipts_refuted", "ix_receipts_task_id"}),
        (record_pushes, {"uq_tasks_provider_provider_task_id", "ix_tasks_token"}),
        (
            count_what_is_open,
            {"ix_deliveries_due", "ix_deliveries_in_flight"},
        ),
        (look_at_a_task, {"ix_receipts_task_id", "ix_receipts_received_at"}),
        (
            prune_tasks,
            {
                *("ix_tasks_ended", "ix_events_task_id", "ix_receipts_task_id"),
                "ix_receipts_received_at",
            },
        ),
    ],
)
def test_no_hot_question_walks_through_a_table(
    store: Store,
    clock: ManualClock,
    work: Callable[[Store, ManualClock], None],
    indexes: set[str],
) -> None:
    grown(store)
    for number in range(30):
        subscribe(store, providers=("minimax",)) if number % 10 == 0 else None
        told(store, registered(f"due{number}", ask_in=timedelta(0)))
        tell(store, push(f"held{number}", hold=True))
        tell(store, push(f"done{number}"))

    if store.database.postgresql:  # it does so by itself; nobody does it for SQLite
        store.write_now(Operation("analyze", analyze), None)

    with seen_by(store) as statements:
        work(store, clock)
    plans = examine(store, statements)

    if not store.database.postgresql:  # SQLite names the indexes behind unique keys itself
        indexes = {name for name in indexes if not name.startswith("uq_")}
    assert {name for name in indexes if name not in plans} == set()


def test_statistics_from_before_anything_waited_mislead_nobody(
    store: Store, clock: ManualClock
) -> None:
    """PostgreSQL then takes every index of what is open for empty, and any of them for as good."""
    grown(store)
    if store.database.postgresql:
        store.write_now(finish_all, None)
        store.write_now(Operation("analyze", analyze), None)
    for number in range(200):
        tell(store, push(f"new{number}"))

    with seen_by(store) as statements:
        claim_deliveries(store, clock)

    steps = examine(store, statements).split("\n")
    by_lane = [place for place, step in enumerate(steps) if "ix_deliveries_lane" in step]
    assert by_lane
    assert all("task_id" in " ".join(steps[place : place + 2]) for place in by_lane)


def test_a_backlog_comes_faster_than_statistics_about_it(store: Store, clock: ManualClock) -> None:
    """Looking up what goes before a delivery must not become a walk through all that waits."""
    grown(store)

    with seen_by(store) as statements:
        claim_deliveries(store, clock)

    (picking,) = [s for s in statements if "deliveries_1" in s.text]
    lookups = [step for step in plan(store, picking) if "deliveries_1" in step and "ix_" in step]
    assert lookups
    assert all("ix_deliveries_lane" in step for step in lookups)
