"""`column IN (many values)` as one parameter, so that the statement is the same for any number.

SQLAlchemy's own IN writes a parameter for each value: another statement each time, for PostgreSQL
to plan anew.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ARRAY, Column, Dialect, String, Text, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from store.text import json_bytes


class Among(FunctionElement[bool]):
    """Whether a text column's value is among those of a parameter.

    It has no type: SQLAlchemy would compare a Boolean with 1 on SQLite, and no index serves that.
    """

    inherit_cache = True


def among(column: Column[Any], name: str) -> Among:
    """The condition; `name` is the parameter's, a collection of texts."""
    return Among(column, bindparam(name, type_=_Texts()))


class _Texts(TypeDecorator[Collection[str]]):
    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(ARRAY(String) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Collection[str] | None, dialect: Dialect) -> Any:
        values = sorted(value or ())
        return values if dialect.name == "postgresql" else json_bytes(values).decode()


@compiles(Among, "sqlite")
def _sqlite(element: Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(part, **options) for part in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - names of our own


@compiles(Among, "postgresql")
def _postgresql(element: Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(part, **options) for part in element.clauses)
    return f"{column} = ANY({values})"
