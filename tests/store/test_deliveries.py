"""How an attempt went: the schedule, the dead, the disabled, and doing it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from store import subscriptions
from store.clock import ManualClock
from store.deliveries import (
    Attempt,
    DeliveryView,
    Finished,
    Replay,
    finish,
    get_delivery,
    list_deliveries,
    replay,
    retry,
)
from store.errors import ConflictError, NotFoundError
from store.eventlog import get_event
from store.events import Status
from store.matching import Subscription
from store.outbox import DELIVERIES
from store.outlet import Delivery
from store.records import Registration
from store.retention import cancel_leftovers
from store.store import Store
from store.subscriptions import get_subscription
from store.tables import attempts, deliveries, events
from tests.making import TIMEOUT, catch, push, rows, subscribe, tell, together

RETRY_IN = timedelta(minutes=5)


class Outcomes:
    """Finishes deliveries one way or another, at the clock's time."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self._store = store
        self._clock = clock

    def delivered(self, delivery: Delivery) -> None:
        self._finish(delivery, "delivered", 200, delivered=True)

    def failed(self, delivery: Delivery, retry_in: timedelta | None = RETRY_IN) -> None:
        self._finish(delivery, "retry", 500, error="status 500", retry_in=retry_in)

    def limited(self, delivery: Delivery, pause: timedelta) -> None:
        self._finish(delivery, "retry", 429, error="status 429", retry_in=pause, pause=pause)

    def buried(self, delivery: Delivery) -> None:
        self.failed(delivery, None)

    def refused(self, delivery: Delivery) -> None:
        self._finish(delivery, "refused", 410, error="status 410", refused="410 Gone")

    def doubted(self, delivery: Delivery, error: str, doubt: str | None) -> None:
        self._finish(delivery, "retry", 200, error=error, retry_in=RETRY_IN, doubt=doubt)

    def _finish(
        self,
        delivery: Delivery,
        result: str,
        status_code: int,
        *,
        delivered: bool = False,
        error: str | None = None,
        retry_in: timedelta | None = None,
        refused: str | None = None,
        pause: timedelta | None = None,
        doubt: str | None = None,
    ) -> None:
        attempt = Attempt(
            started_at=self._clock(),
            duration=timedelta(milliseconds=1_234.5),
            result=result,
            status_code=status_code,
            error=error,
            answer=b"the answer",
        )
        done = Finished(delivery, attempt, delivered, retry_in, refused, pause, doubt)
        self._store.write_now(finish, done)


@pytest.fixture
def outcomes(store: Store, clock: ManualClock) -> Outcomes:
    return Outcomes(store, clock)


def claimed(store: Store) -> Delivery:
    (delivery,) = catch(store).deliveries
    return delivery


def types(store: Store) -> list[str]:
    return [row["type"] for row in rows(store, events)]


def state(store: Store, delivery: Delivery) -> tuple[DeliveryView, list[Any]]:
    found = store.read_now(get_delivery, delivery.id)
    assert found is not None
    view, tries = found
    return view, list(tries)


class TestFinishing:
    def test_delivered(self, store: Store, clock: ManualClock, outcomes: Outcomes) -> None:
        subscribe(store)
        tell(store, push())
        delivery = claimed(store)

        outcomes.delivered(delivery)

        view, (attempt,) = state(store, delivery)
        assert (view.status, view.due_at, view.finished_at) == ("delivered", None, clock())
        assert (view.attempts, view.last_error) == (1, None)
        assert (attempt.number, attempt.result, attempt.status_code) == (1, "delivered", 200)
        assert (attempt.duration_ms, attempt.answer) == (1_234, "the answer")
        clock.advance(days=1)
        assert catch(store).deliveries == ()

    def test_retried(self, store: Store, clock: ManualClock, outcomes: Outcomes) -> None:
        subscribe(store)
        tell(store, push())
        first = claimed(store)

        outcomes.failed(first)
        view, _ = state(store, first)
        early = catch(store).deliveries
        clock.advance(seconds=300)
        second = claimed(store)

        assert (view.status, view.due_at) == ("pending", clock())
        assert (view.last_error, view.finished_at) == ("status 500", None)
        assert early == ()
        assert (second.id, second.attempt, second.failures) == (first.id, 2, 1)
        assert second.body == first.body

    def test_dead(self, store: Store, clock: ManualClock, outcomes: Outcomes) -> None:
        subscription = subscribe(store)
        tell(store, push())
        delivery = claimed(store)

        outcomes.buried(delivery)

        view, tries = state(store, delivery)
        assert (view.status, view.due_at, view.finished_at) == ("dead", None, clock())
        assert len(tries) == 1
        assert types(store) == ["task.succeeded", "delivery.dead"]
        body = json.loads(rows(store, events)[-1]["body"])
        assert body["data"] == {
            "delivery": {
                "id": delivery.id,
                "event_id": delivery.event_id,
                "event_type": "task.succeeded",
                "subscription_id": subscription.id,
                "attempts": 1,
                "last_error": "status 500",
            }
        }

    def test_every_attempt_is_kept(
        self, store: Store, clock: ManualClock, outcomes: Outcomes
    ) -> None:
        subscribe(store)
        tell(store, push())
        for _ in range(3):
            outcomes.failed(claimed(store))
            clock.advance(seconds=300)
        delivery = claimed(store)
        outcomes.delivered(delivery)

        view, tries = state(store, delivery)
        assert view.attempts == 4
        assert [one.number for one in tries] == [1, 2, 3, 4]
        assert [one.result for one in tries] == ["retry", "retry", "retry", "delivered"]

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(b"\x00\xff\xed\xa0\x80", id="not text"),
            pytest.param("长".encode() * 50_000, id="long, cut within a character"),
            pytest.param(b"", id="empty"),
        ],
    )
    def test_any_answer_can_be_kept(self, store: Store, clock: ManualClock, answer: bytes) -> None:
        subscribe(store)
        tell(store, push())
        delivery = claimed(store)
        error = "\x00 broke" + "x" * 100_000

        attempt = Attempt(clock(), timedelta(), "retry", None, error, answer)
        store.write_now(finish, Finished(delivery, attempt, delivered=False, retry_in=RETRY_IN))

        view, (kept,) = state(store, delivery)
        assert view.last_error is not None
        assert len(view.last_error) == len(kept.error) <= 500
        assert view.last_error.endswith("more are cut)")
        assert len(kept.answer or "") <= 2_048

    def test_the_dispatcher_hears_that_a_place_is_free(
        self, store: Store, outcomes: Outcomes
    ) -> None:
        subscribe(store)
        tell(store, push())
        delivery = claimed(store)
        heard: list[str] = []
        store.listen(DELIVERIES, lambda: heard.append("deliveries"))

        outcomes.delivered(delivery)

        assert heard == ["deliveries"]


class TestDeadLetters:
    def test_only_subscriptions_that_name_it_hear_of_a_dead_delivery(
        self, store: Store, outcomes: Outcomes
    ) -> None:
        subscribe(store)
        tell(store, push())
        first = claimed(store)
        subscribe(store, types=("task.*",))
        named = subscribe(store, types=("delivery.dead",))

        outcomes.buried(first)

        news = claimed(store)
        assert (news.subscription.id, news.event_type) == (named.id, "delivery.dead")
        assert (news.provider, news.subject) == (None, first.id)

    def test_there_is_no_dead_letter_about_a_dead_letter(
        self, store: Store, outcomes: Outcomes
    ) -> None:
        subscribe(store, types=("task.*", "delivery.dead"))
        tell(store, push())

        outcomes.buried(claimed(store))
        outcomes.buried(claimed(store))

        assert types(store) == ["task.succeeded", "delivery.dead"]
        assert catch(store).deliveries == ()
        assert [row["status"] for row in rows(store, deliveries)] == ["dead", "dead"]

    def test_a_stale_burial_is_not_announced(
        self, store: Store, clock: ManualClock, outcomes: Outcomes
    ) -> None:
        subscribe(store)
        tell(store, push())
        stale = claimed(store)
        clock.advance(seconds=31)
        claimed(store)

        outcomes.buried(stale)

        assert types(store) == ["task.succeeded"]


class TestDisabling:
    def fail_for(
        self, store: Store, clock: ManualClock, outcomes: Outcomes, days: float
    ) -> Delivery:
        """An attempt every six hours, all of them failing."""
        end = clock() + timedelta(days=days)
        while True:
            delivery = claimed(store)
            outcomes.failed(delivery, timedelta(hours=6))
            if clock() >= end:
                return delivery
            clock.advance(hours=6)

    def health(self, store: Store, subscription: Subscription) -> tuple[bool, str | None]:
        known = store.read_now(get_subscription, subscription.id)
        assert known is not None
        return known.active, known.disabled_reason

    def test_five_days_of_nothing_but_failures_disable_a_subscription(
        self, store: Store, clock: ManualClock, outcomes: Outcomes
    ) -> None:
        subscription = subscribe(store)
        named = subscribe(store, types=("subscription.disabled",))
        tell(store, push())

        self.fail_for(store, clock, outcomes, days=4.75)
        before = self.health(store, subscription)
        clock.advance(hours=6)
        outcomes.failed(claimed(store))

        assert before == (True, None)
        active, reason = self.health(store, subscription)
        assert not active
        assert reason == "nothing but failures for 5 days: status 500"
        assert types(store) == ["task.succeeded", "subscription.disabled"]
        body = json.loads(rows(store, events)[-1]["body"])
        assert body["data"] == {"subscription": {"id": subscription.id, "reason": reason}}
        clock.advance(hours=7)
        assert [d.subscription.id for d in catch(store).deliveries] == [named.id]

    def test_one_success_in_between_starts_the_count_again(
        self, store: Store, clock: ManualClock, outcomes: Outcomes
    ) -> None:
        subscription = subscribe(store)
        tell(store, push("t1"))
        self.fail_for(store, clock, outcomes, days=4)
        tell(store, push("t2"))
        outcomes.delivered(claimed(store))

        clock.advance(hours=6)
        self.fail_for(store, clock, outcomes, days=4)

        assert self.health(store, subscription) == (True, None)
        clock.advance(days=1)
        outcomes.failed(claimed(store))
        assert self.health(store, subscription)[0] is False

    def test_events_after_it_are_recorded_and_can_be_replayed(
        self, store: Store, clock: ManualClock, outcomes: Outcomes
    ) -> None:
        subscription = subscribe(store)
        tell(store, push("t1"))
        outcomes.refused(claimed(store))

        missed = tell(store, push("t2")).event_id
        assert missed is not None
        edit = subscriptions.Edit(subscription.id, {"active": True})
        revived = store.write_now(subscriptions.edit, edit)
        store.write_now(replay, Replay(missed, subscription.id))

        assert (revived.active, revived.disabled_reason, revived.failing_since) == (
            *(True, None, None),
        )
        assert claimed(store).event_id == missed

    def test_a_receiver_that_is_gone_is_disabled_at_once(
        self, store: Store, outcomes: Outcomes
    ) -> None:
        subscription = subscribe(store)
        tell(store, push())
        delivery = claimed(store)

        outcomes.refused(delivery)

        assert self.health(store, subscription) == (False, "410 Gone")
        assert state(store, delivery)[0].status == "dead"
        assert types(store) == ["task.succeeded", "subscription.disabled"]

    def test_a_refusal_in_doubtful_words_disables_at_the_third_attempt_in_a_row(
        self, store: Store, clock: ManualClock, outcomes: Outcomes
    ) -> None:
        subscription = subscribe(store)
        tell(store, push())

        for number in range(3):
            assert self.health(store, subscription) == (True, None)
            error = f"answered 300001: no {number} (gone?)"  # the words may differ
            outcomes.doubted(claimed(store), error, "answered 300001")
            clock.advance(minutes=10)

        reason = "answered 300001: no 2 (gone?) to 3 attempts in a row"
        assert self.health(store, subscription) == (False, reason)
        assert store.write_now(cancel_leftovers, 100) == 1

    @pytest.mark.parametrize(
        "between", ["answered 3000010: x (gone?)", "answered 88: x", "timed out after 15 s"]
    )
    def test_another_failure_in_between_begins_the_count_anew(
        self, store: Store, clock: ManualClock, outcomes: Outcomes, between: str
    ) -> None:
        subscription = subscribe(store)
        tell(store, push())
        same = "answered 300001: x (gone?)"

        for error in (same, same, between, same, same):
            doubt = "answered 300001" if error == same else None
            outcomes.doubted(claimed(store), error, doubt)
            clock.advance(minutes=10)

        assert self.health(store, subscription) == (True, None)

    def test_a_subscription_is_disabled_once(self, store: Store, outcomes: Outcomes) -> None:
        subscribe(store)
        tell(store, push("t1"))
        tell(store, push("t2"))
        one, other = catch(store).deliveries

        outcomes.refused(one)
        outcomes.refused(other)

        assert types(store).count("subscription.disabled") == 1


class TestLeftovers:
    def owed(self, store: Store, number: int) -> None:
        for task in range(number):
            tell(store, push(f"t{task}"))

    def statuses(self, store: Store) -> list[str]:
        return [row["status"] for row in rows(store, deliveries)]

    def test_what_is_owed_to_a_deleted_subscription_is_canceled_in_steps(
        self, store: Store, clock: ManualClock
    ) -> None:
        subscription = subscribe(store)
        self.owed(store, 5)
        store.write_now(subscriptions.delete, subscription.id)

        steps = [store.write_now(cancel_leftovers, 2) for _ in range(4)]

        assert steps == [2, 2, 1, 0]
        row = rows(store, deliveries)[0]
        assert (row["status"], row["due_at"], row["finished_at"]) == ("canceled", None, clock())
        assert row["last_error"] == "subscription deleted"

    def test_what_is_owed_to_a_disabled_subscription_is_canceled_with_the_reason(
        self, store: Store, outcomes: Outcomes
    ) -> None:
        subscribe(store, max_in_flight=1)
        self.owed(store, 2)
        outcomes.refused(claimed(store))

        assert store.write_now(cancel_leftovers, 100) == 1
        assert rows(store, deliveries)[1]["last_error"] == "subscription disabled: 410 Gone"

    def test_a_paused_subscription_loses_nothing(self, store: Store) -> None:
        paused = subscribe(store)
        self.owed(store, 2)
        store.write_now(subscriptions.edit, subscriptions.Edit(paused.id, {"active": False}))

        assert store.write_now(cancel_leftovers, 100) == 0
        assert self.statuses(store) == ["pending", "pending"]

    def test_what_is_in_flight_is_left_to_its_sender(
        self, store: Store, outcomes: Outcomes
    ) -> None:
        subscription = subscribe(store)
        self.owed(store, 1)
        delivery = claimed(store)
        store.write_now(subscriptions.delete, subscription.id)

        assert store.write_now(cancel_leftovers, 100) == 0
        outcomes.delivered(delivery)
        assert self.statuses(store) == ["delivered"]

    def test_what_a_dead_process_held_for_a_deleted_subscription_is_canceled(
        self, store: Store, clock: ManualClock
    ) -> None:
        subscription = subscribe(store)
        self.owed(store, 1)
        claimed(store)
        store.write_now(subscriptions.delete, subscription.id)
        clock.advance(seconds=31)

        assert store.write_now(cancel_leftovers, 100) == 1
        assert self.statuses(store) == ["canceled"]
        assert catch(store).leftovers is False


class TestRetrying:
    def test_the_dead_start_again_from_the_beginning(
        self, store: Store, clock: ManualClock, outcomes: Outcomes
    ) -> None:
        subscribe(store)
        tell(store, push())
        first = claimed(store)
        outcomes.buried(first)
        clock.advance(days=1)

        store.write_now(retry, first.id)

        again = claimed(store)
        assert (again.id, again.attempt, again.failures) == (first.id, 2, 0)
        assert state(store, first)[0].finished_at is None

    def test_a_waiting_one_goes_now(self, store: Store, outcomes: Outcomes) -> None:
        subscribe(store)
        tell(store, push())
        first = claimed(store)
        outcomes.failed(first)

        store.write_now(retry, first.id)

        assert claimed(store).id == first.id

    def test_a_canceled_one_can_be_sent_after_all(self, store: Store) -> None:
        subscription = subscribe(store)
        tell(store, push())
        owed = rows(store, deliveries)[0]["id"]
        edit = subscriptions.Edit
        off = edit(subscription.id, {"active": False, "disabled_reason": "by hand"})
        store.write_now(subscriptions.edit, off)
        store.write_now(cancel_leftovers, 10)
        store.write_now(subscriptions.edit, edit(subscription.id, {"active": True}))

        store.write_now(retry, owed)

        assert claimed(store).id == owed

    def test_what_is_on_its_way_or_there_is_refused(self, store: Store, outcomes: Outcomes) -> None:
        subscribe(store)
        tell(store, push())
        delivery = claimed(store)

        with pytest.raises(ConflictError, match="in_flight"):
            store.write_now(retry, delivery.id)
        outcomes.delivered(delivery)
        with pytest.raises(ConflictError, match="delivered"):
            store.write_now(retry, delivery.id)
        with pytest.raises(NotFoundError, match="dlv_unknown"):
            store.write_now(retry, "dlv_unknown")


class TestReplaying:
    def test_an_event_goes_again_to_all_who_want_it(self, store: Store, outcomes: Outcomes) -> None:
        old = subscribe(store, metadata={"customer": "42"})
        start = Registration(TIMEOUT, metadata={"customer": "42"})
        event_id = str(tell(store, push(registration=start)).event_id)
        first = claimed(store)
        outcomes.delivered(first)
        new = subscribe(store)
        subscribe(store, types=("task.failed",))
        subscribe(store, metadata={"customer": "7"})
        subscribe(store, active=False)

        made = store.write_now(replay, Replay(event_id))

        again = catch(store).deliveries
        assert {delivery.id for delivery in again} == set(made)
        assert {delivery.subscription.id for delivery in again} == {old.id, new.id}
        for delivery in again:
            assert (delivery.event_id, delivery.body) == (first.event_id, first.body)
            assert (delivery.attempt, delivery.failures) == (1, 0)

    def test_an_event_goes_to_the_one_that_was_named_whatever_it_wants(self, store: Store) -> None:
        event_id = str(tell(store, push()).event_id)
        picky = subscribe(store, types=("task.failed",))

        store.write_now(replay, Replay(event_id, picky.id))

        assert claimed(store).subscription.id == picky.id

    def test_an_event_about_taskbell_can_be_replayed(
        self, store: Store, outcomes: Outcomes
    ) -> None:
        subscribe(store)
        tell(store, push())
        outcomes.buried(claimed(store))
        dead = rows(store, events)[-1]["id"]
        named = subscribe(store, types=("delivery.dead",))

        assert len(store.write_now(replay, Replay(dead))) == 1
        assert claimed(store).subscription.id == named.id

    def test_nothing_that_is_not_there_can_be_replayed(self, store: Store) -> None:
        event_id = str(tell(store, push()).event_id)

        with pytest.raises(NotFoundError, match="evt_unknown"):
            store.write_now(replay, Replay("evt_unknown"))
        with pytest.raises(NotFoundError, match="sub_unknown"):
            store.write_now(replay, Replay(event_id, "sub_unknown"))
        assert rows(store, deliveries) == []


class TestListing:
    @pytest.fixture
    def made(self, store: Store, outcomes: Outcomes) -> list[str]:
        """Ids, oldest first: of three events to two subscriptions; one delivered, one dead."""
        subscribe(store)
        subscribe(store)
        for number in range(3):
            tell(store, push(f"t{number}"))
        one, other, *_ = catch(store, 2).deliveries
        outcomes.delivered(one)
        outcomes.buried(other)
        return [row["id"] for row in rows(store, deliveries)]

    def pages(self, store: Store, limit: int, **conditions: Any) -> Sequence[DeliveryView]:
        seen: list[DeliveryView] = []
        while page := store.read_now(
            list_deliveries, limit=limit, before=seen[-1].id if seen else None, **conditions
        ):
            seen += page
        return seen

    @pytest.mark.parametrize("limit", [1, 4, 100])
    def test_pages_hold_every_delivery_once_newest_first(
        self, store: Store, made: list[str], limit: int
    ) -> None:
        assert [view.id for view in self.pages(store, limit)] == made[::-1]

    def test_pages_may_be_narrowed(self, store: Store, made: list[str]) -> None:
        every = self.pages(store, 100)
        for name in ("status", "subscription_id", "event_id"):
            for value in {getattr(view, name) for view in every}:
                expected = [view for view in every if getattr(view, name) == value]
                assert self.pages(store, 1, **{name: value}) == expected

    def test_a_view_names_its_event(self, store: Store, made: list[str]) -> None:
        view = store.read_now(list_deliveries, limit=1)[0]

        event = store.read_now(get_event, view.event_id)
        assert event is not None
        assert event.body["type"] == view.event_type == "task.succeeded"
        assert view.task_id == event.body["data"]["task"]["id"]

    def test_an_unknown_delivery_is_none(self, store: Store) -> None:
        assert store.read_now(get_delivery, "dlv_unknown") is None


@pytest.mark.parametrize(("rate", "meanwhile"), [(1.0, 0), (None, 1)], ids=["paced", "not paced"])
def test_who_has_a_rate_and_asks_for_a_pause_is_left_alone(
    store: Store, clock: ManualClock, outcomes: Outcomes, rate: float | None, meanwhile: int
) -> None:
    subscribe(store, rate_per_second=rate)
    tell(store, push("t1"))
    outcomes.limited(claimed(store), timedelta(minutes=10))
    tell(store, push("t2"))

    clock.advance(seconds=599)
    taken = catch(store).deliveries
    assert len(taken) == meanwhile
    for delivery in taken:  # else it would keep the one place of a subscription that fails
        outcomes.delivered(delivery)

    clock.advance(seconds=1)
    assert len(catch(store).deliveries) == 1


async def test_a_batch_of_outcomes_is_written_together(store: Store, clock: ManualClock) -> None:
    subscribe(store)
    for number in range(6):
        tell(store, push(f"t{number}", Status.SUCCEEDED))
    caught = catch(store).deliveries
    ways: list[dict[str, Any]] = [{"delivered": True}, {"delivered": False, "retry_in": RETRY_IN}]
    ways.append({"delivered": False})
    attempt = Attempt(clock(), timedelta(seconds=1), "any", 200, "status 500")

    await together(
        store, finish, [Finished(d, attempt, **ways[n % 3]) for n, d in enumerate(caught)]
    )

    assert [row["status"] for row in rows(store, deliveries)] == [
        "delivered",
        "pending",
        "dead",
    ] * 2
    assert len(rows(store, attempts)) == 6
    assert types(store).count("delivery.dead") == 2
