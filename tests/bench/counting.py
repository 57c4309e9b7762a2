"""`taskbell serve` that also counts its SQL: when each statement was run and each transaction begun.

python -m tests.bench.counting FILE: at the end writes {"statements": […], "transactions": […]},
moments in monotonic seconds. What does not go through SQLAlchemy (LISTEN) asks nothing while idle.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from deploy.cli import main
from store.database import Database


def count(file: Path) -> None:
    seen: dict[str, list[float]] = {"statements": [], "transactions": []}

    def note(kind: str) -> None:
        seen[kind].append(time.monotonic())

    def statement(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        if not text.startswith("BEGIN"):  # SQLite is told of it; PostgreSQL's driver does so itself
            note("statements")

    together = Database._together

    def several(self: Database, connection: Any, statements: Any) -> Any:
        for text, _ in statements:
            if text != "COMMIT":
                note("statements")
        return together(self, connection, statements)

    Database._together = several  # type: ignore[method-assign]
    event.listen(Engine, "before_cursor_execute", statement)
    event.listen(Engine, "begin", lambda *_: note("transactions"))
    sys.argv = ["taskbell", "serve"]
    try:
        main()
    finally:
        file.write_text(json.dumps(seen))


if __name__ == "__main__":
    count(Path(sys.argv[1]))
