"""What a task's timeline tells of the address that its pushes come to."""

from __future__ import annotations

import pytest

from store.clock import ManualClock
from store.records import Challenge, keep_challenge, record
from store.store import Store
from store.timeline import read_timeline
from tests.making import push

MINUTES = 60.0


@pytest.mark.parametrize(
    ("token_id", "seconds_before", "told"),
    [
        ("tok1", 1.0, ["challenge", "recorded"]),
        ("tok1", 11 * MINUTES, ["recorded"]),
        ("another", 1.0, ["recorded"]),
    ],
    ids=["its own", "long ago", "another address"],
)
def test_a_challenge_comes_first(
    store: Store, clock: ManualClock, token_id: str, seconds_before: float, told: list[str]
) -> None:
    store.write_now(keep_challenge, Challenge("minimax", token_id))
    clock.advance(seconds=seconds_before)
    recorded = store.write_now(record, push(token_id="tok1"))
    assert recorded.task is not None

    timeline = store.read_now(read_timeline, recorded.task.id)

    assert timeline is not None
    assert [each.verdict for each in timeline.received] == told
