"""Paused subscriptions: their deliveries are kept without a due time, and go out in order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from store import backlog, subscriptions
from store.backlog import count_kept, read_backlogs
from store.claims import Claim, claim, first_due
from store.clock import ManualClock
from store.deliveries import Attempt, Finished, Replay, finish, replay, retry
from store.errors import ConflictError, NotFoundError
from store.events import Status
from store.matching import Subscription
from store.outlet import Delivery, Outlet
from store.retention import Prune, cancel_leftovers, expire_waiting, prune
from store.store import Store
from store.subscriptions import Edit, Resume, edit, pause, resume
from store.tables import deliveries, events, tasks
from tests.making import LEASE, catch, push, rows, subscribe, tell, told
from tests.statements import watched

MONTH = timedelta(days=30)


def finished(store: Store, delivery: Delivery, clock: ManualClock, **how: Any) -> None:
    how = {"delivered": True} | how
    attempt = Attempt(clock(), timedelta(seconds=1), "x", 200, how.get("refused"))
    store.write_now(finish, Finished(delivery, attempt, **how))


def sent(store: Store, clock: ManualClock, limit: int = 100) -> list[str]:
    """Claim and deliver until nothing more comes; the tasks' events in the order they went."""
    went: list[str] = []
    while taken := sorted(catch(store, limit).deliveries, key=lambda each: each.id):
        for delivery in taken:
            finished(store, delivery, clock)
        went += [delivery.event_id for delivery in taken]
    return went


def state(store: Store) -> list[tuple[str, Any]]:
    return [(row["status"], row["due_at"]) for row in rows(store, deliveries)]


def waiting(store: Store, known: Subscription) -> int:
    found = store.read_now(read_backlogs, [known.id])
    return found[known.id].waiting if found else 0


def recorded(store: Store, clock: ManualClock, count: int, task: str = "t") -> list[str]:
    """Events of so many tasks, a second apart; their ids."""
    ids = []
    for number in range(count):
        clock.advance(seconds=1)
        ids.append(str(tell(store, push(f"{task}{number}")).event_id))
    return ids


def test_what_a_paused_subscription_wants_is_kept_without_a_due_time(
    store: Store, clock: ManualClock
) -> None:
    known = subscribe(store)
    store.write_now(pause, known.id)

    recorded(store, clock, 3)

    assert state(store) == [("pending", None)] * 3
    assert catch(store).deliveries == ()
    assert store.read_now(first_due) is None  # nothing wakes a dispatcher
    assert waiting(store, known) == 3


def test_it_goes_out_in_order_at_the_resume(store: Store, clock: ManualClock) -> None:
    known = subscribe(store)
    store.write_now(pause, known.id)
    ids = recorded(store, clock, 5)

    store.write_now(resume, Resume(known.id))
    ids += recorded(store, clock, 2, "later")

    assert store.read_now(first_due) is not None
    assert sent(store, clock, limit=1) == ids
    assert waiting(store, known) == 0


def test_events_of_one_task_keep_their_order_across_the_resume(
    store: Store, clock: ManualClock
) -> None:
    known = subscribe(store)
    told(store, push("t", Status.QUEUED))
    first = catch(store).deliveries
    store.write_now(pause, known.id)
    finished(store, first[0], clock, delivered=False, retry_in=timedelta(hours=1))
    told(store, push("t", Status.PROCESSING))
    store.write_now(resume, Resume(known.id))
    told(store, push("t", Status.SUCCEEDED))

    order = []
    while taken := catch(store).deliveries:
        assert len(taken) == 1  # one at a time
        finished(store, taken[0], clock)
        order.append(taken[0].event_type)

    assert order == ["task.queued", "task.processing", "task.succeeded"]


def test_nothing_is_handed_over_past_what_was_kept(store: Store, clock: ManualClock) -> None:
    handed: list[Delivery] = []
    outlet = Outlet("sender", LEASE, 10, handed.extend)
    store.attach(outlet)
    known = subscribe(store)
    store.write_now(pause, known.id)
    old = recorded(store, clock, 2)
    assert handed == []

    store.write_now(resume, Resume(known.id))
    new = recorded(store, clock, 1, "new")
    store.write_now(claim, Claim("sender", 10, LEASE, outlet))

    assert handed == []  # it waits for a claim, like those before it
    went = [row["event_id"] for row in rows(store, deliveries) if row["status"] == "in_flight"]
    assert sorted(went) == sorted(old + new)


def test_a_rate_and_places_hold_at_the_resume(store: Store, clock: ManualClock) -> None:
    paced = subscribe(store, "https://a.example/1", rate_per_second=1.0)
    narrow = subscribe(store, "https://a.example/2", max_in_flight=2)
    for known in (paced, narrow):
        store.write_now(pause, known.id)
    recorded(store, clock, 5)

    for known in (paced, narrow):
        store.write_now(resume, Resume(known.id))
    taken = catch(store).deliveries

    counts = {known.id: 0 for known in (paced, narrow)}
    for delivery in taken:
        counts[delivery.subscription.id] += 1
    assert counts == {paced.id: 1, narrow.id: 2}


def test_skip_cancels_what_was_kept_and_sends_what_comes(store: Store, clock: ManualClock) -> None:
    known = subscribe(store)
    store.write_now(pause, known.id)
    recorded(store, clock, 2)

    store.write_now(resume, Resume(known.id, skip=True))
    new = recorded(store, clock, 1, "new")

    assert sent(store, clock) == new
    canceled = [row["last_error"] for row in rows(store, deliveries) if row["status"] == "canceled"]
    assert canceled == ["skipped", "skipped"]


def test_a_long_backlog_is_released_and_skipped_in_bounded_steps(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "STEP", 4)
    monkeypatch.setattr(subscriptions, "STEP", 4)
    one, other = subscribe(store, "https://a.example/1"), subscribe(store, "https://a.example/2")
    for known in (one, other):
        store.write_now(pause, known.id)
    recorded(store, clock, 11)

    store.write_now(resume, Resume(one.id))
    store.write_now(resume, Resume(other.id, skip=True))
    clock.advance(seconds=1)
    store.write_now(pause, other.id)
    kept = recorded(store, clock, 1, "kept")
    seen = [waiting(store, other)]
    steps = []
    for _ in range(4):
        taken = catch(store, limit=3).deliveries
        steps.append(len(taken))
        for delivery in taken:
            finished(store, delivery, clock)
        seen.append(waiting(store, other))

    assert seen == [8, 4, 1, 1, 1]  # paused again, it goes on to cancel what was to be skipped
    assert steps == [3, 3, 3, 3]
    assert store.write_now(resume, Resume(other.id)).skipped_through is None
    assert sent(store, clock) == kept


def test_what_waited_before_the_pause_is_kept_too(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "STEP", 2)
    known = subscribe(store, max_in_flight=1)
    recorded(store, clock, 5)
    (flying,) = catch(store).deliveries

    store.write_now(pause, known.id)
    kept = []
    for _ in range(3):
        kept.append(sum(due is None for _, due in state(store)))
        assert catch(store).deliveries == ()
    finished(store, flying, clock, delivered=False, retry_in=timedelta(minutes=5))

    assert kept == [2, 4, 4]
    assert state(store) == [("pending", None)] * 5


def test_what_a_dead_process_held_is_kept_when_its_lease_ran_out(
    store: Store, clock: ManualClock
) -> None:
    known = subscribe(store)
    recorded(store, clock, 1)
    catch(store)
    store.write_now(pause, known.id)
    assert state(store)[0][0] == "in_flight"

    clock.advance(minutes=5)
    catch(store)

    assert state(store) == [("pending", None)]
    assert store.read_now(first_due) is None


def test_active_false_pauses_and_true_resumes(store: Store, clock: ManualClock) -> None:
    known = subscribe(store, active=False)
    ids = recorded(store, clock, 1)
    store.write_now(edit, Edit(known.id, {"active": True}))
    assert sent(store, clock) == ids

    store.write_now(edit, Edit(known.id, {"active": False}))
    ids = recorded(store, clock, 1, "second")
    assert sent(store, clock) == []
    store.write_now(edit, Edit(known.id, {"active": True}))
    assert sent(store, clock) == ids


def test_a_refusal_does_not_end_what_is_paused(store: Store, clock: ManualClock) -> None:
    known = subscribe(store)
    recorded(store, clock, 1)
    (delivery,) = catch(store).deliveries
    store.write_now(pause, known.id)

    finished(store, delivery, clock, delivered=False, refused="410 Gone")

    assert state(store) == [("pending", None)]  # after the resume it is asked again
    store.write_now(resume, Resume(known.id))
    (delivery,) = catch(store).deliveries
    finished(store, delivery, clock, delivered=False, refused="410 Gone")
    with pytest.raises(ConflictError, match="is disabled \\(410 Gone\\)"):
        store.write_now(pause, known.id)
    assert store.write_now(resume, Resume(known.id)).active


def test_a_disabled_subscription_is_kept_nothing(store: Store, clock: ManualClock) -> None:
    known = subscribe(store)
    recorded(store, clock, 1)
    (delivery,) = catch(store).deliveries
    finished(store, delivery, clock, delivered=False, refused="410 Gone")

    recorded(store, clock, 1, "later")

    assert len(rows(store, deliveries)) == 1
    assert waiting(store, known) == 0


def test_what_was_kept_for_a_deleted_subscription_is_canceled(
    store: Store, clock: ManualClock
) -> None:
    known = subscribe(store)
    store.write_now(pause, known.id)
    recorded(store, clock, 2)

    store.write_now(subscriptions.delete, known.id)

    assert store.read_now(first_due) is not None
    assert catch(store).leftovers
    assert store.write_now(cancel_leftovers, 100) == 2
    assert {row["last_error"] for row in rows(store, deliveries)} == {"subscription deleted"}


def test_a_replay_and_a_retry_to_a_paused_one_wait_with_the_rest(
    store: Store, clock: ManualClock
) -> None:
    known = subscribe(store)
    (event,) = recorded(store, clock, 1)
    (delivery,) = catch(store).deliveries
    finished(store, delivery, clock, delivered=False)  # dead
    store.write_now(pause, known.id)

    store.write_now(replay, Replay(event, known.id))
    store.write_now(retry, delivery.id)

    assert state(store) == [("pending", None)] * 2
    store.write_now(resume, Resume(known.id))
    assert sent(store, clock) == [event, event]


def test_pausing_twice_and_resuming_twice_change_nothing(store: Store, clock: ManualClock) -> None:
    known = subscribe(store)
    store.write_now(pause, known.id)
    assert not store.write_now(pause, known.id).active
    ids = recorded(store, clock, 1)
    assert store.write_now(resume, Resume(known.id)).active
    assert store.write_now(resume, Resume(known.id)).active
    assert sent(store, clock) == ids
    with pytest.raises(NotFoundError):
        store.write_now(pause, "sub_x")
    with pytest.raises(NotFoundError):
        store.write_now(resume, Resume("sub_x"))


def test_at_retention_what_is_kept_expires_and_is_seen_for_a_day(
    store: Store, clock: ManualClock
) -> None:
    known = subscribe(store)
    store.write_now(pause, known.id)
    recorded(store, clock, 2)
    clock.advance(days=20)
    recorded(store, clock, 1, "young")
    clock.advance(days=11)

    assert store.write_now(expire_waiting, Prune(MONTH)) == 2
    assert store.write_now(expire_waiting, Prune(MONTH)) == 0
    store.write_now(prune, Prune(MONTH))

    found = rows(store, deliveries)
    assert [(row["status"], row["last_error"]) for row in found] == [
        ("canceled", "expired"),
        ("canceled", "expired"),
        ("pending", None),
    ]
    clock.advance(days=1, seconds=1)
    store.write_now(prune, Prune(MONTH))
    assert len(rows(store, deliveries)) == len(rows(store, events)) == len(rows(store, tasks)) == 1
    store.write_now(resume, Resume(known.id))
    assert len(sent(store, clock)) == 1


def test_nothing_else_waits_for_what_is_held_at_retention(store: Store, clock: ManualClock) -> None:
    known = subscribe(store, providers=("minimax",))
    store.write_now(pause, known.id)
    recorded(store, clock, 3)
    tell(store, push("other", provider="atlascloud"))
    clock.advance(days=31)

    store.write_now(prune, Prune(MONTH, limit=2))
    store.write_now(prune, Prune(MONTH, limit=2))

    assert [row["provider"] for row in rows(store, tasks)] == ["minimax"] * 3


def test_what_expires_soon_is_counted_by_subscription(store: Store, clock: ManualClock) -> None:
    known = subscribe(store)
    store.write_now(pause, known.id)
    recorded(store, clock, 2)
    clock.advance(days=2)
    recorded(store, clock, 1, "young")

    found = store.read_now(count_kept, clock() - timedelta(days=1))

    assert (found.count, found.expiring) == (3, {known.id: 2})
    oldest = store.read_now(read_backlogs, [known.id])[known.id].oldest
    assert oldest == rows(store, deliveries)[0]["created_at"]


def test_a_claim_asks_no_more_however_much_is_kept(store: Store, clock: ManualClock) -> None:
    """Nor does a resume: statements, of which none walks over what is kept (prove_plans.py)."""
    known = subscribe(store)
    store.write_now(pause, known.id)
    counts = []
    for count in (1, 30):
        recorded(store, clock, count, f"n{count}-")
        counts.append(0)

        def count_one(_text: str, _values: object) -> None:
            counts[-1] += 1

        with watched(store.database.writer, count_one):
            catch(store)

    assert counts[0] == counts[1]
