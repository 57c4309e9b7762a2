"""The audit: a row with each change, in its transaction, and for a bounded time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from store import ids, keys, subscriptions
from store.audit import Actor, Audited, Entry, audited, list_audit, note
from store.clock import ManualClock
from store.errors import NotFoundError
from store.keys import NewKey, Scope, new_key_text
from store.matching import Subscription
from store.records import Recorded, record
from store.retention import Prune, prune
from store.store import Store
from store.subscriptions import Edit
from store.tables import api_keys, audit
from tests.making import registered, rows, subscribe, together

KEEP = timedelta(days=30)


def by(action: str = "subscription.changed", **fields: Any) -> Entry:
    return Entry(Actor("key_1", "ses_1", "Ada"), action, **fields)


def edit(subscription_id: str, **values: Any) -> Audited[Edit, Subscription]:
    return Audited(Edit(subscription_id, values), by(), lambda changed: changed.id)


def test_a_change_and_its_row_come_together(store: Store, clock: ManualClock) -> None:
    known = subscribe(store)

    changed = store.write_now(audited(subscriptions.edit), edit(known.id, active=False))

    assert not changed.active
    [row] = rows(store, audit)
    assert row["id"].startswith("aud_")
    assert row["at"] == clock()
    assert (row["actor_id"], row["actor_name"]) == ("ses_1", "Ada")
    assert (row["key_id"], row["action"], row["object_id"]) == (
        "key_1",
        "subscription.changed",
        known.id,
    )


async def test_an_item_that_fails_leaves_no_row_beside_one_that_does_not(store: Store) -> None:
    known = subscribe(store)

    answers = await together(
        store,
        audited(subscriptions.edit),
        [edit("sub_of_nothing", active=False), edit(known.id, active=False)],
    )

    assert isinstance(answers[0], NotFoundError)
    assert [row["object_id"] for row in rows(store, audit)] == [known.id]


async def test_a_bad_row_in_the_batch_takes_neither_changes_nor_rows_of_others_along(
    store: Store,
) -> None:
    texts = [new_key_text(), new_key_text(), new_key_text()]
    items = [NewKey("k", Scope.READ, text) for text in [*texts, texts[0]]]  # a digest twice

    answers = await together(
        store,
        audited(keys.create),
        [Audited(item, by("api_key.created"), lambda made: made.id) for item in items],
    )

    made = [answer.id for answer in answers if isinstance(answer, keys.ApiKey)]
    assert len(made) == 3
    assert [row["id"] for row in rows(store, api_keys)] == made
    assert [row["object_id"] for row in rows(store, audit)] == made


def test_what_changes_nothing_leaves_no_row(store: Store) -> None:
    def new_task(recorded: Recorded) -> str | None:
        return recorded.task.id if recorded.task and recorded.event_id else None

    for _ in range(3):
        store.write_now(audited(record), Audited(registered(), by("task.created"), new_task))

    assert len(rows(store, audit)) == 1


def test_rows_are_read_newest_first_in_pages_by_action_or_object(store: Store) -> None:
    for number in range(5):
        detail = {"fields": ["url"], "values": {"n": number}}
        action = "task.created" if number % 2 else "task.canceled"
        store.write_now(note, by(action, object_id=f"task_{number}", detail=detail))

    first = store.read_now(list_audit, limit=2)
    second = store.read_now(list_audit, limit=2, before=first[-1].id)
    created = store.read_now(list_audit, limit=9, action="task.created")
    [third] = store.read_now(list_audit, limit=9, object_id="task_3")

    assert [row.object_id for row in first + second] == ["task_4", "task_3", "task_2", "task_1"]
    assert [row.object_id for row in created] == ["task_3", "task_1"]
    assert third.detail == {"fields": ["url"], "values": {"n": 3}}


@pytest.fixture
def young_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids never go back, but this clock began before that of other tests."""
    monkeypatch.setattr(ids, "_last", 0)


@pytest.mark.usefixtures("young_ids")
@pytest.mark.parametrize(
    ("action", "days"),
    [
        ("task.created", 30),
        ("delivery.retried", 30),
        ("callback_url.created", 30),
        ("subscription.changed", 365),
        ("api_key.created", 365),
    ],
)
def test_a_row_is_kept_as_long_as_tasks_or_a_year(
    store: Store, clock: ManualClock, action: str, days: int
) -> None:
    store.write_now(note, by(action))
    clock.advance(days=days)

    kept = store.write_now(prune, Prune(KEEP))
    clock.advance(seconds=1)
    gone = store.write_now(prune, Prune(KEEP))

    assert (kept, gone) == (0, 1)
    assert rows(store, audit) == []


@pytest.mark.usefixtures("young_ids")
def test_a_longer_retention_counts_for_all(store: Store, clock: ManualClock) -> None:
    store.write_now(note, by("api_key.created"))
    store.write_now(note, by("task.created"))
    clock.advance(days=400)

    assert store.write_now(prune, Prune(timedelta(days=500))) == 0
    assert store.write_now(prune, Prune(timedelta(days=399))) == 2


@pytest.mark.usefixtures("young_ids")
def test_a_step_of_pruning_is_bounded(store: Store, clock: ManualClock) -> None:
    for action in ("api_key.created", "task.created", "task.created", "task.created"):
        store.write_now(note, by(action))
    clock.advance(days=31)

    assert [store.write_now(prune, Prune(KEEP, limit=2)) for _ in range(3)] == [2, 1, 0]
