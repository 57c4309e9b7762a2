"""Rows that somebody damaged: parked with a reason where they cannot be used, and no other waits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from store.claims import first_due
from store.clock import ManualClock
from store.database import open_database
from store.events import Status
from store.retention import cancel_leftovers
from store.store import Store
from store.subscriptions import Edit, edit
from store.tables import deliveries, tasks
from store.tasks import Overdue, PollClaim, claim_due, expire
from tests.making import LEASE, catch, push, registered, rows, subscribe, tell, told

DAMAGED_TEXT = "cast(x'fffe' as text)"
"""What SQLite keeps, and no driver can read."""


def damage(store: Store, statement: str) -> None:
    with store.database.writer.begin() as connection:
        connection.execute(text(statement))


def owed(store: Store, task: str) -> str:
    """A delivery's id."""
    recorded = tell(store, push(task))
    (row,) = rows(store, deliveries, deliveries.c.event_id == recorded.event_id)
    return str(row["id"])


def caught(store: Store) -> set[str]:
    return {delivery.id for delivery in catch(store).deliveries}


@pytest.fixture
def sqlite(sqlite_url: str, clock: ManualClock) -> Store:
    return Store(open_database(sqlite_url), clock)


def rows_of_bad(store: Store) -> list[Any]:
    """As they are, not as they should be."""
    with store.database.reader.begin() as connection:
        query = "SELECT next_poll_at, poll_error FROM tasks WHERE provider_task_id = 'bad'"
        return list(connection.execute(text(query)))


class TestDeliveries:
    def test_one_whose_event_is_missing_is_buried(self, store: Store) -> None:
        subscribe(store)
        bad, good = owed(store, "bad"), owed(store, "good")
        damage(
            store,
            f"DELETE FROM events WHERE id IN (SELECT event_id FROM deliveries WHERE id = '{bad}')",
        )

        assert caught(store) == {good}

        (row,) = rows(store, deliveries, deliveries.c.id == bad)
        assert (row["status"], row["due_at"]) == ("dead", None)
        assert row["last_error"] == "parked: its event is missing or cannot be read"

    @pytest.mark.parametrize("nonsense", ["'soon'", DAMAGED_TEXT])
    def test_one_whose_event_cannot_be_read_is_buried(self, sqlite: Store, nonsense: str) -> None:
        subscribe(sqlite)
        bad, good = owed(sqlite, "bad"), owed(sqlite, "good")
        damage(
            sqlite,
            f"UPDATE events SET created_at = {nonsense} WHERE id IN"
            f" (SELECT event_id FROM deliveries WHERE id = '{bad}')",
        )

        assert caught(sqlite) == {good}
        sqlite.close()

    def test_one_without_a_due_time_is_due(self, store: Store) -> None:
        subscribe(store)
        bad = owed(store, "bad")
        damage(store, "UPDATE deliveries SET due_at = NULL")

        assert store.read_now(first_due) is not None
        assert caught(store) == {bad}

    @pytest.mark.parametrize("nonsense", ["'1'", "'soon'", "''", DAMAGED_TEXT])
    def test_one_whose_due_time_is_none_is_due(self, sqlite: Store, nonsense: str) -> None:
        subscribe(sqlite)
        bad = owed(sqlite, "bad")
        damage(sqlite, f"UPDATE deliveries SET due_at = {nonsense}")

        assert sqlite.read_now(first_due) is not None
        assert caught(sqlite) == {bad}
        sqlite.close()

    def test_one_of_unknown_status_is_sent(self, store: Store) -> None:
        subscribe(store)
        bad = owed(store, "bad")
        damage(store, "UPDATE deliveries SET status = 'wobbly'")

        assert caught(store) == {bad}


class TestSubscriptions:
    @pytest.mark.parametrize("column", ["types", "providers", "metadata", "header_names"])
    def test_one_that_cannot_be_read_gets_nothing_and_the_others_all(
        self, store: Store, column: str
    ) -> None:
        bad, good = subscribe(store), subscribe(store)
        tell(store, push("before"))
        damage(store, f"UPDATE subscriptions SET {column} = '[cut sho' WHERE id = '{bad.id}'")
        store.write_now(edit, Edit(good.id, {"description": "so that all are read again"}))

        tell(store, push("after"))
        found = catch(store)
        store.write_now(cancel_leftovers, 100)

        assert [delivery.subscription.id for delivery in found.deliveries] == [good.id, good.id]
        assert found.leftovers
        (row,) = rows(store, deliveries, deliveries.c.subscription_id == bad.id)
        assert row["status"] == "canceled"
        assert row["last_error"] == "parked: its subscription cannot be read"

    def test_text_that_is_no_text_does_not_stop_the_others(self, sqlite: Store) -> None:
        bad, good = subscribe(sqlite), subscribe(sqlite)
        damage(sqlite, f"UPDATE subscriptions SET url = {DAMAGED_TEXT} WHERE id = '{bad.id}'")
        sqlite.write_now(edit, Edit(good.id, {"description": "so that all are read again"}))

        tell(sqlite, push())

        assert [one.subscription.id for one in catch(sqlite).deliveries] == [good.id]
        sqlite.close()


class TestTasks:
    DAMAGES = ("status = 'wobbly'", "outputs = '[cut sho'", "metadata = 'x'", "source = ''")

    @pytest.mark.parametrize("damages", DAMAGES)
    def test_one_that_cannot_be_read_is_asked_about_no_more(
        self, store: Store, clock: ManualClock, damages: str
    ) -> None:
        told(store, registered("bad", ask_in=timedelta(0)))
        good = told(store, registered("good", ask_in=timedelta(0)))
        damage(store, f"UPDATE tasks SET {damages} WHERE provider_task_id = 'bad'")

        claimed = store.write_now(claim_due, PollClaim("me", {"minimax": 10}, {}, LEASE))

        assert [task.id for task in claimed.tasks] == [good.id]
        (row,) = rows_of_bad(store)
        assert row.next_poll_at is None
        assert row.poll_error.startswith("parked: its row cannot be read: ")

    @pytest.mark.parametrize("damages", DAMAGES[1:])
    def test_one_that_cannot_be_read_lets_the_others_time_out(
        self, store: Store, clock: ManualClock, damages: str
    ) -> None:
        told(store, registered("bad"))
        good = told(store, registered("good"))
        damage(store, f"UPDATE tasks SET {damages} WHERE provider_task_id = 'bad'")
        clock.advance(hours=3)

        store.write_now(expire, Overdue(10, timedelta(0), frozenset(), timedelta(minutes=1)))

        (row,) = rows(store, tasks, tasks.c.id == good.id)
        assert row["status"] == Status.TIMED_OUT

    def test_pushes_for_others_are_recorded(self, store: Store) -> None:
        told(store, registered("bad"))
        damage(store, "UPDATE tasks SET status = 'wobbly'")

        with pytest.raises(ValueError, match="wobbly"):
            tell(store, push("bad"))
        recorded = tell(store, push("good"))

        assert recorded.event_id is not None
