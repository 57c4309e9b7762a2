"""What is asked of a database, seen on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from store.database import Database

Note = Callable[[str, Any], None]
"""Gets a statement's SQL and parameters; of many rows, the first one's."""


@contextmanager
def watched(engine: Engine, note: Note) -> Iterator[None]:
    """Whatever is executed meanwhile, also what goes to PostgreSQL together."""
    together = Database._together

    def one(_c: Any, _cursor: Any, sql: str, parameters: Any, _x: Any, many: bool) -> None:
        note(sql, parameters[0] if many else parameters)

    def several(self: Database, connection: Any, statements: Any) -> Any:
        if connection.engine is engine:
            for sql, parameters in statements:
                note(sql, parameters)
        return together(self, connection, statements)

    event.listen(engine, "before_cursor_execute", one)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "_together", several)
        yield
    event.remove(engine, "before_cursor_execute", one)
