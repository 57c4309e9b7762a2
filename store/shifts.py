"""Shifts: one process at a time asks a provider, so that its rate holds however many there are.

A shift ends by itself when it is not taken anew; a term is a row of shifts of the same owner.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import case, select

from store.tables import shifts
from store.writer import Operation, Tx

FIRST_TERM = 1
"""Nobody has asked this provider before."""


def take(tx: Tx, owner: str, providers: Collection[str], length: timedelta) -> dict[str, int]:
    """Take or prolong the shifts that nobody else has; the term of each one got.

    A new term says that somebody else may have asked since the owner's last shift.
    """
    if not providers:
        return {}
    free = select(shifts.c.provider).where(
        shifts.c.provider.in_(providers),
        (shifts.c.owner == owner) | (shifts.c.until <= tx.now),
    )
    got = tx.connection.execute(
        shifts.update()
        # skipped, not waited for: whoever has it locked is taking it
        .where(shifts.c.provider.in_(tx.database.locked(free, skip=True)))
        .values(
            owner=owner,
            until=tx.now + length,
            term=case((shifts.c.owner == owner, shifts.c.term), else_=shifts.c.term + 1),
        )
        .returning(shifts.c.provider, shifts.c.term)
    )
    terms = {row.provider: row.term for row in got}
    return terms | _first(tx, owner, [name for name in providers if name not in terms], length)


def _first(tx: Tx, owner: str, providers: Sequence[str], length: timedelta) -> dict[str, int]:
    """The shifts of providers that nobody has asked yet."""
    if not providers:
        return {}
    known = select(shifts.c.provider).where(shifts.c.provider.in_(providers))
    taken = set(tx.connection.execute(known).scalars())
    new = [name for name in providers if name not in taken]
    if new:
        until = tx.now + length
        tx.connection.execute(
            shifts.insert(),
            [
                {"provider": name, "owner": owner, "until": until, "term": FIRST_TERM}
                for name in new
            ],
        )
    return dict.fromkeys(new, FIRST_TERM)


def _leave(tx: Tx, owners: Sequence[str]) -> list[None]:
    tx.connection.execute(
        shifts.update()
        .where(shifts.c.owner.in_(owners), shifts.c.until > tx.now)
        .values(until=tx.now)
    )
    return [None] * len(owners)


leave: Operation[str, None] = Operation("leave", _leave)
"""End the shifts of an owner, who starts no more questions."""
