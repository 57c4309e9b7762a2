"""Subscriptions: made, changed, rotated, deleted, listed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import bindparam, text

from store.clock import ManualClock
from store.errors import NotFoundError
from store.events import Interest
from store.outbox import DELIVERIES
from store.store import Store
from store.subscriptions import (
    Edit,
    NewSubscription,
    Rotation,
    create,
    delete,
    edit,
    get_subscription,
    list_subscriptions,
    rotate,
)
from store.tables import counters, subscriptions
from store.writer import Operation, Tx
from tests.making import rows, subscribe


def changes(store: Store) -> int:
    return int(rows(store, counters, counters.c.name == "subscriptions")[0]["value"])


def test_a_subscription_is_kept_as_it_was_made(store: Store, clock: ManualClock) -> None:
    new = NewSubscription(
        url="https://a.example/hook?x=长",
        format="cloudevents",
        secret_locked="locked secret",
        types=("task.*", "delivery.dead"),
        providers=("minimax",),
        metadata={"customer": "42", "nested": {"a": [1, None]}},
        description="orders\u2028",
        headers_locked="locked headers",
        header_names=("x-a", "x-b"),
        max_in_flight=3,
        rate_per_second=0.5,
        url_locked="locked url",
        service_secret_locked="locked service secret",
        language="zh",
    )

    made = store.write_now(create, new)

    assert store.read_now(get_subscription, made.id) == made
    assert made.id.startswith("sub_")
    assert made.interest == Interest(
        ("task.*", "delivery.dead"), ("minimax",), {"customer": "42", "nested": {"a": [1, None]}}
    )
    assert (made.url, made.format, made.description) == (new.url, "cloudevents", "orders\u2028")
    assert (made.secret_locked, made.headers_locked) == ("locked secret", "locked headers")
    assert (made.url_locked, made.service_secret_locked) == ("locked url", "locked service secret")
    assert made.language == "zh"
    assert made.header_names == ("x-a", "x-b")
    assert (made.max_in_flight, made.rate_per_second, made.active) == (3, 0.5, True)
    assert made.created_at == made.updated_at == clock()


def test_nothing_said_is_no_condition(store: Store) -> None:
    assert subscribe(store).interest == Interest(None, None, None)


def test_no_type_at_all_is_not_the_same_as_nothing_said(store: Store) -> None:
    made = subscribe(store, types=(), metadata={})

    assert store.read_now(get_subscription, made.id) == made
    assert made.interest == Interest((), None, {})


def test_an_edit_changes_what_it_names(store: Store, clock: ManualClock) -> None:
    made = subscribe(store, types=("task.failed",), max_in_flight=3)
    clock.advance(minutes=1)
    heard: list[str] = []
    store.listen(DELIVERIES, lambda: heard.append("deliveries"))

    changed = store.write_now(edit, Edit(made.id, {"types": None, "url": "https://b.example/"}))

    assert changed.interest.types is None
    assert (changed.url, changed.max_in_flight) == ("https://b.example/", 3)
    assert (changed.created_at, changed.updated_at) == (made.created_at, clock())
    assert store.read_now(get_subscription, made.id) == changed
    assert heard == ["deliveries"]


def test_a_rotation_keeps_the_old_secret_for_a_while(store: Store, clock: ManualClock) -> None:
    made = subscribe(store)

    rotated = store.write_now(rotate, Rotation(made.id, "new", timedelta(hours=24)))

    assert (rotated.secret_locked, rotated.old_secret_locked) == ("new", "locked")
    assert rotated.old_secret_until == clock() + timedelta(hours=24)


def test_a_deleted_subscription_is_gone_and_its_row_stays(store: Store) -> None:
    made = subscribe(store)

    store.write_now(delete, made.id)

    assert store.read_now(get_subscription, made.id) is None
    assert store.read_now(list_subscriptions, limit=10) == []
    assert rows(store, subscriptions)[0]["active"] is False


def test_what_is_not_there_cannot_be_changed(store: Store) -> None:
    gone = subscribe(store).id
    store.write_now(delete, gone)

    for subscription_id in (gone, "sub_unknown"):
        with pytest.raises(NotFoundError, match=subscription_id):
            store.write_now(edit, Edit(subscription_id, {"active": False}))
        with pytest.raises(NotFoundError, match=subscription_id):
            store.write_now(rotate, Rotation(subscription_id, "new", timedelta(0)))
        with pytest.raises(NotFoundError, match=subscription_id):
            store.write_now(delete, subscription_id)


def test_every_change_raises_the_counter(store: Store) -> None:
    counts = [changes(store)]
    made = subscribe(store)
    counts.append(changes(store))
    store.write_now(edit, Edit(made.id, {"active": False}))
    counts.append(changes(store))
    store.write_now(rotate, Rotation(made.id, "new", timedelta(0)))
    counts.append(changes(store))
    store.write_now(delete, made.id)
    counts.append(changes(store))

    assert counts == sorted(set(counts))


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_pages_hold_every_subscription_once_newest_first(store: Store, limit: int) -> None:
    made = [subscribe(store).id for _ in range(7)]
    store.write_now(delete, made.pop(3))

    seen: list[str] = []
    while page := store.read_now(
        list_subscriptions, limit=limit, before=seen[-1] if seen else None
    ):
        seen += [subscription.id for subscription in page]

    assert seen == made[::-1]


def test_an_older_version_may_still_subscribe(store: Store, clock: ManualClock) -> None:
    """One whose inserts know nothing of migration 0005."""
    known = ("id", "url", "format", "header_names", "secret_locked", "active")
    times = ("created_at", "updated_at")
    values = dict.fromkeys(times, clock()) | {
        "id": "sub_old",
        "url": "https://a.example/hook",
        "format": "webhook",
        "header_names": [],
        "secret_locked": "locked",
        "active": True,
    }

    def insert(tx: Tx, items: Sequence[None]) -> list[None]:
        names = ", ".join((*known, *times))
        slots = ", ".join(f":{name}" for name in (*known, *times))
        types = [bindparam(name, type_=subscriptions.c[name].type) for name in (*known, *times)]
        statement = text(f"INSERT INTO subscriptions ({names}) VALUES ({slots})")
        tx.connection.execute(statement.bindparams(*types), values)
        return list(items)

    store.write_now(Operation("old insert", insert), None)

    made = store.read_now(get_subscription, "sub_old")
    assert made is not None
    assert (made.language, made.url_locked, made.service_secret_locked) == ("en", None, None)
