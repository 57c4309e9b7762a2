"""Rows that somebody damaged by hand, among others that wait."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from sqlalchemy import Connection, text

from dispatch.signing import new_secret
from store import subscriptions
from store.database import open_database
from store.store import Store
from store.subscriptions import NewSubscription
from store.vault import Vault
from tests.bench.stock import record_endings
from tests.faults.arrivals import Arrivals
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.promises import asked, settled
from tests.faults.scene import subscribe_all
from tests.faults.servers import ALL, Tricks, servers

_WEAK: dict[str, Tricks] = {"rows are trusted": {"trust_rows": None}}
_ONE = "(SELECT min(id) FROM deliveries WHERE subscription_id = '{good}' AND {rows})"
_DAMAGES = (
    "UPDATE subscriptions SET types = '[\"cut sho' WHERE id = '{cut}'",
    "UPDATE counters SET value = value + 1 WHERE name = 'subscriptions'",
    f"UPDATE deliveries SET due_at = NULL WHERE id = {_ONE.replace('{rows}', 'true')}",
    "UPDATE deliveries SET status = 'wobbly' WHERE id = "
    + _ONE.replace("{rows}", "due_at IS NOT NULL"),
    "DELETE FROM events WHERE id = (SELECT max(event_id) FROM deliveries)",
)


@dataclass(frozen=True, slots=True)
class _Ids:
    """Of subscriptions: a good one, one whose secret nobody can open, one whose row is cut short."""

    good: str
    foreign: str
    cut: str


class Damaged:
    name = "damaged rows"
    about = "a missing event, no due time, an unknown status, a foreign key, JSON cut short"
    engines = ("sqlite", "postgresql")
    weaknesses = tuple(_WEAK)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        count = rig.size(300, 30)
        async with Arrivals().listening() as willing, Arrivals().listening() as unlucky:
            await subscribe_all(rig.database_url, (willing, unlucky))
            await asyncio.to_thread(_subscribe_locked, rig.database_url, unlucky.url)
            await asyncio.to_thread(record_endings, rig.database_url, count)
            with asked(rig.database_url) as connection:
                ids = _damage(connection, willing.url, unlucky.url)
            async with servers(rig, ALL, tricks=_WEAK.get(weakness, {})) as (server,):
                broken = []
                seconds = None
                try:
                    seconds = await settled(rig.database_url, 5 if weakness else 20)
                except TimeoutError as error:
                    broken.append(str(error))
                if not server.alive:
                    broken.append("the server ended")
        with asked(rig.database_url) as connection:
            broken += _not_parked(connection, ids, count)
        lost = count - 1 - len(willing.counts)
        if lost:
            broken.append(f"{lost} good deliveries did not come")
        return Outcome(count, count, lost, willing.doubled, seconds, tuple(broken))


def _subscribe_locked(url: str, hook: str) -> None:
    """With a secret that was locked with somebody else's key."""
    secret = Vault(["a key of somebody else's installation"]).lock(new_secret())
    with contextlib.closing(Store(open_database(url))) as store:
        wish = NewSubscription(url=f"{hook}/foreign", format="webhook", secret_locked=secret)
        store.write_now(subscriptions.create, wish)


def _damage(connection: Connection, good: str, cut: str) -> _Ids:
    found = connection.execute(text("SELECT url, id FROM subscriptions")).all()
    named = {row.url: row.id for row in found}
    ids = _Ids(named[good], named[f"{cut}/foreign"], named[cut])
    for damage in _DAMAGES:
        connection.execute(text(damage.format(good=ids.good, cut=ids.cut)))
    return ids


def _not_parked(connection: Connection, ids: _Ids, count: int) -> list[str]:
    """What should lie aside with its reason, and does not."""
    rows = connection.execute(
        text("SELECT subscription_id, last_error FROM deliveries WHERE status != 'delivered'")
    ).all()
    reasons = [(row.subscription_id, (row.last_error or "").partition(":")[0]) for row in rows]
    wanted = {
        (ids.good, "parked"): 1,
        (ids.cut, "parked"): count,
        (ids.foreign, "parked"): 1,
        (ids.foreign, _NO_KEY): count - 1,
    }
    return [
        f"{reasons.count(which)} of {number} rows are parked with a reason: {which[1]}"
        for which, number in wanted.items()
        if reasons.count(which) != number
    ]


_NO_KEY = "a stored secret was locked with a key that TASKBELL_SECRET_KEYS no longer names"

FAULT: Fault = Damaged()
