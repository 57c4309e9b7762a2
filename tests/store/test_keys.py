"""API keys: found by their digest, never kept in clear."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from store.clock import ManualClock
from store.database import open_database
from store.errors import NotFoundError
from store.keys import (
    NewKey,
    Scope,
    create,
    create_first,
    digest,
    find_key,
    list_keys,
    new_key_text,
    revoke,
    same,
)
from store.store import Store
from store.tables import api_keys
from tests.making import rows


def test_a_key_is_found_by_its_digest(store: Store, clock: ManualClock) -> None:
    text = new_key_text()

    made = store.write_now(create, NewKey("ops", Scope.WRITE, text))

    assert store.read_now(find_key, digest(text)) == made
    assert (made.name, made.scope, made.created_at) == ("ops", Scope.WRITE, clock())
    assert store.read_now(find_key, digest(text + "x")) is None


def test_a_key_is_not_kept_in_clear(store: Store) -> None:
    text = new_key_text()

    store.write_now(create, NewKey("ops", Scope.READ, text))

    secret = text.split("_", 2)[2]
    assert secret not in repr(rows(store, api_keys))


def test_a_revoked_key_opens_nothing(store: Store) -> None:
    text = new_key_text()
    made = store.write_now(create, NewKey("ops", Scope.ADMIN, text))

    store.write_now(revoke, made.id)

    assert store.read_now(find_key, digest(text)) is None
    assert store.read_now(list_keys, limit=10) == []
    with pytest.raises(NotFoundError, match=made.id):
        store.write_now(revoke, made.id)


def test_one_text_is_one_key(store: Store) -> None:
    text = new_key_text()
    store.write_now(create, NewKey("ops", Scope.READ, text))

    with pytest.raises(Exception, match=r"(?i)unique"):
        store.write_now(create, NewKey("again", Scope.ADMIN, text))

    assert [key.name for key in store.read_now(list_keys, limit=10)] == ["ops"]


@pytest.mark.parametrize("name", ["a\x00b", "\ud800", "长" * 10_000], ids=["NUL", "lone", "long"])
def test_any_name_can_be_kept(store: Store, name: str) -> None:
    made = store.write_now(create, NewKey(name, Scope.READ, new_key_text()))

    assert store.read_now(list_keys, limit=1) == [made]
    assert len(made.name) <= 200


def test_of_processes_that_start_together_one_makes_the_first_key(
    postgresql_url: str,
) -> None:
    stores = [Store(open_database(postgresql_url)) for _ in range(4)]
    wishes = [NewKey(f"k{number}", Scope.ADMIN, new_key_text()) for number in range(4)]

    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda s, wish: s.write_now(create_first, wish), stores, wishes))

    assert made.count(None) == 3
    assert len(stores[0].read_now(list_keys, limit=10)) == 1
    for store in stores:
        store.close()


def test_pages_hold_every_key_once_newest_first(store: Store) -> None:
    made = [store.write_now(create, NewKey(f"k{n}", Scope.READ, new_key_text())) for n in range(5)]

    first = store.read_now(list_keys, limit=3)
    second = store.read_now(list_keys, limit=3, before=first[-1].id)

    assert first + second == made[::-1]


def test_keys_are_long_and_never_the_same() -> None:
    keys = {new_key_text() for _ in range(1_000)}

    assert len(keys) == 1_000
    assert all(key.startswith("tb_") and len(key) >= 50 for key in keys)


@pytest.mark.parametrize("text", ["", "长", "\ud800", "x" * 1_000_000])
def test_any_text_has_a_digest(text: str) -> None:
    assert len(digest(text)) == 64
    assert same(digest(text), digest(text))
    assert not same(digest(text), digest(text + "x"))


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("needed", Scope)
def test_a_scope_includes_the_ones_before_it(scope: Scope, needed: Scope) -> None:
    ladder = [Scope.READ, Scope.WRITE, Scope.ADMIN]

    assert scope.allows(needed) == (ladder.index(scope) >= ladder.index(needed))
