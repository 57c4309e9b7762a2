"""Counters that tell a process that its memory is out of date: raised with each change."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from store.tables import counters
from store.writer import Tx

ACCESS = "access"
"""The counter, and the topic: an API key was revoked, or a session has ended."""

EVENTS_DELETED = "events_deleted"
"""The counter: the highest cursor of an event that retention deleted."""


def read_counter(connection: Connection, name: str) -> int:
    """Return its value; 0 when it was never raised."""
    return connection.execute(_READ, {"name": name}).scalar() or 0


def raise_counter(tx: Tx, name: str) -> None:
    """Raise it by one, and wake whoever listens for the topic of that name."""
    raised = tx.connection.execute(
        counters.update().where(counters.c.name == name).values(value=counters.c.value + 1)
    )
    if not raised.rowcount:  # of two processes that insert it, one breaks the key and tries again
        tx.connection.execute(counters.insert().values(name=name, value=1))
    tx.wake(name)


def raise_counter_to(tx: Tx, name: str, value: int) -> None:
    """Raise it to a value, unless it is that high."""
    known = tx.connection.execute(_READ, {"name": name}).scalar()
    if known is None:
        tx.connection.execute(counters.insert().values(name=name, value=value))
    elif known < value:
        higher = counters.update().where(counters.c.name == name, counters.c.value < value)
        tx.connection.execute(higher.values(value=value))


_READ = select(counters.c.value).where(counters.c.name == bindparam("name"))
