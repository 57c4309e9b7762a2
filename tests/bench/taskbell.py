"""Taskbell as it is measured: the `taskbell serve` of this checkout, a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dispatch.signing import new_secret
from receiver.tokens import CallbackTokens, new_token_id
from store import subscriptions
from store.database import open_database
from store.schema import migrate
from store.store import Store
from store.subscriptions import NewSubscription
from store.vault import Vault
from tests.bench.processes import server, until_ready
from tests.ports import free_port

SECRET_KEYS = ("only for measuring: no secret is kept",)
API_KEY = "only-for-measuring-and-nobody-needs-to-guess-it"
COMMAND = (Path(sys.executable).with_name("taskbell"), "serve")
_MOST_IN_FLIGHT = 256


@dataclass(frozen=True, slots=True)
class Running:
    """url: where MiniMax would push, with role `receive`."""

    url: str
    pid: int


class Taskbell:
    """All roles in one process, on PostgreSQL when given one."""

    name = "taskbell"
    durability = "nothing that was answered with 200 is lost, by a kill -9 or a power cut"

    @contextmanager
    def running(self, folder: Path, database: str | None, sinks: Sequence[str]) -> Iterator[str]:
        url = database or f"sqlite:///{folder}/taskbell.db"
        subscribe(url, sinks)
        with serving(folder, url) as taskbell:
            yield taskbell.url


def subscribe(database: str, sinks: Sequence[str]) -> None:
    """Bring the schema, and one subscription for each sink."""
    vault = Vault(SECRET_KEYS)
    wishes = [
        NewSubscription(
            url=sink,
            format="webhook",
            secret_locked=vault.lock(new_secret()),
            max_in_flight=_MOST_IN_FLIGHT,
        )
        for sink in sinks
    ]
    with opened(database) as store:
        asyncio.run(_subscribe(store, wishes))


async def _subscribe(store: Store, wishes: Sequence[NewSubscription]) -> None:
    # together, so that they share transactions: each of these reads all subscriptions again
    await asyncio.gather(*(store.write(subscriptions.create, wish) for wish in wishes))


@contextmanager
def opened(database: str) -> Iterator[Store]:
    """Its store, opened here and migrated. No server may have it open."""
    opening = open_database(database)
    migrate(opening)
    store = Store(opening)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def serving(
    folder: Path,
    database: str,
    roles: str = "receive,poll,dispatch",
    command: Sequence[str | Path] = COMMAND,
) -> Iterator[Running]:
    """A process with these roles, ready."""
    with _started(folder, database, roles, command) as (running, wait):
        wait()
        yield running


@contextmanager
def several(folder: Path, database: str, number: int, roles: str) -> Iterator[list[Running]]:
    """That many of them, all ready."""
    with ExitStack() as stack:
        started = [_started(folder, database, roles, COMMAND) for _ in range(number)]
        entered = [stack.enter_context(each) for each in started]
        for _, wait in entered:
            wait()
        yield [running for running, _ in entered]


@contextmanager
def _started(
    folder: Path, database: str, roles: str, command: Sequence[str | Path]
) -> Iterator[tuple[Running, Callable[[], None]]]:
    """A process, and what returns when it is ready."""
    port = free_port()
    here = f"http://127.0.0.1:{port}"
    environment = {
        "TASKBELL_DATABASE_URL": database,
        "TASKBELL_SECRET_KEYS": ",".join(SECRET_KEYS),
        "TASKBELL_API_KEY": API_KEY,
        "TASKBELL_PORT": str(port),
        "TASKBELL_ALLOW_NETWORKS": "127.0.0.0/8",
        "TASKBELL_ROLES": roles,
    }
    token = CallbackTokens(SECRET_KEYS).issue(
        "minimax", new_token_id(), expires_at=None, metadata={}
    )
    log = folder / f"taskbell-{port}.log"
    with server(command, log, environment) as process:
        running = Running(f"{here}/callbacks/minimax/{token}", process.pid)
        yield running, partial(until_ready, f"{here}/readyz", process, log)
