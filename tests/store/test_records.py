"""Recording: whatever is pushed, polled, repeated or reordered, on real databases."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import subscriptions
from store.callback_tokens import ForeignPushError
from store.clock import ManualClock
from store.database import open_database
from store.durations import Durations, Ending, Model, known_durations
from store.errors import TooLargeError
from store.eventlog import list_events
from store.events import Failure, Kind, Output, Source, Status, TaskUpdate, Verdict
from store.outbox import DELIVERIES
from store.records import (
    METADATA_BYTES,
    POLLS,
    Receipt,
    Recorded,
    Registration,
    Report,
    Unread,
    keep_unread,
    record,
)
from store.store import Store
from store.tables import deliveries, events, receipts, tasks
from store.tasks import PollClaim, claim_due, get_task
from store.writer import Operation, Tx
from tests.making import (
    ASK_IN,
    LEASE,
    TIMEOUT,
    poll,
    push,
    registered,
    rows,
    subscribe,
    tell,
    together,
    told,
)

NUL = "a\x00b"
LONE_SURROGATE = "a\ud83db"
LONG = "长" * 100_000


def types(store: Store, task_id: str | None = None) -> list[str]:
    views = store.read_now(list_events, limit=100_000, task_id=task_id)
    return [view.body["type"] for view in views]


def claimed_fence(store: Store, provider: str = "minimax") -> int:
    """Claim the one task that is due; the fence of the claim."""
    limit = {provider: 1}
    claimed = store.write_now(claim_due, PollClaim("poller", limit, limit, LEASE))
    return claimed.tasks[0].poll_fence


class TestPushes:
    def test_a_push_for_an_unknown_task_registers_it(
        self, store: Store, clock: ManualClock
    ) -> None:
        start = Registration(
            TIMEOUT, kind=Kind.VIDEO, model="m-1", family="v1", metadata={"customer": "42"}
        )

        recorded = tell(store, push("t1", Status.PROCESSING, registration=start))

        assert recorded.verdict is Verdict.RECORDED
        assert recorded.created
        task = recorded.task
        assert task is not None
        assert store.read_now(get_task, task.id) == task
        assert (task.kind, task.model, task.family) == (Kind.VIDEO, "m-1", "v1")
        assert task.metadata == {"customer": "42"}
        assert (task.version, task.status, task.source) == (1, Status.PROCESSING, Source.PUSH)
        assert task.deadline_at == clock() + TIMEOUT
        assert task.expect_push

    def test_a_repeated_push_is_recorded_once(self, store: Store) -> None:
        first = tell(store, push())
        again = tell(store, push())

        assert (first.verdict, again.verdict) == (Verdict.RECORDED, Verdict.REPEATED)
        assert (first.event_id is None, again.event_id is None) == (False, True)
        assert again.task == first.task
        assert types(store) == ["task.succeeded"]

    def test_a_late_word_about_an_earlier_state_is_stale(self, store: Store) -> None:
        told(store, push(status=Status.SUCCEEDED))

        recorded = tell(store, push(status=Status.PROCESSING))

        assert recorded.verdict is Verdict.STALE
        assert types(store) == ["task.succeeded"]

    def test_the_same_id_at_two_providers_is_two_tasks(self, store: Store) -> None:
        one = told(store, push("t1", provider="minimax"))
        other = told(store, push("t1", provider="atlascloud"))

        assert one.id != other.id
        assert len(rows(store, tasks)) == 2

    def test_an_update_of_an_unknown_task_without_a_registration_makes_nothing(
        self, store: Store
    ) -> None:
        recorded = tell(store, push(registration=None))

        assert recorded == Recorded(Verdict.STALE, None)
        assert rows(store, tasks) == []
        assert [row["task_id"] for row in rows(store, receipts)] == [None]

    def test_a_contradicting_ending_is_kept_as_a_receipt_and_logged(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        task = told(store, push(status=Status.SUCCEEDED))

        with caplog.at_level(logging.WARNING):
            recorded = tell(store, push(status=Status.FAILED, raw=b'{"status": "Fail"}'))

        assert recorded.verdict is Verdict.CONTRADICTION
        assert recorded.task == task
        assert types(store) == ["task.succeeded"]
        kept = rows(store, receipts)[-1]
        assert (kept["verdict"], kept["raw"]) == ("contradiction", b'{"status": "Fail"}')
        assert task.id in caplog.text

    def test_every_push_leaves_a_receipt_with_its_verdict(
        self, store: Store, clock: ManualClock
    ) -> None:
        pushes = (Status.PROCESSING, Status.PROCESSING, Status.QUEUED, Status.FAILED)

        for number, status in enumerate(pushes):
            tell(store, push("t1", status, raw=b"%d" % number, token_id="tok_9"))

        task = rows(store, tasks)[0]
        kept = rows(store, receipts)
        assert [row["verdict"] for row in kept] == ["recorded", "repeated", "stale", "recorded"]
        assert [row["raw"] for row in kept] == [b"0", b"1", b"2", b"3"]
        for row in kept:
            assert (row["task_id"], row["provider_task_id"]) == (task["id"], "t1")
            assert (row["token_id"], row["received_at"]) == ("tok_9", clock())

    def test_polls_leave_no_receipt(self, store: Store) -> None:
        told(store, registered())
        told(store, poll())

        assert rows(store, receipts) == []

    def test_news_without_a_step_changes_the_task_and_makes_no_event(self, store: Store) -> None:
        told(store, push(status=Status.PROCESSING))

        recorded = tell(store, push(status=Status.PROCESSING, progress=0.4))

        assert (recorded.verdict, recorded.event_id) == (Verdict.REPEATED, None)
        assert recorded.task is not None
        stored = store.read_now(get_task, recorded.task.id)
        assert stored is not None
        assert (stored.progress, stored.version) == (0.4, 1)
        assert types(store) == ["task.processing"]

    def test_an_unreadable_push_is_kept_and_makes_the_tasks_of_its_token_due(
        self, store: Store, clock: ManualClock
    ) -> None:
        mine = told(store, push("mine", Status.PROCESSING, token_id="tok_1"))
        other = told(store, push("other", Status.PROCESSING, token_id="tok_2"))

        store.write_now(keep_unread, Unread("minimax", Receipt("tok_1", b"\xff<html>")))

        kept = rows(store, receipts)[-1]
        assert (kept["verdict"], kept["raw"]) == ("unreadable", b"\xff<html>")
        due = {row["id"]: row["next_poll_at"] for row in rows(store, tasks)}
        assert due == {mine.id: clock(), other.id: clock() + ASK_IN}


class TestBatches:
    async def test_many_updates_of_one_task_share_a_transaction(self, store: Store) -> None:
        steps = [Status.QUEUED, Status.PROCESSING, Status.QUEUED, Status.SUCCEEDED, Status.FAILED]

        recorded = await tell_together(store, [push("t1", step) for step in steps])

        assert [r.verdict for r in recorded] == [
            *(Verdict.RECORDED, Verdict.RECORDED, Verdict.STALE),
            *(Verdict.RECORDED, Verdict.CONTRADICTION),
        ]
        assert [r.created for r in recorded] == [True, False, False, False, False]
        assert len({r.task.id for r in recorded if r.task}) == 1
        assert types(store) == ["task.queued", "task.processing", "task.succeeded"]
        assert [row["version"] for row in rows(store, events)] == [1, 2, 3]
        assert rows(store, tasks)[0]["version"] == 3

    async def test_a_known_task_goes_several_steps_in_a_batch(self, store: Store) -> None:
        task = told(store, registered())

        await tell_together(store, [push(status=Status.PROCESSING), push(status=Status.FAILED)])

        stored = store.read_now(get_task, task.id)
        assert stored is not None
        assert (stored.status, stored.version) == (Status.FAILED, 3)
        assert types(store, task.id) == ["task.queued", "task.processing", "task.failed"]

    async def test_answers_come_in_the_order_of_the_questions(self, store: Store) -> None:
        recorded = await tell_together(store, [push(f"t{number}") for number in range(50)])

        names = [r.task.provider_task_id for r in recorded if r.task]
        assert names == [f"t{number}" for number in range(50)]

    async def test_events_get_increasing_cursors_in_the_order_they_came(self, store: Store) -> None:
        await tell_together(store, [push(f"t{number}") for number in range(20)])
        await tell_together(store, [push(f"t{number}") for number in range(20, 40)])

        views = store.read_now(list_events, limit=100)
        cursors = [view.cursor for view in views]
        assert cursors == sorted(set(cursors))
        names = [view.body["data"]["task"]["provider_task_id"] for view in views]
        assert names == [f"t{number}" for number in range(40)]


async def tell_together(store: Store, reports: list[Report]) -> list[Recorded]:
    answers = await together(store, record, reports)
    recorded = [answer for answer in answers if isinstance(answer, Recorded)]
    assert len(recorded) == len(reports)
    return recorded


class TestDeliveries:
    def test_an_event_is_owed_to_each_subscription_that_wants_it(
        self, store: Store, clock: ManualClock
    ) -> None:
        wanting = [subscribe(store).id, subscribe(store).id]
        subscribe(store, types=("task.failed",))

        event_id = tell(store, push(status=Status.SUCCEEDED)).event_id

        owed = rows(store, deliveries)
        assert [row["subscription_id"] for row in owed] == wanting
        for row in owed:
            assert (row["event_id"], row["status"], row["due_at"]) == (event_id, "pending", clock())
            assert (row["task_version"], row["attempts"], row["fence"]) == (1, 0, 0)

    @pytest.mark.parametrize(
        ("wishes", "expected"),
        [
            pytest.param({}, ["task.processing", "task.succeeded"], id="no condition"),
            pytest.param({"types": ("task.succeeded",)}, ["task.succeeded"], id="type"),
            pytest.param({"types": ("task.failed",)}, [], id="another type"),
            pytest.param(
                {"providers": ("minimax",)}, ["task.processing", "task.succeeded"], id="p"
            ),
            pytest.param({"providers": ("atlascloud",)}, [], id="another provider"),
            pytest.param(
                {"metadata": {"customer": "42"}},
                ["task.processing", "task.succeeded"],
                id="metadata",
            ),
            pytest.param({"metadata": {"customer": "7"}}, [], id="other metadata"),
            pytest.param({"types": ("delivery.dead",)}, [], id="only about Taskbell"),
        ],
    )
    def test_a_subscription_gets_only_what_it_asked_for(
        self, store: Store, wishes: dict[str, Any], expected: list[str]
    ) -> None:
        subscribe(store, **wishes)
        start = Registration(TIMEOUT, metadata={"customer": "42", "order": 7})

        tell(store, push(status=Status.PROCESSING, registration=start))
        tell(store, push(status=Status.SUCCEEDED))

        owed = [row["event_id"] for row in rows(store, deliveries)]
        kinds = {row["id"]: row["type"] for row in rows(store, events)}
        assert [kinds[event_id] for event_id in owed] == expected

    def test_a_change_of_a_subscription_counts_from_the_next_event_on(self, store: Store) -> None:
        subscription = subscribe(store, types=("task.failed",))
        tell(store, push("t1"))
        edit = subscriptions.Edit(subscription.id, {"types": ("task.*",)})
        store.write_now(subscriptions.edit, edit)
        tell(store, push("t2"))
        store.write_now(subscriptions.delete, subscription.id)
        tell(store, push("t3"))

        owed = rows(store, deliveries)
        named = {row["id"]: row["provider_task_id"] for row in rows(store, tasks)}
        assert [named[row["task_id"]] for row in owed] == ["t2"]

    def test_an_event_that_nobody_wants_is_stored_all_the_same(self, store: Store) -> None:
        tell(store, push())

        assert types(store) == ["task.succeeded"]
        assert rows(store, deliveries) == []

    def test_the_body_is_what_the_contract_says(self, store: Store, clock: ManualClock) -> None:
        told(store, push(status=Status.PROCESSING))
        clock.advance(seconds=90)
        outputs = (Output(url="https://cdn.example/长.mp4", kind=Kind.VIDEO, expires_at=clock()),)

        recorded = tell(store, push(status=Status.SUCCEEDED, outputs=outputs, trusted=True))

        stored = rows(store, events)[-1]["body"]
        body = json.loads(stored)
        task = recorded.task
        assert task is not None
        assert list(body) == ["id", "type", "timestamp", "data"]
        assert (body["id"], body["type"]) == (recorded.event_id, "task.succeeded")
        assert body["timestamp"] == "2026-01-01T12:01:30.000000Z"
        assert body["data"]["previous_status"] == "processing"
        assert (body["data"]["source"], body["data"]["late"]) == ("push", False)
        assert body["data"]["task"]["id"] == task.id
        assert body["data"]["task"]["confirmed"] is True
        assert body["data"]["task"]["finished_at"] == "2026-01-01T12:01:30.000000Z"
        assert body["data"]["task"]["outputs"] == [
            {
                "url": "https://cdn.example/长.mp4",
                "kind": "video",
                "file_id": None,
                "expires_at": "2026-01-01T12:01:30.000000Z",
                "note": None,
            }
        ]

    def test_listeners_hear_of_deliveries_only_when_there_are_some(self, store: Store) -> None:
        heard: list[str] = []
        store.listen(DELIVERIES, lambda: heard.append("deliveries"))
        store.listen(POLLS, lambda: heard.append("polls"))

        tell(store, push("t1", Status.SUCCEEDED))
        tell(store, push("t2", Status.PROCESSING))
        subscribe(store)
        tell(store, push("t3", Status.SUCCEEDED))

        assert heard == ["deliveries"]


class TestHeldPushes:
    """Nobody signed them: the provider is asked before an ending becomes an event."""

    def test_an_unsigned_ending_of_an_unknown_task_makes_no_event(
        self, store: Store, clock: ManualClock
    ) -> None:
        recorded = tell(store, push(hold=True))

        assert (recorded.verdict, recorded.created) == (Verdict.HELD, True)
        task = recorded.task
        assert task is not None
        assert (task.version, task.status, task.confirmed) == (0, Status.QUEUED, False)
        assert (task.next_poll_at, task.hint_at) == (clock(), clock())
        assert types(store) == []
        assert [row["verdict"] for row in rows(store, receipts)] == ["held"]

    def test_what_was_held_is_kept_word_for_word(self, store: Store, clock: ManualClock) -> None:
        said: dict[str, Any] = {
            "provider_status": "Success",
            "provider_task_id": "t1",
            "kind": Kind.VIDEO,
            "model": "m-1",
            "family": "v1",
            "progress": 1.0,
            "outputs": (Output("https://cdn.example/1.mp4", Kind.VIDEO, "f1", clock()), Output()),
            "error": Failure("1026", "sensitive"),
            "usage": {"seconds": 6, "nested": [1, {"a": None}]},
        }

        task = told(store, push(hold=True, **said))

        stored = store.read_now(get_task, task.id)
        assert stored is not None
        assert stored.hint == TaskUpdate(Status.SUCCEEDED, **said)
        assert stored == task

    def test_a_trusted_poll_makes_the_event(self, store: Store) -> None:
        told(store, push(hold=True))

        recorded = tell(store, poll(fence=claimed_fence(store)))

        assert recorded.verdict is Verdict.RECORDED
        task = recorded.task
        assert task is not None
        assert (task.status, task.version, task.confirmed) == (Status.SUCCEEDED, 1, True)
        assert (task.source, task.rescued_by_poll) == (Source.PUSH, False)
        assert (task.hint, task.next_poll_at) == (None, None)
        assert types(store) == ["task.succeeded"]

    def test_the_providers_word_counts_against_the_pushs(self, store: Store) -> None:
        told(store, push(status=Status.SUCCEEDED, hold=True))

        told(store, poll(status=Status.PROCESSING))

        assert types(store) == ["task.processing"]

    def test_an_ending_of_a_known_task_waits_too(self, store: Store, clock: ManualClock) -> None:
        told(store, registered())
        clock.advance(seconds=5)

        recorded = tell(store, push(hold=True))

        assert recorded.verdict is Verdict.HELD
        assert recorded.task is not None
        assert (recorded.task.status, recorded.task.next_poll_at) == (Status.QUEUED, clock())
        assert recorded.task.hint is not None
        assert types(store) == ["task.queued"]

    def test_a_step_of_a_known_task_does_not_wait(self, store: Store) -> None:
        told(store, registered())

        task = told(store, push(status=Status.PROCESSING, hold=True))

        assert (task.status, task.confirmed) == (Status.PROCESSING, False)
        assert types(store) == ["task.queued", "task.processing"]

    def test_the_first_ending_heard_is_the_hint(self, store: Store, clock: ManualClock) -> None:
        first = told(store, push(status=Status.SUCCEEDED, hold=True))
        clock.advance(seconds=30)

        again = tell(store, push(status=Status.FAILED, hold=True))

        assert again.verdict is Verdict.HELD
        assert again.task == first
        assert [row["verdict"] for row in rows(store, receipts)] == ["held", "held"]

    def test_an_ending_is_the_hint_also_when_a_step_was_held_first(
        self, store: Store, clock: ManualClock
    ) -> None:
        told(store, push(status=Status.PROCESSING, hold=True))
        clock.advance(seconds=30)

        task = told(store, push(status=Status.SUCCEEDED, hold=True))

        assert task.hint is not None
        assert (task.hint.status, task.hint_at) == (Status.SUCCEEDED, clock())

    def test_a_repetition_of_a_recorded_ending_is_not_held(self, store: Store) -> None:
        told(store, push(trusted=True))

        assert tell(store, push(hold=True)).verdict is Verdict.REPEATED

    def test_an_answer_on_its_way_does_not_cover_a_later_push(
        self, store: Store, clock: ManualClock
    ) -> None:
        told(store, registered(ask_in=timedelta(0)))
        fence = claimed_fence(store)
        held = told(store, push(hold=True))

        task = told(store, poll(status=Status.PROCESSING, fence=fence))

        assert (task.next_poll_at, task.poll_fence) == (clock(), held.poll_fence)

    def test_a_parked_task_is_asked_about_when_a_push_comes(
        self, store: Store, clock: ManualClock
    ) -> None:
        told(store, registered(ask_in=timedelta(0)))
        for _ in range(6):
            claim_all(store)
            clock.advance(seconds=31)
        assert rows(store, tasks)[0]["next_poll_at"] is None

        told(store, push(hold=True))

        assert [task.provider_task_id for task in claim_all(store)] == ["t1"]

    def test_what_was_held_can_be_recorded_as_it_came(self, store: Store) -> None:
        """The poller does so when the provider cannot be reached."""
        told(store, registered())
        told(store, push(hold=True))

        task = told(store, push(hold=False))

        assert (task.status, task.confirmed, task.hint) == (Status.SUCCEEDED, False, None)


def claim_all(store: Store, provider: str = "minimax") -> tuple[Any, ...]:
    limit = {provider: 100}
    return store.write_now(claim_due, PollClaim("poller", limit, limit, LEASE)).tasks


class TestRegistration:
    def test_a_registration_adopts_what_a_push_made_known(
        self, store: Store, clock: ManualClock
    ) -> None:
        held = told(store, push(hold=True, registration=Registration(timedelta(minutes=5))))
        clock.advance(seconds=10)

        recorded = tell(
            store,
            registered(kind=Kind.VIDEO, model="m-1", family="v1", metadata={"customer": "42"}),
        )

        assert (recorded.verdict, recorded.created) == (Verdict.RECORDED, False)
        task = recorded.task
        assert task is not None
        assert task.id == held.id
        assert (task.kind, task.model, task.family) == (Kind.VIDEO, "m-1", "v1")
        assert task.metadata == {"customer": "42"}
        assert task.deadline_at == held.created_at + TIMEOUT
        assert task.hint is not None
        assert task.next_poll_at == held.next_poll_at
        assert types(store) == ["task.queued"]
        assert store.read_now(get_task, task.id) == task

    def test_a_registration_after_the_ending_adds_its_metadata(self, store: Store) -> None:
        ended = told(store, push())

        recorded = tell(store, registered(metadata={"customer": "42"}))

        assert recorded.verdict is Verdict.STALE
        stored = store.read_now(get_task, ended.id)
        assert stored is not None
        assert stored.metadata == {"customer": "42"}
        assert (stored.status, stored.next_poll_at) == (Status.SUCCEEDED, None)
        assert types(store) == ["task.succeeded"]

    def test_a_second_registration_is_the_same_task_with_its_metadata_merged(
        self, store: Store
    ) -> None:
        first = told(store, registered(metadata={"customer": "42", "order": 1}, model="m-1"))

        second = tell(store, registered(metadata={"customer": "7"}, model="m-2"))
        third = tell(store, registered())

        assert (second.verdict, second.created, second.amended) == (Verdict.REPEATED, False, True)
        assert second.task is not None
        assert (second.task.id, second.task.metadata, second.task.model) == (
            *(first.id, {"customer": "7", "order": 1}, "m-1"),
        )
        assert (third.task, third.amended) == (second.task, False)
        assert types(store) == ["task.queued"]


def pushed_by(token_id: str, metadata: dict[str, Any], **details: Any) -> Report:
    report = push(token_id=token_id, **details)
    return replace(report, receipt=Receipt(token_id, b"{}", metadata))


def last_metadata(store: Store) -> Any:
    """What the newest event carries."""
    return store.read_now(list_events, limit=100)[-1].body["data"]["task"]["metadata"]


class TestMetadata:
    """Of the callback URL that a task is bound to, and of the call that tracks it."""

    URL: ClassVar = {"customer": "42", "from": "url"}
    CALL: ClassVar = {"order": 9, "from": "call"}
    BOTH: ClassVar = {"customer": "42", "order": 9, "from": "call"}

    @pytest.mark.parametrize("hold", [False, True], ids=["believed", "held"])
    @pytest.mark.parametrize("order", ["pushed first", "tracked first", "tracked last"])
    def test_both_are_merged_and_the_calls_keys_win_whichever_came_first(
        self, store: Store, order: str, hold: bool
    ) -> None:
        begun = pushed_by("tok_1", self.URL, status=Status.PROCESSING, hold=hold)
        ended = pushed_by("tok_1", self.URL, hold=hold)
        track = registered(metadata=self.CALL)
        reports = {
            "pushed first": [begun, track, ended],
            "tracked first": [track, begun, ended],
            "tracked last": [begun, ended, track],
        }

        for report in reports[order]:
            tell(store, report)
        tell(store, poll())

        [task] = rows(store, tasks)
        assert task["metadata"] == self.BOTH
        if order != "tracked last" or hold:  # that one had its last event before it was tracked
            assert last_metadata(store) == self.BOTH

    @pytest.mark.parametrize("track_first", [True, False])
    async def test_a_push_and_a_call_of_one_transaction_are_merged(
        self, store: Store, track_first: bool
    ) -> None:
        both = [registered(metadata=self.CALL), pushed_by("tok_1", self.URL)]

        await together(store, record, both if track_first else both[::-1])

        [task] = rows(store, tasks)
        assert task["metadata"] == self.BOTH

    async def test_a_push_and_a_call_in_two_processes_are_merged(
        self, store: Store, database_url: str, clock: ManualClock
    ) -> None:
        """On SQLite, which one process has, they are two writes at once."""
        other = store
        if database_url.startswith("postgresql"):
            other = Store(open_database(database_url), clock)
        try:
            for number in range(10):
                task = f"t{number}"
                track = registered(task, metadata=self.CALL)
                await asyncio.gather(
                    store.write(record, track),
                    other.write(record, pushed_by("tok_1", self.URL, task=task)),
                )
        finally:
            if other is not store:
                other.close()

        assert [task["metadata"] for task in rows(store, tasks)] == [self.BOTH] * 10

    @pytest.mark.parametrize("hold", [False, True], ids=["believed", "held"])
    @pytest.mark.parametrize("tracked", [False, True])
    def test_only_the_first_url_that_pushes_a_task_adds_any(
        self, store: Store, hold: bool, tracked: bool
    ) -> None:
        if tracked:
            tell(store, registered(metadata=self.CALL))
        tell(store, pushed_by("tok_1", self.URL, status=Status.PROCESSING, hold=hold))
        tell(store, pushed_by("tok_2", {"customer": "7", "planted": 1}, hold=hold))
        tell(store, poll())

        assert last_metadata(store) == (self.BOTH if tracked else self.URL)

    def test_a_url_without_metadata_binds_a_task_too(self, store: Store) -> None:
        tell(store, pushed_by("tok_1", {}, status=Status.PROCESSING))
        tell(store, pushed_by("tok_2", {"planted": 1}))
        tell(store, registered(metadata=self.CALL))

        [task] = rows(store, tasks)
        assert (task["token_id"], task["metadata"]) == ("tok_1", self.CALL)

    def test_a_push_after_the_ending_binds_the_task_too(self, store: Store) -> None:
        tell(store, registered(metadata=self.CALL))
        tell(store, poll())
        tell(store, pushed_by("tok_1", self.URL))
        tell(store, pushed_by("tok_2", {"planted": 1}))

        [task] = rows(store, tasks)
        assert (task["token_id"], task["metadata"]) == ("tok_1", self.BOTH)

    def test_a_push_without_room_for_a_task_of_its_own_adds_its_metadata_to_a_known_one(
        self, store: Store
    ) -> None:
        tell(store, registered(metadata=self.CALL))
        tell(store, pushed_by("tok_1", self.URL, registration=None))

        assert last_metadata(store) == self.BOTH

    def test_a_url_for_one_task_adds_nothing_to_another(self, store: Store) -> None:
        def single(task: str) -> Report:
            return push(task, receipt=Receipt("tok_1", b"{}", self.URL, single_task=True))

        tell(store, registered("t2"))
        tell(store, single("t1"))
        with pytest.raises(ForeignPushError):
            tell(store, single("t2"))

        found = {task["provider_task_id"]: task["metadata"] for task in rows(store, tasks)}
        assert found == {"t1": self.URL, "t2": {}}

    def test_a_subscriptions_filters_see_what_was_merged(self, store: Store) -> None:
        wishes: list[dict[str, Any]] = [
            {"metadata": self.BOTH},
            {"filter": {"data.task.metadata.customer": "42", "data.task.metadata.order": 9}},
            {"metadata": {"from": "url"}},
        ]
        wanted = [
            subscribe(store, f"https://{number}.example/", **wish).id
            for number, wish in enumerate(wishes)
        ]

        tell(store, registered(metadata=self.CALL))
        tell(store, pushed_by("tok_1", self.URL))

        assert [row["subscription_id"] for row in rows(store, deliveries)] == wanted[:2]

    def test_a_registration_that_makes_it_too_much_is_refused_and_changes_nothing(
        self, store: Store
    ) -> None:
        tell(store, pushed_by("tok_1", {"url": "a" * 1_000}, status=Status.PROCESSING))

        with pytest.raises(TooLargeError, match=f"at most {METADATA_BYTES} fit"):
            tell(store, registered(metadata={"call": "b" * (METADATA_BYTES - 1_000)}, model="m"))
        tell(store, registered(metadata={"url": "b" * (METADATA_BYTES - 1_000)}))  # in its place

        [task] = rows(store, tasks)
        assert (set(task["metadata"]), task["model"]) == ({"url"}, None)

    def test_a_push_is_not_lost_when_its_metadata_is_too_much(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        track = registered(metadata={"call": "b" * (METADATA_BYTES - 1_000)})
        tell(store, track)
        much = {"url": "a" * 1_000}
        tell(store, pushed_by("tok_1", much, status=Status.PROCESSING))
        tell(store, pushed_by("tok_1", much))

        assert set(last_metadata(store)) == {"call"}
        assert types(store)[-1] == "task.succeeded"
        assert [r.message for r in caplog.records if "does not fit" in r.message] == [
            f"the metadata of callback URL tok_1 does not fit into task {rows(store, tasks)[0]['id']}:"
            f" over {METADATA_BYTES} bytes together"
        ]


class TestCredit:
    def test_a_poll_that_finds_what_no_push_told_is_a_rescue(self, store: Store) -> None:
        told(store, registered(expect_push=True))

        task = told(store, poll())

        assert (task.rescued_by_poll, task.source, task.confirmed) == (True, Source.POLL, True)

    def test_a_task_that_expects_no_push_needs_no_rescue(self, store: Store) -> None:
        told(store, registered(expect_push=False))

        assert told(store, poll()).rescued_by_poll is False

    def test_only_an_ending_is_a_rescue(self, store: Store) -> None:
        told(store, registered(expect_push=True))

        assert told(store, poll(status=Status.PROCESSING)).rescued_by_poll is False

    @pytest.mark.parametrize("trusted", [True, False])
    def test_an_event_says_whether_the_provider_vouches_for_it(
        self, store: Store, trusted: bool
    ) -> None:
        tell(store, push(trusted=trusted))

        event = store.read_now(list_events, limit=1)[0]
        assert event.body["data"]["task"]["confirmed"] is trusted

    def test_an_ending_after_the_time_out_is_late(self, store: Store) -> None:
        told(store, push(status=Status.PROCESSING))
        told(store, poll(status=Status.TIMED_OUT))

        told(store, push(status=Status.SUCCEEDED))

        bodies = [view.body for view in store.read_now(list_events, limit=10)]
        assert [body["type"] for body in bodies] == [
            *("task.processing", "task.timed_out", "task.succeeded"),
        ]
        assert [body["data"]["late"] for body in bodies] == [False, False, True]


class TestLearning:
    """What recorded endings teach about how long a model takes."""

    @pytest.mark.parametrize(
        ("report", "learned"),
        [
            pytest.param(push(trusted=True), (80, 80), id="a signed push: the moment"),
            pytest.param(push(trusted=False), None, id="an unsigned one: nothing"),
            pytest.param(poll(), None, id="a poll when nobody knows when it was last open"),
            pytest.param(poll(unseen=timedelta(seconds=5)), (75, 80), id="a poll: since the last"),
            pytest.param(
                poll(status=Status.FAILED, unseen=timedelta(seconds=5)), None, id="a failure"
            ),
        ],
    )
    def test_an_ending_teaches_what_is_known_of_its_time(
        self,
        store: Store,
        clock: ManualClock,
        report: Report,
        learned: tuple[float, float] | None,
    ) -> None:
        tell(store, registered(model="hailuo", kind=Kind.VIDEO))
        clock.advance(seconds=80)

        tell(store, report)
        tell(store, report)

        model = Model("minimax", "hailuo", "video")
        ending = [Ending(model, *learned)] if learned else []
        known = store.read_now(known_durations)
        assert known.get(model, Durations()).counts == pytest.approx(
            Durations().taught(ending).counts, abs=0.001
        )

    def test_a_push_that_the_provider_confirmed_tells_the_moment_it_came(
        self, store: Store, clock: ManualClock
    ) -> None:
        tell(store, registered())
        clock.advance(seconds=80)
        tell(store, push(hold=True))
        clock.advance(seconds=30)

        tell(store, poll())

        assert _ages(store) == Durations().taught([Ending(_UNNAMED, 80, 80)]).counts

    def test_a_task_known_only_by_its_last_push_teaches_nothing(self, store: Store) -> None:
        tell(store, push(trusted=True))
        tell(store, push("t2", hold=True))
        tell(store, poll("t2"))

        assert store.read_now(known_durations) == {}


_UNNAMED = Model("minimax", "", "")


def _ages(store: Store) -> tuple[float, ...]:
    return store.read_now(known_durations)[_UNNAMED].counts


class TestThePlan:
    """When a task is asked about next."""

    def test_an_ended_task_is_asked_about_no_more(self, store: Store) -> None:
        assert told(store, registered()).next_poll_at is not None

        assert told(store, push()).next_poll_at is None

    def test_an_answer_sets_the_next_question_and_releases_the_claim(
        self, store: Store, clock: ManualClock
    ) -> None:
        told(store, registered(ask_in=timedelta(0)))
        fence = claimed_fence(store)

        task = told(store, poll(status=Status.PROCESSING, fence=fence))

        assert task.next_poll_at == clock() + ASK_IN
        assert (task.polls, task.poll_claims, task.poll_failures) == (1, 0, 0)
        assert task.poll_fence > fence

    def test_a_stale_answer_does_not_override_a_newer_plan(
        self, store: Store, clock: ManualClock
    ) -> None:
        told(store, registered(ask_in=timedelta(0)))
        stale = claimed_fence(store)
        clock.advance(seconds=31)
        newer = claimed_fence(store)

        late = told(store, poll(status=Status.PROCESSING, fence=stale, ask_in=timedelta(hours=1)))

        assert newer > stale
        assert late.status is Status.PROCESSING
        assert (late.next_poll_at, late.polls, late.poll_fence) == (clock() + LEASE, 0, newer)

    def test_a_stale_answer_is_recorded_all_the_same(self, store: Store) -> None:
        told(store, registered())

        recorded = tell(store, poll(fence=99))

        assert recorded.verdict is Verdict.RECORDED
        assert recorded.task is not None
        assert recorded.task.next_poll_at is None

    @pytest.mark.parametrize("ask_in", [timedelta(minutes=9), timedelta(minutes=11)])
    def test_the_next_question_is_never_later_than_the_deadline(
        self, store: Store, clock: ManualClock, ask_in: timedelta
    ) -> None:
        task = told(store, registered(timeout=timedelta(minutes=10), ask_in=ask_in))

        assert task.next_poll_at == min(clock() + ask_in, task.deadline_at)

    def test_after_the_deadline_a_task_is_not_asked_about_without_a_pause(
        self, store: Store, clock: ManualClock
    ) -> None:
        told(store, registered(timeout=timedelta(minutes=1), ask_in=timedelta(0)))
        clock.advance(seconds=61)
        fence = claimed_fence(store)

        task = told(store, poll(status=Status.PROCESSING, fence=fence))

        assert task.next_poll_at == clock() + ASK_IN

    def test_a_timed_out_task_is_asked_about_at_its_own_pace(
        self, store: Store, clock: ManualClock
    ) -> None:
        told(store, registered(timeout=timedelta(minutes=1)))
        clock.advance(minutes=2)

        task = told(store, poll(status=Status.TIMED_OUT, ask_in=timedelta(hours=1)))

        assert task.next_poll_at == clock() + timedelta(hours=1)


class TestHostileText:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            pytest.param(NUL, "a\ufffdb", id="NUL"),
            pytest.param(LONE_SURROGATE, "a\ufffdb", id="lone surrogate"),
            pytest.param(LONG, "长", id="100,000 characters"),
            pytest.param("\U0001f600\u202e", "\U0001f600\u202e", id="emoji, right to left"),
            pytest.param("'; DROP TABLE tasks; --", "'; DROP TABLE tasks; --", id="SQL"),
        ],
    )
    def test_no_text_of_a_provider_blocks_its_own_result(
        self, store: Store, given: str, kept: str
    ) -> None:
        report = push(
            provider_status=given,
            model=given,
            outputs=(Output(url=f"https://a.example/{given}", file_id=given),),
            error=Failure(given, given),
            usage={"prompt": given, given: [given, {"deep": given}]},
            raw=given.encode("utf-8", "surrogatepass"),
        )

        task = told(store, report)

        stored = store.read_now(get_task, task.id)
        assert stored == task
        assert stored.error is not None
        assert stored.usage is not None
        for text_kept in (stored.provider_status, stored.model, stored.outputs[0].file_id):
            assert text_kept is not None
            assert text_kept.startswith(kept)
        output = stored.outputs[0]
        assert output.url == (None if given == LONG else f"https://a.example/{kept}")
        assert (output.note is not None) == (given == LONG)
        assert stored.error.message.startswith(kept)
        assert stored.usage["prompt"].startswith(kept)
        assert rows(store, receipts)[0]["raw"] == given.encode("utf-8", "surrogatepass")
        body = store.read_now(list_events, limit=1)[0].body
        assert body["data"]["task"]["model"].startswith(kept)
        assert len(rows(store, events)[0]["body"]) < 200_000

    @pytest.mark.parametrize("given", [NUL, LONE_SURROGATE, LONG], ids=["NUL", "surrogate", "long"])
    def test_no_text_of_a_registration_blocks_its_task(self, store: Store, given: str) -> None:
        start: dict[str, Any] = {"model": given, "metadata": {"prompt": given, given: 1}}

        task = told(store, registered(**start))

        assert store.read_now(get_task, task.id) == task
        assert types(store) == ["task.queued"]

    def test_a_raw_body_is_kept_byte_for_byte(self, store: Store) -> None:
        raw = bytes(range(256)) * 4096

        tell(store, push(raw=raw))

        assert rows(store, receipts)[0]["raw"] == raw


TASKS = ("t1", "t2", "t3")
reports = st.builds(
    lambda make, task, status, hold: (
        push(task, status, hold=hold) if make == "push" else poll(task, status)
    ),
    make=st.sampled_from(["push", "poll"]),
    task=st.sampled_from(TASKS),
    status=st.sampled_from([s for s in Status if s is not Status.TIMED_OUT]),
    hold=st.booleans(),
)
batches = st.lists(st.lists(reports, min_size=1, max_size=6), min_size=1, max_size=6)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches)
def test_every_ended_task_has_exactly_one_final_event(
    store: Store, said: list[list[Report]]
) -> None:
    clear(store)

    for batch in said:
        anyio.run(tell_together, store, batch)

    reported = [report for batch in said for report in batch]
    for row in rows(store, tasks):
        story = rows(store, events, events.c.task_id == row["id"])
        ended = [e for e in story if Status(e["type"].removeprefix("task.")).final]
        mine = [r for r in reported if r.provider_task_id == row["provider_task_id"]]
        if Status(row["status"]).final:
            assert len(ended) == 1
            assert ended[0] is story[-1]
            assert row["next_poll_at"] is None
        else:
            assert ended == []
            first_push = next(at for at, report in enumerate(mine) if report.receipt)
            assert not any(r.update.status.final and not r.hold for r in mine[first_push:])
        assert [e["version"] for e in story] == list(range(1, row["version"] + 1))
    pushed = [report for report in reported if report.receipt]
    assert len(rows(store, receipts)) == len(pushed)


def clear(store: Store) -> None:
    """Start the next example with nothing told yet."""

    def empty(tx: Tx, items: Sequence[None]) -> list[None]:
        for table in (tasks, events, receipts):
            tx.connection.execute(table.delete())
        return list(items)

    store.write_now(Operation("clear", empty), None)
