"""Which tasks are due to be asked about, on real databases."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from store.clock import ManualClock
from store.database import open_database
from store.errors import StoreError
from store.eventlog import list_events
from store.events import Failure, Source, Status, Task
from store.records import POLLS, Registration
from store.store import Store
from store.tables import receipts, tasks
from store.tasks import (
    PARKED_AFTER,
    Agenda,
    Claimed,
    Later,
    Overdue,
    PollClaim,
    ask_now,
    claim_due,
    expire,
    get_task,
    list_tasks,
    read_agenda,
    refute,
    reschedule,
)
from tests.making import LEASE, TIMEOUT, poll, push, registered, rows, tell, told

NOW = timedelta(0)
MINUTE = timedelta(minutes=1)
GRACE = timedelta(seconds=30)
ASKABLE = frozenset({"minimax"})


def claim(
    store: Store, wanted: int = 100, *, unverified: int = 0, provider: str = "minimax"
) -> Claimed:
    return store.write_now(
        claim_due, PollClaim("poller", {provider: wanted}, {provider: unverified}, LEASE)
    )


def names(claimed: Claimed) -> list[str]:
    return sorted(task.provider_task_id for task in claimed.tasks)


def stored(store: Store, task: Task) -> Task:
    found = store.read_now(get_task, task.id)
    assert found is not None
    return found


class TestClaiming:
    def test_only_what_is_due_is_claimed(self, store: Store, clock: ManualClock) -> None:
        told(store, registered("now", ask_in=NOW))
        told(store, registered("later", ask_in=MINUTE))
        told(store, registered("never", ask_in=None))
        ended = told(store, registered("ended", ask_in=NOW))
        told(store, push("ended"))

        first = claim(store)
        clock.advance(seconds=61)
        second = claim(store)

        assert names(first) == ["now"]
        assert names(second) == ["later", "now"]  # the first claim's lease has run out
        assert stored(store, ended).polls == 0

    def test_a_claim_is_a_lease_with_a_new_fence(self, store: Store, clock: ManualClock) -> None:
        told(store, registered(ask_in=NOW))

        (first,) = claim(store).tasks
        assert first.next_poll_at == clock() + LEASE
        assert claim(store).tasks == ()
        clock.advance(seconds=LEASE.total_seconds())
        (second,) = claim(store).tasks

        assert second.poll_fence > first.poll_fence
        assert stored(store, first) == second

    def test_each_provider_gets_what_it_has_room_for(self, store: Store) -> None:
        for provider in ("minimax", "atlascloud", "opencomputing"):
            for number in range(5):
                told(store, registered(f"t{number}", provider=provider, ask_in=NOW))

        wanted = {"minimax": 3, "atlascloud": 10, "opencomputing": 0}
        claimed = store.write_now(claim_due, PollClaim("poller", wanted, {}, LEASE))

        got = [task.provider for task in claimed.tasks]
        assert {name: got.count(name) for name in wanted} == {
            "minimax": 3,
            "atlascloud": 5,
            "opencomputing": 0,
        }

    def test_the_longest_waiting_are_claimed_first(self, store: Store, clock: ManualClock) -> None:
        for number in (3, 1, 2):
            told(store, registered(f"t{number}", ask_in=timedelta(seconds=number)))
        clock.advance(seconds=10)

        assert names(claim(store, 2)) == ["t1", "t2"]

    def test_a_provider_nobody_asked_for_is_left_alone(self, store: Store) -> None:
        told(store, registered(provider="other", ask_in=NOW))

        assert claim(store).tasks == ()
        assert store.write_now(claim_due, PollClaim("poller", {}, {}, LEASE)).tasks == ()

    def test_a_claim_tells_the_stores_time(self, store: Store, clock: ManualClock) -> None:
        assert claim(store).now == clock()

    def test_nothing_is_claimed_where_another_process_has_the_shift(
        self, store: Store, clock: ManualClock
    ) -> None:
        for provider in ("minimax", "atlascloud"):
            told(store, registered(provider=provider, ask_in=NOW))
        both = {"minimax": 5, "atlascloud": 5}
        store.write_now(claim_due, PollClaim("one", {}, {}, LEASE, frozenset({"minimax"}), MINUTE))

        wish = PollClaim("other", both, both, LEASE, frozenset(both), MINUTE)
        first = store.write_now(claim_due, wish)
        clock.advance(seconds=60)
        second = store.write_now(claim_due, wish)

        assert [task.provider for task in first.tasks] == ["atlascloud"]
        assert first.terms == {"atlascloud": 1}
        assert "minimax" in [task.provider for task in second.tasks]
        assert second.terms == {"atlascloud": 1, "minimax": 2}

    def test_tasks_only_a_push_named_have_a_budget_of_their_own(self, store: Store) -> None:
        for number in range(4):
            told(store, push(f"forged{number}", hold=True))
        told(store, registered("mine", ask_in=NOW))

        none = claim(store, 100, unverified=0)
        some = claim(store, 100, unverified=3)

        assert names(none) == ["mine"]
        assert len(some.tasks) == 3
        assert all(task.version == 0 for task in some.tasks)

    def test_a_task_that_no_claim_could_finish_is_parked(
        self, store: Store, clock: ManualClock
    ) -> None:
        task = told(store, registered("t1", ask_in=NOW))
        other = told(store, registered("t2", ask_in=NOW))
        for _ in range(PARKED_AFTER):
            assert names(claim(store)) == ["t1", "t2"]
            clock.advance(seconds=31)
            store.write_now(reschedule, Later(other.id, stored(store, other).poll_fence, NOW))

        assert names(claim(store)) == ["t2"]
        assert stored(store, task).next_poll_at is None
        assert "parked" in rows(store, tasks, tasks.c.id == task.id)[0]["poll_error"]
        clock.advance(hours=1)
        assert names(claim(store)) == ["t2"]

    def test_a_finished_claim_clears_the_count(self, store: Store, clock: ManualClock) -> None:
        task = told(store, registered(ask_in=NOW))

        for _ in range(3 * PARKED_AFTER):
            (claimed,) = claim(store).tasks
            store.write_now(reschedule, Later(task.id, claimed.poll_fence, NOW))

        assert stored(store, task).polls == 3 * PARKED_AFTER


class TestAgenda:
    def agenda(self, store: Store) -> Agenda:
        return store.read_now(read_agenda, ["minimax", "atlascloud"])

    def test_an_empty_store_has_none(self, store: Store) -> None:
        assert self.agenda(store) == Agenda({}, {}, None)
        assert store.read_now(read_agenda, []) == Agenda({}, {}, None)

    def test_it_says_when_what_is_first_due(self, store: Store, clock: ManualClock) -> None:
        told(store, registered("later", ask_in=MINUTE))
        told(store, registered("sooner", ask_in=timedelta(seconds=5)))
        told(store, registered("elsewhere", provider="other", ask_in=NOW))
        told(store, push("named", hold=True, provider="atlascloud"))

        assert self.agenda(store) == Agenda(
            verified={"minimax": clock() + timedelta(seconds=5)},
            unverified={"atlascloud": clock()},
            deadline=clock() + TIMEOUT,
        )

    def test_what_has_ended_or_timed_out_has_no_deadline(
        self, store: Store, clock: ManualClock
    ) -> None:
        told(store, push("ended"))
        told(store, registered("out", timeout=timedelta(seconds=1), ask_in=NOW))
        clock.advance(seconds=60)
        store.write_now(expire, Overdue(100, GRACE, ASKABLE, MINUTE))

        assert self.agenda(store) == Agenda({"minimax": clock() + MINUTE}, {}, None)


class TestTwoProcesses:
    @pytest.fixture
    def pair(self, postgresql_url: str, clock: ManualClock) -> Iterator[tuple[Store, Store]]:
        one, other = (Store(open_database(postgresql_url), clock) for _ in range(2))
        yield one, other
        one.close()
        other.close()

    def test_two_pollers_never_get_the_same_task(self, pair: tuple[Store, Store]) -> None:
        for number in range(120):
            told(pair[0], registered(f"t{number}", ask_in=NOW))

        def claim_all(store: Store) -> list[str]:
            got: list[str] = []
            while claimed := names(claim(store, 7)):
                got += claimed
            return got

        with ThreadPoolExecutor(2) as threads:
            got = [name for part in threads.map(claim_all, pair) for name in part]

        assert len(got) == len(set(got))
        # the two may both come up empty while the other holds the last rows' locks
        got += names(claim(pair[0]))
        assert sorted(got) == sorted(f"t{number}" for number in range(120))

    def test_a_sqlite_file_takes_one_process(self, sqlite_url: str) -> None:
        store = Store(open_database(sqlite_url))

        with pytest.raises(StoreError, match=r"in use by another taskbell process \(pid \d+\)"):
            Store(open_database(sqlite_url))
        store.close()

        Store(open_database(sqlite_url)).close()


class TestRescheduling:
    def test_the_next_question_is_asked_when_it_was_said(
        self, store: Store, clock: ManualClock
    ) -> None:
        told(store, registered(ask_in=NOW))
        (task,) = claim(store).tasks

        store.write_now(reschedule, Later(task.id, task.poll_fence, MINUTE))

        after = stored(store, task)
        assert after.next_poll_at == clock() + MINUTE
        assert (after.polls, after.poll_claims, after.poll_failures) == (1, 0, 0)

    def test_failures_in_a_row_are_counted(self, store: Store, clock: ManualClock) -> None:
        told(store, registered(ask_in=NOW))

        counts = []
        for failed in (True, True, False, True):
            (task,) = claim(store).tasks
            trouble = Failure("unreachable", "no route\x00 to host") if failed else None
            store.write_now(reschedule, Later(task.id, task.poll_fence, NOW, failed, trouble))
            counts.append(stored(store, task).poll_failures)

        assert counts == [1, 2, 0, 1]
        assert rows(store, tasks)[0]["poll_error"] == "no route\ufffd to host"

    def test_a_stale_claim_reschedules_nothing(self, store: Store, clock: ManualClock) -> None:
        told(store, registered(ask_in=NOW))
        (stale,) = claim(store).tasks
        clock.advance(seconds=31)
        (newer,) = claim(store).tasks

        store.write_now(reschedule, Later(stale.id, stale.poll_fence, None, failed=True))

        assert stored(store, stale) == newer

    def test_a_task_may_be_left_alone_for_good(self, store: Store) -> None:
        told(store, registered(ask_in=NOW))
        (task,) = claim(store).tasks

        store.write_now(reschedule, Later(task.id, task.poll_fence, None))

        assert stored(store, task).next_poll_at is None

    def test_one_question_is_asked_right_at_the_deadline(
        self, store: Store, clock: ManualClock
    ) -> None:
        told(store, registered(ask_in=NOW, timeout=timedelta(seconds=100)))
        (task,) = claim(store).tasks

        store.write_now(reschedule, Later(task.id, task.poll_fence, timedelta(seconds=120)))

        assert stored(store, task).next_poll_at == task.deadline_at

    def test_after_the_deadline_the_pace_counts_again(
        self, store: Store, clock: ManualClock
    ) -> None:
        told(store, registered(ask_in=NOW, timeout=timedelta(seconds=10)))
        clock.advance(seconds=11)
        (task,) = claim(store).tasks

        store.write_now(reschedule, Later(task.id, task.poll_fence, MINUTE))

        assert stored(store, task).next_poll_at == clock() + MINUTE


class TestExpiring:
    def expire(self, store: Store, limit: int = 100) -> int:
        return store.write_now(expire, Overdue(limit, GRACE, ASKABLE, MINUTE))

    def test_a_task_times_out_after_its_deadline_and_the_grace(
        self, store: Store, clock: ManualClock
    ) -> None:
        task = told(store, registered(timeout=timedelta(seconds=100)))

        expired = []
        for step in (99, 1, 29, 1):
            clock.advance(seconds=step)
            expired.append(self.expire(store))

        assert expired == [0, 0, 0, 1]
        after = stored(store, task)
        assert (after.status, after.version, after.source) == (*(Status.TIMED_OUT, 2, Source.POLL),)
        assert after.next_poll_at == clock() + MINUTE
        assert after.finished_at is None
        assert self.expire(store) == 0

    def test_nobody_waits_for_a_question_that_cannot_be_asked(
        self, store: Store, clock: ManualClock
    ) -> None:
        task = told(store, registered(provider="other", timeout=timedelta(seconds=100)))
        clock.advance(seconds=100)

        assert self.expire(store) == 1
        assert stored(store, task).status is Status.TIMED_OUT

    def test_without_any_askable_provider_the_deadline_counts(
        self, store: Store, clock: ManualClock
    ) -> None:
        told(store, registered(timeout=timedelta(seconds=100)))
        clock.advance(seconds=100)

        assert store.write_now(expire, Overdue(100, GRACE, frozenset(), MINUTE)) == 1

    def test_a_time_out_is_an_event_and_a_later_ending_is_late(
        self, store: Store, clock: ManualClock
    ) -> None:
        told(store, registered(timeout=MINUTE))
        clock.advance(hours=1)
        self.expire(store)
        told(store, poll())

        bodies = [view.body for view in store.read_now(list_events, limit=10)]
        assert [(body["type"], body["data"]["late"]) for body in bodies] == [
            ("task.queued", False),
            ("task.timed_out", False),
            ("task.succeeded", True),
        ]

    def test_what_nobody_confirmed_is_forgotten_without_an_event(
        self, store: Store, clock: ManualClock
    ) -> None:
        told(store, push(hold=True, registration=Registration(MINUTE)))
        clock.advance(hours=1)

        assert self.expire(store) == 1
        assert rows(store, tasks) == []
        assert store.read_now(list_events, limit=10) == []
        assert [row["verdict"] for row in rows(store, receipts)] == ["refuted"]

    def test_a_step_takes_no_more_than_its_limit(self, store: Store, clock: ManualClock) -> None:
        for number in range(5):
            told(store, registered(f"t{number}", timeout=MINUTE))
        clock.advance(hours=1)

        assert [self.expire(store, 2) for _ in range(4)] == [2, 2, 1, 0]

    @pytest.mark.parametrize("status", [s for s in Status if s.final])
    def test_an_ended_task_does_not_time_out(
        self, store: Store, clock: ManualClock, status: Status
    ) -> None:
        told(store, push(status=status, registration=Registration(MINUTE)))
        clock.advance(hours=1)

        assert self.expire(store) == 0


class TestRefuting:
    def test_what_the_provider_does_not_know_is_forgotten_and_its_receipts_stay(
        self, store: Store
    ) -> None:
        told(store, push("forged", hold=True, raw=b"forged"))
        told(store, push("real", raw=b"real"))
        (task,) = claim(store, unverified=1).tasks

        store.write_now(refute, task)

        assert [row["provider_task_id"] for row in rows(store, tasks)] == ["real"]
        kept = [(row["raw"], row["verdict"]) for row in rows(store, receipts)]
        assert kept == [(b"forged", "refuted"), (b"real", "recorded")]
        assert rows(store, receipts)[0]["task_id"] is None

    def test_a_task_that_was_confirmed_meanwhile_stays_with_its_receipts(
        self, store: Store
    ) -> None:
        task = told(store, push(hold=True))
        told(store, poll())

        store.write_now(refute, task)

        assert len(rows(store, tasks)) == 1
        kept = rows(store, receipts)
        assert [(row["verdict"], row["task_id"]) for row in kept] == [("held", task.id)]

    def test_a_push_after_the_refusal_starts_anew(self, store: Store) -> None:
        first = told(store, push(hold=True))
        store.write_now(refute, first)

        second = tell(store, push(hold=True))

        assert second.created
        assert second.task is not None
        assert second.task.id != first.id


class TestAskingNow:
    def test_an_open_task_is_due_at_once(self, store: Store, clock: ManualClock) -> None:
        heard: list[str] = []
        task = told(store, registered(ask_in=timedelta(hours=1)))
        store.listen(POLLS, lambda: heard.append("polls"))

        assert store.write_now(ask_now, task.id)

        assert names(claim(store)) == ["t1"]
        assert heard == ["polls"]

    def test_a_parked_task_gets_another_chance(self, store: Store, clock: ManualClock) -> None:
        task = told(store, registered(ask_in=NOW))
        for _ in range(PARKED_AFTER + 1):
            claim(store)
            clock.advance(seconds=31)

        assert store.write_now(ask_now, task.id)
        assert names(claim(store)) == ["t1"]

    def test_an_ended_or_unknown_task_is_not_asked_about(self, store: Store) -> None:
        task = told(store, push())

        assert not store.write_now(ask_now, task.id)
        assert not store.write_now(ask_now, "task_unknown")
        assert stored(store, task).next_poll_at is None


class TestListing:
    @pytest.fixture
    def made(self, store: Store) -> list[Task]:
        """Oldest first: two providers, every third one ended."""
        return [
            told(
                store,
                push(
                    f"t{number}",
                    Status.SUCCEEDED if number % 3 == 0 else Status.PROCESSING,
                    provider="minimax" if number % 2 else "atlascloud",
                ),
            )
            for number in range(12)
        ]

    def pages(self, store: Store, limit: int, **conditions: Any) -> list[Task]:
        seen: list[Task] = []
        while page := store.read_now(
            list_tasks, limit=limit, before=seen[-1].id if seen else None, **conditions
        ):
            assert len(page) <= limit
            seen += page
        return seen

    @pytest.mark.parametrize("limit", [1, 5, 12, 100])
    def test_pages_hold_every_task_once_newest_first(
        self, store: Store, made: list[Task], limit: int
    ) -> None:
        assert self.pages(store, limit) == made[::-1]

    def test_pages_may_be_narrowed(self, store: Store, made: list[Task]) -> None:
        ended = [task for task in made if task.status is Status.SUCCEEDED]
        mine = [task for task in made if task.provider == "minimax"]

        assert self.pages(store, 3, status=Status.SUCCEEDED) == ended[::-1]
        assert self.pages(store, 3, provider="minimax") == mine[::-1]
        assert self.pages(store, 3, status=Status.SUCCEEDED, provider="minimax") == [
            task for task in ended[::-1] if task in mine
        ]

    def test_a_task_made_meanwhile_shifts_no_page(self, store: Store, made: list[Task]) -> None:
        first = store.read_now(list_tasks, limit=4)
        told(store, push("new"))

        second = store.read_now(list_tasks, limit=4, before=first[-1].id)

        assert first + second == made[::-1][:8]

    def test_an_unknown_task_is_none(self, store: Store) -> None:
        assert store.read_now(get_task, "task_unknown") is None


def test_times_come_back_as_they_went_in(store: Store, clock: ManualClock) -> None:
    clock.advance(microseconds=1)
    task = told(store, registered(timeout=timedelta(microseconds=999_999)))

    found = stored(store, task)

    assert found == replace(task)
    assert found.deadline_at == datetime.fromisoformat("2026-01-01T12:00:01+00:00")
    assert found.deadline_at.tzinfo is not None
