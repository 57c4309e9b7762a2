"""The worker while clocks are set and the database is away."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from dispatch.client import Client
from dispatch.sending import Sender
from dispatch.signing import new_secret
from dispatch.sink import Answer, Request
from dispatch.worker import Worker
from store.clock import ManualClock
from store.database import open_database
from store.deliveries import finish
from store.errors import StoreUnavailableError
from store.store import Store
from store.subscriptions import NewSubscription, create
from store.tables import attempts, deliveries
from store.vault import Vault
from store.writer import Operation
from tests.conftest import START
from tests.making import push, rows, tell

VAULT = Vault(["k" * 32])
SCHEDULE = (timedelta(seconds=5),)


class Line:
    """Subscribers that answer with this status."""

    def __init__(self) -> None:
        self.status, self.taken = 204, 0

    async def post(self, _request: Request) -> Answer:
        self.taken += 1
        return Answer(self.status, {}, b"", 0.1)


class Sometimes(Store):
    """A store that is away whenever the next so many attempts are to be written down."""

    away = 0

    async def write(self, operation: Operation[Any, Any], item: Any) -> Any:
        if operation is finish and self.away:
            self.away -= 1
            raise StoreUnavailableError("away")
        return await super().write(operation, item)


def worker_of(store: Store, line: Line, clock: ManualClock) -> Worker:
    return Worker(
        store,
        Sender(cast(Client, line), VAULT, clock),
        schedule=SCHEDULE,
        attempt_timeout=timedelta(seconds=5),
        clock=clock,
        owner="test",
        jitter=lambda: 0.5,
    )


async def look(worker: Worker) -> float:
    seconds = await worker.rounds.once()
    await worker.rounds.drain(10)
    return seconds


async def test_what_was_taken_is_written_down_when_the_store_is_back(
    sqlite_url: str, clock: ManualClock
) -> None:
    line = Line()
    store = Sometimes(open_database(sqlite_url), clock)
    store.write_now(
        create, NewSubscription("https://a.example/hook", "webhook", VAULT.lock(new_secret()))
    )
    tell(store, push())
    store.away = 2

    await look(worker_of(store, line, clock))

    (row,) = rows(store, deliveries)
    assert (row["status"], line.taken) == ("delivered", 1)
    assert len(rows(store, attempts)) == 1
    store.close()


async def test_a_retry_does_not_wait_for_a_host_whose_clock_was_set_back(
    store: Store, clock: ManualClock
) -> None:
    line, host = Line(), ManualClock(START)
    worker = worker_of(store, line, host)
    store.write_now(
        create, NewSubscription("https://a.example/hook", "webhook", VAULT.lock(new_secret()))
    )
    line.status = 500
    tell(store, push())
    await look(worker)
    await look(worker)
    line.status = 204

    host.advance(hours=-1)
    clock.advance(seconds=10)
    await look(worker)

    (row,) = rows(store, deliveries)
    assert (row["status"], line.taken) == ("delivered", 2)
