"""Databases with something in them: deliveries that wait, and rows about what is long done."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, Table, bindparam, func, select, text

from receiver.provider import providers
from store.clock import system_clock
from store.database import open_database
from store.deliveries import Attempt, Finished, finish
from store.records import Report, record
from store.store import Store
from store.tables import attempts, deliveries, events, receipts, subscriptions, tasks
from tests import making
from tests.bench.taskbell import opened

_TOGETHER = 1_000
_FIRST = 2 * 10**15  # below the numbers the sender makes up


def record_endings(database: str, number: int) -> None:
    """Record that many tasks' ends as pushes do, with the store's own `record`."""
    with opened(database) as store:
        asyncio.run(_record(store, number))


async def _record(store: Store, number: int) -> None:
    start = await store.read(_recorded) + _FIRST
    for done in range(0, number, _TOGETHER):
        together = range(start + done, start + min(done + _TOGETHER, number))
        await asyncio.gather(*(store.write(record, _ending(task)) for task in together))


def _recorded(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(tasks)).scalar_one())


def _ending(task: int) -> Report:
    ok = {"status_code": 0, "status_msg": "success"}
    body = {"task_id": str(task), "status": "Success", "file_id": "1", "base_resp": ok}
    return replace(making.push(str(task)), update=providers()["minimax"].parse(body))


def share_out(database: str) -> None:
    """Spread the waiting deliveries evenly over all subscriptions."""
    change = deliveries.update().where(deliveries.c.id == bindparam("delivery"))
    change = change.values(subscription_id=bindparam("subscription"))
    with opened(database) as store, store.database.writer.begin() as connection:
        everyone = connection.scalars(select(subscriptions.c.id)).all()
        waiting = connection.scalars(select(deliveries.c.id).order_by(deliveries.c.id)).all()
        connection.execute(
            change,
            [
                {"delivery": delivery, "subscription": everyone[place % len(everyone)]}
                for place, delivery in enumerate(waiting)
            ],
        )


def put_off(database: str, by: timedelta) -> None:
    """Make every waiting delivery due then; zero: now. Servers may run meanwhile (PostgreSQL)."""
    opening = open_database(database)
    with opening.writer.begin() as connection:
        due: datetime = system_clock() + by
        connection.execute(
            deliveries.update().where(deliveries.c.status == "pending").values(due_at=due)
        )
    opening.dispose()


def add_finished(database: str, number: int) -> None:
    """Fill every table with rows about tasks that ended and were delivered at the first attempt.

    They are copies of one that went this way, but for their ids.
    """
    with opened(database) as store:
        _finish_one(store)
        with store.database.writer.begin() as connection:
            if store.database.postgresql:
                connection.execute(text("SET LOCAL statement_timeout = 0"))
            for table, ids in _NUMBERED.items():
                _multiply(connection, table, ids, number)
        if store.database.postgresql:
            settle(store.database.writer)


_NUMBERED: dict[Table, dict[str, str]] = {
    tasks: {"id": "task_", "provider_task_id": ""},
    events: {"id": "evt_", "task_id": "task_", "subject": "task_"},
    deliveries: {"id": "dlv_", "event_id": "evt_", "task_id": "task_"},
    attempts: {"id": "att_", "delivery_id": "dlv_"},
    receipts: {"id": "rcp_", "task_id": "task_", "provider_task_id": ""},
}


def settle(postgresql: Engine) -> None:
    """Do now what PostgreSQL would do by and by, and a server that has run for weeks has behind it."""
    with postgresql.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("CHECKPOINT"))


def _finish_one(store: Store) -> None:
    asyncio.run(_record(store, 1))
    [delivery] = making.catch(store).deliveries
    attempt = Attempt(system_clock(), timedelta(milliseconds=3), "delivered", 204)
    store.write_now(finish, Finished(delivery, attempt, delivered=True))


def _multiply(connection: Connection, table: Table, ids: dict[str, str], number: int) -> None:
    """Insert copies of the table's only row, numbered so that they sort before whatever follows."""
    columns = [column.name for column in table.columns if column.name != "cursor"]
    values = [_numbered(ids[name]) if name in ids else f'"{name}"' for name in columns]
    named = ", ".join(f'"{name}"' for name in columns)
    connection.execute(
        text(
            f'INSERT INTO "{table.name}" ({named})'
            " WITH RECURSIVE series(n) AS"
            f" (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {number})"
            f' SELECT {", ".join(values)} FROM "{table.name}" CROSS JOIN series'
        )
    )


def _numbered(prefix: str) -> str:
    return f"'{prefix}0000000000000000' || CAST(1000000000 + n AS VARCHAR(20))"
