"""Revoked tokens, and tokens for one task, on real databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from store.callback_tokens import (
    NONE_REVOKED,
    TOKENS,
    ForeignPushError,
    make_token_id,
    read_revoked,
    revoke,
)
from store.clock import ManualClock
from store.database import open_database
from store.errors import ConflictError
from store.events import Status
from store.records import Receipt, Recorded, Report, record
from store.retention import Prune, prune
from store.store import Store
from store.tables import callback_tokens, events, receipts, tasks
from tests.making import push, rows, tell, together
from tests.patience import PATIENCE_SECONDS

ONE, OTHER = make_token_id(None, 1), make_token_id(None, 2)


def revoked(store: Store) -> frozenset[str]:
    return store.read_now(read_revoked, NONE_REVOKED).ids


def single(task: str, token_id: str = ONE, status: Status = Status.SUCCEEDED) -> Report:
    """A push with a token for one task."""
    report = push(task, status, token_id=token_id)
    return _with_receipt(report, Receipt(token_id, b"{}", single_task=True))


def _with_receipt(report: Report, receipt: Receipt) -> Report:
    values = {name: getattr(report, name) for name in Report.__slots__}
    return Report(**{**values, "receipt": receipt})


class TestRevoking:
    def test_a_token_without_a_row_is_revoked(self, store: Store, clock: ManualClock) -> None:
        assert store.write_now(revoke, ONE) is True

        assert revoked(store) == {ONE}
        (row,) = rows(store, callback_tokens)
        assert (row["provider_task_id"], row["revoked_at"]) == (None, clock())

    def test_a_bound_token_is_revoked_and_stays_bound(self, store: Store) -> None:
        tell(store, single("t1"))

        store.write_now(revoke, ONE)

        (row,) = rows(store, callback_tokens)
        assert (row["provider_task_id"], row["revoked_at"] is None) == ("t1", False)
        assert revoked(store) == {ONE}

    def test_revoking_again_changes_nothing(self, store: Store, clock: ManualClock) -> None:
        store.write_now(revoke, ONE)
        before, known = rows(store, callback_tokens), store.read_now(read_revoked, NONE_REVOKED)
        clock.advance(minutes=1)

        assert store.write_now(revoke, ONE) is False

        assert rows(store, callback_tokens) == before
        assert store.read_now(read_revoked, known) is known

    async def test_several_are_revoked_in_one_transaction(self, store: Store) -> None:
        answers = await together(store, revoke, [ONE, OTHER, ONE])

        assert answers == [True, True, True]
        assert revoked(store) == {ONE, OTHER}

    def test_what_is_known_is_read_again_only_after_a_revocation(self, store: Store) -> None:
        assert store.read_now(read_revoked, NONE_REVOKED) is NONE_REVOKED
        tell(store, single("t1"))
        assert store.read_now(read_revoked, NONE_REVOKED) is NONE_REVOKED

        store.write_now(revoke, ONE)
        first = store.read_now(read_revoked, NONE_REVOKED)
        store.write_now(revoke, OTHER)
        second = store.read_now(read_revoked, first)

        assert first.ids == {ONE}
        assert second.ids == {ONE, OTHER}
        assert second.version > first.version

    def test_listeners_hear_of_it(self, store: Store) -> None:
        heard: list[str] = []
        store.listen(TOKENS, lambda: heard.append("revoked"))

        tell(store, single("t1"))
        store.write_now(revoke, ONE)
        store.write_now(revoke, ONE)
        store.write_now(revoke, OTHER)

        store.close()  # what listeners are told comes after the answer
        assert heard == ["revoked", "revoked"]

    def test_there_is_an_end_to_what_every_process_has_to_remember(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("store.callback_tokens.MOST_REVOKED", 1)
        store.write_now(revoke, ONE)

        with pytest.raises(ConflictError, match="secret key"):
            store.write_now(revoke, OTHER)

        store.write_now(revoke, ONE)
        assert revoked(store) == {ONE}


class TestTokensForOneTask:
    def test_the_first_task_that_uses_it_has_it(self, store: Store, clock: ManualClock) -> None:
        tell(store, single("t1", status=Status.PROCESSING))
        with pytest.raises(ForeignPushError):
            tell(store, single("t2"))
        tell(store, single("t1"))

        assert [row["provider_task_id"] for row in rows(store, tasks)] == ["t1"]
        assert [row["type"] for row in rows(store, events)] == ["task.processing", "task.succeeded"]
        kept = [(row["verdict"], row["provider_task_id"]) for row in rows(store, receipts)]
        assert kept == [("recorded", "t1"), ("foreign", "t2"), ("recorded", "t1")]
        (row,) = rows(store, callback_tokens)
        assert (row["id"], row["provider"], row["provider_task_id"]) == (ONE, "minimax", "t1")
        assert row["seen_at"] == clock()

    async def test_within_one_transaction_the_first_task_has_it_too(self, store: Store) -> None:
        reports = [single("t1"), single("t2"), push("t2"), single("t1"), single("t3", OTHER)]

        answers = await together(store, record, reports)

        assert [isinstance(answer, Recorded) for answer in answers] == [
            True,
            False,
            True,
            True,
            True,
        ]
        assert isinstance(answers[1], ForeignPushError)
        assert sorted(row["provider_task_id"] for row in rows(store, tasks)) == ["t1", "t2", "t3"]

    def test_a_foreign_push_touches_no_task(self, store: Store) -> None:
        tell(store, single("mine", status=Status.PROCESSING))
        tell(store, push("yours", Status.PROCESSING, token_id=OTHER))
        before = rows(store, tasks)

        with pytest.raises(ForeignPushError):
            tell(store, single("yours", status=Status.FAILED))

        assert rows(store, tasks) == before
        assert rows(store, receipts)[-1]["task_id"] is None

    def test_a_token_that_was_revoked_unused_is_for_no_task(self, store: Store) -> None:
        store.write_now(revoke, ONE)

        with pytest.raises(ForeignPushError):
            tell(store, single("t1"))

        assert rows(store, tasks) == []

    def test_tokens_for_many_tasks_cost_no_question(self, store: Store) -> None:
        tell(store, push("t1"))
        tell(store, push("t2"))

        assert rows(store, callback_tokens) == []

    def test_of_two_processes_one_binds_it(self, postgresql_url: str, clock: ManualClock) -> None:
        stores = [Store(open_database(postgresql_url), clock) for _ in range(2)]
        names = [make_token_id(None, number) for number in range(20)]

        def use(number: int) -> int:
            """How many of its pushes were taken."""
            taken = 0
            for token_id in names:
                try:
                    tell(stores[number], single(f"{token_id}-{number}", token_id))
                    taken += 1
                except ForeignPushError:
                    continue
            return taken

        with ThreadPoolExecutor(2) as threads:
            taken = sum(threads.map(use, range(2)))

        bound = {row["provider_task_id"] for row in rows(stores[0], callback_tokens)}
        assert taken == len(names)
        assert {row["provider_task_id"] for row in rows(stores[0], tasks)} == bound
        assert len(bound) == len(names)
        for store in stores:
            store.close()

    def test_a_binding_that_another_process_is_about_to_commit_counts(
        self, postgresql_url: str, clock: ManualClock
    ) -> None:
        store = Store(open_database(postgresql_url), clock)
        failed: list[BaseException] = []

        def use() -> None:
            try:
                tell(store, single("t2"))
            except ForeignPushError as error:
                failed.append(error)

        with psycopg.connect(postgresql_url) as other:
            other.execute(
                "INSERT INTO callback_tokens (id, provider, provider_task_id, seen_at)"
                " VALUES (%s, 'minimax', 't1', now())",
                [ONE],
            )
            using = threading.Thread(target=use)
            using.start()
            other.commit()
        using.join(PATIENCE_SECONDS)

        assert len(failed) == 1
        assert rows(store, tasks) == []
        store.close()


class TestForgetting:
    def test_ids_sort_by_the_time_their_tokens_end(self, clock: ManualClock) -> None:
        now = clock()
        ends = [None, now, now + timedelta(days=1), now - timedelta(days=1), now]

        ids = [make_token_id(end, noise) for noise, end in enumerate(ends)]

        assert sorted(ids) == [ids[3], ids[1], ids[4], ids[2], ids[0]]
        assert {len(token_id) for token_id in ids} == {29}

    def test_what_is_known_of_a_token_goes_a_day_after_its_end(
        self, store: Store, clock: ManualClock
    ) -> None:
        ended = make_token_id(clock() + timedelta(days=7), 1)
        later = make_token_id(clock() + timedelta(days=9), 1)
        for token_id in (ended, later, ONE, "tok1"):
            store.write_now(revoke, token_id)
        tell(store, single("t1", make_token_id(clock() + timedelta(days=7), 2)))
        clock.advance(days=8, minutes=1)

        steps = [store.write_now(prune, Prune(timedelta(days=30), limit=1)) for _ in range(3)]

        assert steps == [1, 1, 0]
        assert {row["id"] for row in rows(store, callback_tokens)} == {later, ONE, "tok1"}
        assert len(rows(store, tasks)) == 1


def verdicts(store: Store) -> list[Any]:
    return [row["verdict"] for row in rows(store, receipts)]


class TestOnlyNews:
    """What a token may leave behind is used up: only what brings something is kept."""

    def test_pushes_that_bring_nothing_leave_no_receipt(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        steps = (Status.PROCESSING, Status.PROCESSING, Status.QUEUED, Status.SUCCEEDED)

        for status in (*steps, Status.SUCCEEDED, Status.FAILED):
            tell(store, _with_receipt(push("t1", status), Receipt("tok", b"{}", only_news=True)))

        assert verdicts(store) == ["recorded", "recorded"]
        assert caplog.records == []  # a contradiction is logged when its receipt is kept

    def test_an_unknown_task_that_is_held_leaves_one(self, store: Store) -> None:
        for _ in range(3):
            held = push("t1", hold=True)
            tell(store, _with_receipt(held, Receipt("tok", b"{}", only_news=True)))

        assert verdicts(store) == ["held"]
