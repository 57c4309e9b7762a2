"""Sessions as rows: begun, found by their digest, ended by anyone who may."""

from __future__ import annotations

from datetime import timedelta

import pytest

from store import keys
from store.clock import ManualClock
from store.counting import ACCESS, read_counter
from store.errors import NotFoundError
from store.keys import NewKey, Scope, digest, new_key_text
from store.logins import End, Login, NewLogin, begin, end, find_login, list_logins, see
from store.retention import Prune, prune
from store.store import Store
from store.tables import sessions
from tests.making import rows

LASTS = timedelta(hours=12)


def begun(store: Store, secret: str = "secret", key_id: str = "key_1") -> Login:
    return store.write_now(begin, NewLogin(digest(secret), key_id, key_id, "Ada", LASTS))


def found(store: Store, clock: ManualClock, secret: str = "secret") -> Login | None:
    return store.read_now(find_login, digest(secret), clock())


def access(store: Store) -> int:
    return store.read_now(read_counter, ACCESS)


def test_a_session_is_found_by_the_digest_of_its_secret(store: Store, clock: ManualClock) -> None:
    login = begun(store)

    assert found(store, clock) == login
    assert (login.key_id, login.name, login.created_at) == ("key_1", "Ada", clock())
    assert login.expires_at == clock() + LASTS
    assert found(store, clock, "other") is None
    assert "secret" not in repr(rows(store, sessions))


def test_it_is_over_when_its_time_is(store: Store, clock: ManualClock) -> None:
    begun(store)
    clock.advance(hours=12)

    assert found(store, clock) is None
    assert store.read_now(list_logins, now=clock(), limit=10) == []
    assert store.write_now(prune, Prune(timedelta(days=30))) == 1
    assert rows(store, sessions) == []


def test_it_is_ended_once_and_that_is_told(store: Store, clock: ManualClock) -> None:
    login = begun(store)

    store.write_now(end, End(login.id))

    assert found(store, clock) is None
    assert access(store) == 1
    with pytest.raises(NotFoundError):
        store.write_now(end, End(login.id))
    assert access(store) == 1


def test_of_a_key_only_its_own_are_ended(store: Store, clock: ManualClock) -> None:
    login = begun(store)

    with pytest.raises(NotFoundError):
        store.write_now(end, End(login.id, "key_2"))
    assert found(store, clock) == login
    store.write_now(end, End(login.id, "key_1"))

    assert found(store, clock) is None


def test_a_revoked_key_takes_its_sessions_with_it(store: Store, clock: ManualClock) -> None:
    made = store.write_now(keys.create, NewKey("ops", Scope.ADMIN, new_key_text()))
    begun(store, key_id=made.id)
    stays = begun(store, "other")

    store.write_now(keys.revoke, made.id)

    assert [row["id"] for row in rows(store, sessions)] == [stays.id]
    assert access(store) == 1


def test_they_are_listed_newest_first_all_or_a_keys(store: Store, clock: ManualClock) -> None:
    logins = []
    for number in range(4):
        logins.append(begun(store, f"secret{number}", f"key_{number % 2}"))
        clock.advance(seconds=1)

    every = store.read_now(list_logins, now=clock(), limit=10)
    before = store.read_now(list_logins, now=clock(), limit=1, before=logins[3].id, key_id="key_1")

    assert every == logins[::-1]
    assert before == [logins[1]]


def test_its_last_use_is_noted(store: Store, clock: ManualClock) -> None:
    login = begun(store)
    clock.advance(minutes=7)

    store.write_now(see, login.id)

    again = found(store, clock)
    assert again is not None
    assert again.last_seen_at == clock()
