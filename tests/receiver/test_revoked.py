"""What a process knows of revocations, and how soon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from sqlalchemy import event

from receiver.revoked import RevokedTokens
from store.callback_tokens import make_token_id, revoke
from store.clock import ManualClock
from store.database import open_database
from store.errors import StoreUnavailableError
from store.store import Store
from tests.app import AWAY
from tests.clocks import Seconds
from tests.databases import on_both_engines
from tests.patience import PATIENCE_SECONDS

pytestmark = on_both_engines

TOKEN = make_token_id(None, 1)


@pytest.fixture
def seconds() -> Seconds:
    return Seconds(100.0)


@pytest.fixture
async def revoked(store: Store, seconds: Seconds) -> AsyncIterator[RevokedTokens]:
    tokens = RevokedTokens(store, seconds)
    yield tokens
    await tokens.refresh()  # no look is under way when the store closes


@contextmanager
def looks(store: Store) -> Iterator[list[str]]:
    """How often the store is asked meanwhile whether there was a revocation."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "FROM counters" in statement:
            asked.append(statement)

    event.listen(store.database.reader, "before_cursor_execute", note)
    yield asked
    event.remove(store.database.reader, "before_cursor_execute", note)


async def test_a_revocation_is_known_after_a_refresh(store: Store, revoked: RevokedTokens) -> None:
    assert not await revoked.has_now(TOKEN)

    await store.write(revoke, TOKEN)
    await revoked.refresh()

    assert revoked.has(TOKEN)
    assert not revoked.has(make_token_id(None, 2))


async def test_a_push_never_goes_by_a_memory_older_than_two_seconds(
    store: Store, revoked: RevokedTokens, seconds: Seconds
) -> None:
    await revoked.has_now(TOKEN)
    await store.write(revoke, TOKEN)

    seconds.now += 2.1

    assert await revoked.has_now(TOKEN)


async def test_a_challenge_never_waits_and_has_the_next_one_know(
    store: Store, revoked: RevokedTokens, seconds: Seconds
) -> None:
    await revoked.has_now(TOKEN)
    await store.write(revoke, TOKEN)
    seconds.now += 1.1

    first = revoked.has(TOKEN)
    await revoked.refresh()

    assert (first, revoked.has(TOKEN)) == (False, True)


async def test_the_store_is_asked_once_a_second_however_many_callbacks_come(
    store: Store, revoked: RevokedTokens, seconds: Seconds
) -> None:
    await revoked.has_now(TOKEN)

    with looks(store) as asked:
        for _ in range(100):
            seconds.now += 0.1
            revoked.has(TOKEN)
            await revoked.has_now(TOKEN)

    assert 4 <= len(asked) <= 10  # seconds


async def test_news_that_come_during_a_look_are_looked_at(
    store: Store, revoked: RevokedTokens
) -> None:
    early = asyncio.create_task(revoked.refresh())
    await asyncio.sleep(0)
    await store.write(revoke, TOKEN)

    await revoked.refresh()
    await early

    assert revoked.has(TOKEN)


async def test_a_revocation_of_another_process_is_heard_of(
    postgresql_url: str, clock: ManualClock, seconds: Seconds
) -> None:
    here, there = (Store(open_database(postgresql_url), clock) for _ in range(2))
    revoked = RevokedTokens(here, seconds)  # no second passes: only a notice makes it look
    revoked.watch()
    await revoked.refresh()

    async with asyncio.timeout(PATIENCE_SECONDS):
        for number in count():  # the first ones may not be heard: it begins to listen
            token_id = make_token_id(None, number)
            await there.write(revoke, token_id)
            await asyncio.sleep(0.02)
            if revoked.has(token_id):
                break

    await revoked.refresh()
    for store in (here, there):
        store.close()


async def test_without_the_store_memory_counts_and_pushes_wait_for_it(
    clock: ManualClock, seconds: Seconds
) -> None:
    store = Store(open_database(AWAY), clock)
    revoked = RevokedTokens(store, seconds)

    assert not revoked.has(TOKEN)
    with pytest.raises(StoreUnavailableError):
        await revoked.has_now(TOKEN)
    with pytest.raises(StoreUnavailableError):
        await revoked.refresh()
    store.close()


async def test_what_is_known_stays_known_while_the_store_is_away(
    store: Store, revoked: RevokedTokens, seconds: Seconds
) -> None:
    await store.write(revoke, TOKEN)
    await revoked.refresh()
    unreachable = RevokedTokens(Store(open_database(AWAY)), seconds)
    unreachable._known = revoked._known

    seconds.now += 3600

    assert unreachable.has(TOKEN)
    with pytest.raises(StoreUnavailableError):
        await unreachable.has_now(TOKEN)
    unreachable._store.close()
