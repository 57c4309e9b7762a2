"""When the clock is set back: what waits for a time then waits as long as it did before.

Else a retry in five seconds would be one in an hour and five seconds. A clock that is set forward
needs nothing: leases end early, and what waited is due early.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection

_WAITING = (
    ("deliveries", "due_at", "finished_at IS NULL"),
    ("tasks", "next_poll_at", "next_poll_at IS NOT NULL"),
    ("tasks", "hint_at", "hint_at IS NOT NULL"),
    ("subscriptions", "next_send_at", "next_send_at IS NOT NULL"),
    ("shifts", "until", "true"),
)


def set_back(connection: Connection, by: timedelta) -> None:
    """Move them on SQLite, which counts in milliseconds."""
    earlier = f"-{by.total_seconds()} seconds"
    for table, column, rows in _WAITING:
        moved = f"strftime('%Y-%m-%dT%H:%M:%f000Z', {column}, ?)"
        change = f"UPDATE {table} SET {column} = {moved} WHERE {rows}"  # noqa: S608 - names of our own
        connection.exec_driver_sql(change, (earlier,))
