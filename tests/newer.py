"""A database as a later version of Taskbell leaves it behind."""

from __future__ import annotations

from store.database import Database
from store.schema import HEAD
from store.tables import counters

NEWER = f"{int(HEAD) + 1:04}"


def newer_schema(database: Database, *, oldest: int | None) -> None:
    """Add two columns and a table, as the version after ours; oldest: the HEAD it says may still work."""
    with database.writer.begin() as connection:
        for statement in (
            f"UPDATE alembic_version SET version_num = '{NEWER}'",
            "ALTER TABLE tasks ADD COLUMN news INTEGER",
            "ALTER TABLE deliveries ADD COLUMN news INTEGER NOT NULL DEFAULT 0",
            "CREATE TABLE news (id INTEGER)",
        ):
            connection.exec_driver_sql(statement)
        if oldest is not None:
            values = {"name": f"oldest for schema {NEWER}", "value": oldest}
            connection.execute(counters.insert().values(values))
