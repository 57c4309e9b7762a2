"""Tasks that only unsigned pushes have named are asked about in turns, token by token."""

from __future__ import annotations

from store.clock import ManualClock
from store.store import Store
from store.tasks import PollClaim, claim_due
from tests.making import LEASE, push, tell


def claim(store: Store, limit: int, after: str = "") -> list[str]:
    """Claim so many of them; the tokens they came with."""
    wanted = PollClaim("poller", {}, {"minimax": limit}, LEASE, after={"minimax": after})
    return sorted(str(task.token_id) for task in store.write_now(claim_due, wanted).tasks)


def named(store: Store, clock: ManualClock, token_id: str, number: int) -> None:
    for task in range(number):
        tell(store, push(f"{token_id}-{task}", hold=True, token_id=token_id))
        clock.advance(seconds=1)


def test_a_token_with_many_tasks_keeps_no_other_waiting(store: Store, clock: ManualClock) -> None:
    named(store, clock, "leaked", 20)
    named(store, clock, "tok_a", 2)
    named(store, clock, "tok_b", 1)

    assert claim(store, 5) == ["leaked", "leaked", "tok_a", "tok_a", "tok_b"]
    assert claim(store, 2) == ["leaked", "leaked"]


def test_one_after_the_other_they_take_turns(store: Store, clock: ManualClock) -> None:
    named(store, clock, "leaked", 20)
    named(store, clock, "tok_a", 3)
    named(store, clock, "tok_b", 1)

    order = []
    last = ""
    for _ in range(8):
        (last,) = claim(store, 1, last)
        order.append(last)

    assert order == ["leaked", "tok_a", "tok_b", "leaked", "tok_a", "leaked", "tok_a", "leaked"]


def test_within_a_token_the_one_that_waits_longest_is_first(
    store: Store, clock: ManualClock
) -> None:
    named(store, clock, "tok_a", 3)

    limits = PollClaim("poller", {}, {"minimax": 1}, LEASE)
    claimed = [store.write_now(claim_due, limits).tasks[0].provider_task_id for _ in range(3)]

    assert claimed == ["tok_a-0", "tok_a-1", "tok_a-2"]


def test_what_is_not_due_has_no_turn(store: Store, clock: ManualClock) -> None:
    named(store, clock, "tok_a", 1)
    assert claim(store, 5) == ["tok_a"]
    tell(store, push("other", hold=True, provider="atlascloud", token_id="tok_b"))

    assert claim(store, 5) == []
