"""The states of providers as rows, on each database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from store.clock import ManualClock
from store.database import open_database
from store.events import Failure, Task
from store.provider_states import (
    QUIET,
    UNATTENDED,
    Note,
    ProviderState,
    State,
    note_states,
    read_history,
    read_states,
)
from store.retention import Prune, prune
from store.store import Store
from store.tables import deliveries, events
from store.tasks import get_task
from store.writer import Operation, Tx
from tests.making import registered, rows, subscribe, told

KNOWN = frozenset({State.OK, State.DEGRADED, State.DOWN})
REASON = Failure("unavailable", "MiniMax cannot answer now (503)")
NO_KEY = Failure("no_key", "the server has no API key for MiniMax")


def noted(store: Store, to: State | None = None, **more: Any) -> ProviderState:
    return store.write_now(note_states, Note("minimax", "MiniMax", to, **more))


def polls(store: Store) -> ProviderState:
    """A process that has the key says that it polls."""
    return noted(store, State.IDLE, keep=KNOWN)


def history(store: Store) -> list[State]:
    return [each.state for each in store.read_now(read_history, "minimax", 100)]


def bodies(store: Store, event_type: str) -> list[dict[str, Any]]:
    found = [row for row in rows(store, events) if row["type"] == event_type]
    return [json.loads(row["body"]) for row in found]


def test_a_provider_that_was_asked_nothing_is_idle(store: Store) -> None:
    first, again = polls(store), polls(store)

    assert (first.state, again.state) == (State.IDLE, State.IDLE)
    assert store.read_now(read_states) == {"minimax": first}
    assert history(store) == [State.IDLE]


def test_each_change_ends_the_state_before(store: Store, clock: ManualClock) -> None:
    polls(store)
    clock.advance(seconds=10)
    noted(store, State.OK)
    clock.advance(seconds=10)
    down = noted(store, State.DOWN, reason=REASON)

    current, *past = store.read_now(read_history, "minimax", 100)

    assert current == down
    assert (down.since, down.reason, down.until) == (clock(), REASON, None)
    assert [(each.state, each.since, each.until) for each in past] == [
        (State.OK, clock() - timedelta(seconds=10), clock()),
        (State.IDLE, clock() - timedelta(seconds=20), clock() - timedelta(seconds=10)),
    ]


def test_several_changes_in_one_transaction_keep_their_order(store: Store) -> None:
    def run(tx: Tx, items: Any) -> list[None]:
        names = (State.IDLE, State.DOWN, State.OK, State.DOWN)
        note_states.run(tx, [Note("minimax", "MiniMax", each) for each in names])
        return [None] * len(items)

    store.write_now(Operation("four", run), None)

    assert history(store) == [State.DOWN, State.OK, State.DOWN, State.IDLE]
    assert len(bodies(store, "provider.down")) == 2
    assert len(bodies(store, "provider.recovered")) == 1


@pytest.mark.parametrize(
    ("before", "to", "keep", "after"),
    [
        (State.DOWN, State.IDLE, KNOWN, State.DOWN),  # a restart
        (State.DEGRADED, State.OK, {State.DEGRADED}, State.DEGRADED),  # its first good answer
        (State.DOWN, State.DEGRADED, {State.DOWN}, State.DOWN),
        (State.NO_KEY, State.IDLE, KNOWN, State.IDLE),
        (State.OK, State.OK, (), State.OK),
    ],
)
def test_a_state_that_is_to_be_kept_stays(
    store: Store, before: State, to: State, keep: Any, after: State
) -> None:
    noted(store, before)

    assert noted(store, to, keep=frozenset(keep)).state is after


def test_a_restart_while_it_is_down_neither_ends_it_nor_tells_it_again(store: Store) -> None:
    noted(store, State.DOWN, reason=REASON)

    polls(store)
    again = noted(store, State.DOWN, reason=REASON)

    assert (again.state, again.reason) == (State.DOWN, REASON)
    assert len(bodies(store, "provider.down")) == 1
    assert history(store) == [State.DOWN]


def test_another_reason_is_no_new_state(store: Store, clock: ManualClock) -> None:
    since = noted(store, State.DOWN, reason=REASON).since
    clock.advance(seconds=30)

    other = noted(store, State.DOWN, reason=Failure("key_refused", "refused"))

    assert (other.since, other.reason) == (since, Failure("key_refused", "refused"))
    assert store.read_now(read_states)["minimax"] == other
    assert len(bodies(store, "provider.down")) == 1


def test_times_are_kept_over_changes_and_never_go_back(store: Store, clock: ManualClock) -> None:
    second = timedelta(seconds=1)
    noted(store, State.OK, asked_ago=second, answered_ago=2 * second)
    asked, answered = clock() - second, clock() - 2 * second

    noted(store, asked_ago=60 * second, answered_ago=60 * second)
    clock.advance(seconds=5)
    after = noted(store, State.DOWN, reason=REASON)

    assert (after.asked_at, after.answered_at, after.polled_at) == (asked, answered, clock())


def trouble(store: Store, task: Task) -> Failure | None:
    known = store.read_now(get_task, task.id)
    assert known is not None
    return known.trouble


class TestEvents:
    def test_down_and_recovered_go_to_those_who_name_them(
        self, store: Store, clock: ManualClock
    ) -> None:
        wanting = {
            name: subscribe(store, types=types, providers=providers).id
            for name, types, providers in (
                ("exact", ("provider.down",), None),
                ("family", ("provider.*",), None),
                ("this one's", ("provider.*",), ("minimax",)),
                ("another's", ("provider.*",), ("atlascloud",)),
                ("tasks", ("task.*",), None),
                ("all there is by default", None, None),
            )
        }
        polls(store)
        noted(store, State.DOWN, reason=REASON)
        clock.advance(minutes=1)
        noted(store, State.OK)

        sent = {(row["subscription_id"], row["event_id"][:3]) for row in rows(store, deliveries)}
        by_type = [row["type"] for row in rows(store, events)]

        assert by_type == ["provider.down", "provider.recovered"]
        assert {name for name, each in wanting.items() if (each, "evt") in sent} == {
            "exact",
            "family",
            "this one's",
        }
        assert len(rows(store, deliveries)) == 1 + 2 + 2

    def test_the_payload_tells_state_reason_and_what_was_before(
        self, store: Store, clock: ManualClock
    ) -> None:
        noted(store, State.OK)
        noted(store, State.DOWN, reason=REASON)
        clock.advance(minutes=1)
        noted(store, State.OK)

        [down], [recovered] = bodies(store, "provider.down"), bodies(store, "provider.recovered")

        reason = {"code": "unavailable", "message": "MiniMax cannot answer now (503)"}
        noon, later = "2026-01-01T12:00:00.000000Z", "2026-01-01T12:01:00.000000Z"
        assert down["data"] == {
            "provider": {
                "name": "minimax",
                "title": "MiniMax",
                "state": "down",
                "reason": reason,
                "since": noon,
            },
            "previous": {"state": "ok", "reason": None, "since": noon},
        }
        assert recovered["data"] == {
            "provider": {
                "name": "minimax",
                "title": "MiniMax",
                "state": "ok",
                "reason": None,
                "since": later,
            },
            "previous": {"state": "down", "reason": reason, "since": noon},
        }
        event = rows(store, events)[0]
        assert (event["provider"], event["subject"], event["task_id"]) == (
            "minimax",
            "minimax",
            None,
        )

    @pytest.mark.parametrize("between", [State.NO_KEY, State.IDLE, State.DEGRADED])
    def test_it_recovers_once_whatever_came_between(self, store: Store, between: State) -> None:
        noted(store, State.DOWN, reason=REASON)
        noted(store, between)
        for state in (State.OK, State.DEGRADED, State.OK):
            noted(store, state)

        assert len(bodies(store, "provider.recovered")) == 1

    def test_what_was_never_down_does_not_recover(self, store: Store) -> None:
        for state in (State.IDLE, State.OK, State.DEGRADED, State.OK, State.NO_KEY, State.OK):
            noted(store, state)

        assert rows(store, events) == []


class TestALoneTask:
    def test_is_enough_while_no_other_is_open(self, store: Store) -> None:
        task = told(store, registered("t1"))
        told(store, registered("t2", provider="atlascloud"))

        assert noted(store, State.DOWN, lone_task=task.id).state is State.DOWN

    def test_is_not_while_another_is(self, store: Store) -> None:
        polls(store)
        task = told(store, registered("t1"))
        told(store, registered("t2"))

        assert noted(store, State.DOWN, lone_task=task.id).state is State.IDLE
        assert noted(store, State.DOWN).state is State.DOWN


class TestWithoutAKey:
    def test_open_tasks_say_so_until_somebody_has_one(self, store: Store) -> None:
        one, other = told(store, registered("t1")), told(store, registered("t2", provider="x"))
        without = noted(store, State.NO_KEY, reason=NO_KEY, has_key=False)
        told_of = {each.id: trouble(store, each) for each in (one, other)}
        polls(store)

        assert without.state is State.NO_KEY
        assert told_of == {one.id: NO_KEY, other.id: None}
        assert trouble(store, one) is None

    def test_a_process_that_has_one_goes_first(self, store: Store, clock: ManualClock) -> None:
        polls(store)

        at_once = noted(store, State.NO_KEY, reason=NO_KEY, has_key=False)
        clock.advance(seconds=1 + UNATTENDED.total_seconds())
        later = noted(store, State.NO_KEY, reason=NO_KEY, has_key=False)

        # on SQLite there is no other process
        expected = State.IDLE if store.database.postgresql else State.NO_KEY
        assert (at_once.state, later.state) == (expected, State.NO_KEY)


class TestWhatIsShown:
    def test_without_any_process_that_polls_it_is_idle_and_says_so(
        self, store: Store, clock: ManualClock
    ) -> None:
        down = noted(store, State.DOWN, reason=REASON, asked_ago=timedelta(0))

        shown = down.at(clock() + UNATTENDED + timedelta(seconds=1))

        assert down.at(clock() + UNATTENDED) == down
        assert (shown.state, shown.reason and shown.reason.code) == (State.IDLE, "not_polled")

    def test_when_nothing_is_asked_any_more_it_is_idle(
        self, store: Store, clock: ManualClock
    ) -> None:
        noted(store, State.OK, asked_ago=timedelta(0))
        asked = clock()
        clock.advance(seconds=1 + QUIET.total_seconds())
        quiet = polls(store)

        assert quiet.at(clock()).state is State.IDLE
        assert quiet.at(clock()).since == asked
        assert noted(store, asked_ago=timedelta(0)).at(clock()).state is State.OK


def test_past_states_go_with_retention_and_the_current_one_stays(
    store: Store, clock: ManualClock
) -> None:
    for state in (State.OK, State.DOWN, State.OK, State.DOWN):
        noted(store, state)
    clock.advance(days=31)

    gone = [store.write_now(prune, Prune(timedelta(days=30), limit=2)) for _ in range(5)]

    assert history(store) == [State.DOWN]
    assert gone[-1] == 0


class TestTwoProcesses:
    @pytest.fixture
    def pair(self, postgresql_url: str, clock: ManualClock) -> Iterator[tuple[Store, Store]]:
        one, other = (Store(open_database(postgresql_url), clock) for _ in range(2))
        yield one, other
        one.close()
        other.close()

    def test_that_note_the_same_at_once_make_one_row_and_one_event(
        self, pair: tuple[Store, Store]
    ) -> None:
        note = Note("minimax", "MiniMax", State.DOWN, reason=REASON)
        waiting = [store._writer.submit(note_states, note) for store in pair for _ in range(3)]
        found = [each.result().state for each in waiting]

        assert found == [State.DOWN] * 6
        assert history(pair[0]) == [State.DOWN]
        assert len(bodies(pair[1], "provider.down")) == 1
