"""Statements for many rows: the same rows come out as SQLAlchemy's own way would write."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Connection, Integer, bindparam, event, select

from store.bulk import Bulk
from store.store import Store
from store.tables import receipts, tasks
from store.writer import Operation, Tx
from tests.making import registered, rows, told

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
COLUMNS = ("id", "provider", "token_id", "received_at", "verdict", "raw")


def receipt(number: int, **values: Any) -> dict[str, Any]:
    chosen = {
        "id": f"rcp_{number}",
        "provider": "minimax",
        "token_id": "tok",
        "received_at": NOON,
        "verdict": "recorded",
        "raw": b"\x00\xff%s ?",
    }
    return chosen | values


def run(store: Store, bulk: Bulk, values: Sequence[dict[str, Any]]) -> None:
    def write(tx: Tx, items: Sequence[None]) -> list[None]:
        bulk.run(tx.connection, values)
        return list(items)

    store.write_now(Operation("write", write), None)


def test_values_are_converted_by_the_columns_types(store: Store) -> None:
    far_east = NOON.astimezone(timezone(timedelta(hours=8)))

    run(store, Bulk(receipts.insert(), *COLUMNS), [receipt(1), receipt(2, received_at=far_east)])

    first, second = rows(store, receipts)
    assert first["raw"] == b"\x00\xff%s ?"
    assert (first["received_at"], second["received_at"]) == (NOON, NOON)
    assert first["task_id"] is None


def test_json_is_written_as_json_and_none_as_null(store: Store) -> None:
    task = told(store, registered())
    change = Bulk(
        tasks.update()
        .where(tasks.c.id == bindparam("task"))
        .values(usage=bindparam("usage"), error=bindparam("error"))
    )

    run(store, change, [{"task": task.id, "usage": {"作": [1, 2**80]}, "error": None}])

    row = rows(store, tasks)[0]
    assert (row["usage"], row["error"]) == ({"作": [1, 2**80]}, None)


def test_all_rows_go_with_one_statement(store: Store) -> None:
    statements: list[str] = []
    event.listen(
        store.database.writer,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_: statements.append(statement),
    )

    run(store, Bulk(receipts.insert(), *COLUMNS), [receipt(number) for number in range(500)])

    assert len([statement for statement in statements if "receipts" in statement]) == 1
    assert len(rows(store, receipts)) == 500


def test_no_rows_need_no_statement(store: Store) -> None:
    run(store, Bulk(receipts.insert(), *COLUMNS), [])

    assert rows(store, receipts) == []


def test_a_question_is_answered_for_each_row_in_their_order(store: Store) -> None:
    made = [receipt(number, token_id=f"tok_{number % 3}") for number in range(9)]
    run(store, Bulk(receipts.insert(), *COLUMNS), made)
    first_of = Bulk(
        select(receipts.c.id)
        .where(receipts.c.token_id == bindparam("token"), receipts.c.received_at <= bindparam("at"))
        .order_by(receipts.c.id)
        .limit(bindparam("most", type_=Integer))
    )
    wishes = [
        {"token": "tok_2", "at": NOON, "most": 2},
        {"token": "tok_0", "at": NOON, "most": 1},
        {"token": "tok_1", "at": NOON - timedelta(seconds=1), "most": 9},
    ]

    def ask(connection: Connection) -> list[list[str]]:
        return [[row.id for row in first_of.ask(connection, each)] for each in (wishes, [])]

    assert store.read_now(ask) == [["rcp_2", "rcp_5", "rcp_0"], []]


def test_a_row_without_a_value_is_a_bug(store: Store) -> None:
    with pytest.raises(KeyError):
        run(store, Bulk(receipts.insert(), *COLUMNS, "task_id"), [receipt(1)])
