"""Statements for many rows: the same rows come out as SQLAlchemy's own way would write."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import bindparam, event

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


def test_a_row_without_a_value_is_a_bug(store: Store) -> None:
    with pytest.raises(KeyError):
        run(store, Bulk(receipts.insert(), *COLUMNS, "task_id"), [receipt(1)])
