"""Statements that are run for many rows at once, each made ready once for a kind of database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Dialect,
    Insert,
    LargeBinary,
    TableValuedAlias,
    Update,
    bindparam,
    column,
    func,
    select,
)
from sqlalchemy.sql.visitors import replacement_traverse
from sqlalchemy.types import TypeEngine

from store.text import json_bytes

_Convert = Callable[[Any], Any] | None


class Bulk:
    """An INSERT or UPDATE to run for many rows.

    SQLAlchemy writes the SQL and knows how values are converted; to look both up for every row
    anew, as executing the statement does, costs more than SQLite takes to write the row.
    """

    def __init__(self, statement: Insert | Update, *columns: str) -> None:
        """Columns: the keys that each row has, for an INSERT; an UPDATE names them itself.

        What is the same for all rows is written into the statement (store.tables.word).
        """
        self._statement = statement
        self._columns = columns
        self._ready: dict[str, _Ready] = {}

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Do it for each row, in their order; nothing for none."""
        if not rows:
            return
        dialect = connection.dialect
        ready = self._ready.get(dialect.name)
        if ready is None:
            ready = self._ready[dialect.name] = self._make_ready(dialect)
        ready.run(connection, rows)

    def _make_ready(self, dialect: Dialect) -> _Ready:
        kind = _Document if dialect.name == "postgresql" else _RowByRow
        return kind(self._statement, self._columns, dialect)


class _Ready(ABC):
    @abstractmethod
    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None: ...


class _RowByRow(_Ready):
    """The statement prepared once, and run with the parameters of one row after the other."""

    def __init__(
        self, statement: Insert | Update, columns: Sequence[str], dialect: Dialect
    ) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=columns or None)
        self._sql = str(compiled)
        names = compiled.positiontup or ()
        self._converts = [(name, _conversion(compiled.binds[name].type, dialect)) for name in names]

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        values = [
            tuple([to(row[name]) if to else row[name] for name, to in self._converts])
            for row in rows
        ]
        connection.exec_driver_sql(self._sql, values)


class _Document(_Ready):
    """All rows as one JSON document, which PostgreSQL takes apart.

    One parameter instead of hundreds: half the time of a row at the server, a quarter here.
    """

    def __init__(
        self, statement: Insert | Update, columns: Sequence[str], dialect: Dialect
    ) -> None:
        binds = statement.compile(dialect=dialect, column_keys=columns or None).binds
        kinds = {str(name): bind.type for name, bind in binds.items()}
        rows = (
            func.json_to_recordset(bindparam("document"))
            .table_valued(*(column(name, kind) for name, kind in kinds.items()))
            .render_derived(name="rows", with_types=True)
        )
        if isinstance(statement, Insert):
            whole: Any = statement.from_select(
                list(columns), select(*(rows.c[name] for name in columns))
            )
        else:
            whole = replacement_traverse(statement, {}, partial(_column_for, rows))
        self._sql = str(whole.compile(dialect=dialect))
        self._converts = [
            (name, _hex if isinstance(kind, LargeBinary) else _conversion(kind, dialect))
            for name, kind in kinds.items()
        ]

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        document = [
            {name: to(row[name]) if to else row[name] for name, to in self._converts}
            for row in rows
        ]
        parameters = {"document": json_bytes(document).decode()}
        connection.exec_driver_sql(self._sql, parameters)


def _column_for(rows: TableValuedAlias, element: Any, **_: Any) -> Any:
    """The column that takes a parameter's place."""
    return rows.c[element.key] if isinstance(element, BindParameter) else None


def _conversion(kind: TypeEngine[Any], dialect: Dialect) -> _Convert:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _hex(value: bytes) -> str:
    return "\\x" + value.hex()
