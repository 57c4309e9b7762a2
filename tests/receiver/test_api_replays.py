from __future__ import annotations

from typing import Any

import pytest

from store import replays
from store.clock import ManualClock
from store.tables import deliveries, subscriptions
from tests.app import Taskbell, good, minimax, problem

ID = "sub_01kdwpvng0jmwss390q20wa8r0"


async def replay(taskbell: Taskbell, subscription: dict[str, Any], **wish: Any) -> dict[str, Any]:
    """What one call answers."""
    answer = await taskbell.api.post(f"/v1/subscriptions/{subscription['id']}/replay", json=wish)
    found: dict[str, Any] = good(answer, 200 if wish.get("dry_run") else 202)
    return found


async def owed(taskbell: Taskbell) -> list[str]:
    """The provider's ids of the tasks whose events are owed, one for each delivery."""
    of_event = {e["id"]: e["data"]["task"]["provider_task_id"] for e in await taskbell.events()}
    return sorted(of_event[row.event_id] for row in await taskbell.rows(deliveries))


async def test_a_dry_run_counts_and_makes_nothing(taskbell: Taskbell) -> None:
    await taskbell.push(minimax("1"))
    await taskbell.push(minimax("2"))
    late = await taskbell.subscribe()

    counted = await replay(taskbell, late, dry_run=True)

    assert counted == {"deliveries": [], "count": 2, "next_cursor": None}
    assert await owed(taskbell) == []


async def test_a_later_subscription_gets_what_it_would_have_got(taskbell: Taskbell) -> None:
    await taskbell.push(minimax("1"))
    await taskbell.push(minimax("2", "Fail"))
    await taskbell.track("3", metadata={"customer": "42"})
    late = await taskbell.subscribe(types=["task.succeeded"])
    dear = await taskbell.subscribe(metadata={"customer": "42"})
    filtered = await taskbell.subscribe(filter={"data.task.status": "failed"})

    counts = [(await replay(taskbell, each))["count"] for each in (late, dear, filtered)]

    assert counts == [1, 1, 1]
    assert await owed(taskbell) == ["1", "2", "3"]


async def test_what_is_on_its_way_is_not_sent_twice(taskbell: Taskbell) -> None:
    subscription = await taskbell.subscribe()
    await taskbell.push(minimax())

    first = await replay(taskbell, subscription)
    await taskbell.write(deliveries.update().values(status="delivered"))
    second = await replay(taskbell, subscription)
    third = await replay(taskbell, subscription)

    assert (first["count"], second["count"], third["count"]) == (0, 1, 0)
    assert await owed(taskbell) == ["1", "1"]


async def test_the_dead_are_replayed_once_and_the_delivered_are_left(taskbell: Taskbell) -> None:
    subscription = await taskbell.subscribe()
    await taskbell.push(minimax("1"))
    await taskbell.push(minimax("2"))
    await taskbell.write(deliveries.update().values(status="delivered"))
    [_, last] = await taskbell.rows(deliveries)
    await taskbell.write(
        deliveries.update().where(deliveries.c.id == last.id).values(status="dead")
    )
    await taskbell.api.patch(
        f"/v1/subscriptions/{subscription['id']}", json={"types": ["task.failed"]}
    )

    first = await replay(taskbell, subscription, status="dead")
    second = await replay(taskbell, subscription, status="dead")

    assert (first["count"], second["count"]) == (1, 0)  # owed once, whatever it wants by now
    assert await owed(taskbell) == ["1", "2", "2"]


async def test_a_span_and_types_narrow_it(taskbell: Taskbell, clock: ManualClock) -> None:
    await taskbell.push(minimax("1"))
    clock.advance(hours=1)
    await taskbell.push(minimax("2"))
    await taskbell.push(minimax("3", "Fail"))
    clock.advance(hours=1)
    await taskbell.push(minimax("4"))
    late = await taskbell.subscribe()
    span = {"since": "2026-01-01T13:00:00Z", "until": "2026-01-01T15:00:00+01:00"}

    both = await replay(taskbell, late, **span, dry_run=True)
    await replay(taskbell, late, **span, types=["task.succeeded"])

    assert both["count"] == 2
    assert await owed(taskbell) == ["2"]


async def test_much_is_done_in_parts(taskbell: Taskbell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "STRIDE", 3)
    monkeypatch.setattr("receiver.api.replays.MOST", 2)
    for number in range(7):
        await taskbell.push(minimax(str(number)))
    late = await taskbell.subscribe()

    counts, cursor = [], None
    while True:
        answer = await replay(taskbell, late, **({"cursor": cursor} if cursor else {}))
        counts.append(answer["count"])
        cursor = answer["next_cursor"]
        if cursor is None:
            break

    assert sum(counts) == 7
    assert max(counts) <= 2
    assert await owed(taskbell) == [str(number) for number in range(7)]


async def test_one_that_is_disabled_is_refused_with_its_reason(small: Taskbell) -> None:
    disabled = await small.subscribe()
    off = {"active": False, "disabled_reason": "410 Gone"}
    await small.write(subscriptions.update().values(off))

    for wish in ({}, {"dry_run": True}):
        answer = await small.api.post(f"/v1/subscriptions/{disabled['id']}/replay", json=wish)
        assert "disabled (410 Gone): resume it first" in problem(answer, 409)


async def test_what_is_replayed_to_a_paused_one_waits_with_the_rest(small: Taskbell) -> None:
    await small.push(minimax())
    paused = await small.subscribe(active=False)
    one = f"/v1/subscriptions/{paused['id']}"

    answer = good(await small.api.post(f"{one}/replay", json={}), 202)

    assert answer["count"] == 1
    assert good(await small.api.get(one))["waiting"] == 1


async def test_an_unknown_subscription_is_404(small: Taskbell) -> None:
    problem(await small.api.post(f"/v1/subscriptions/{ID}/replay", json={}), 404)


@pytest.mark.parametrize(
    "wish",
    [
        {"since": "yesterday"},
        {"since": "2026-01-01"},
        {"since": "2026-01-01T12:00:00"},  # of which zone?
        {"until": "2026-13-01T12:00:00Z"},
        {"until": "9999-12-31T23:59:59-12:00"},
        {"since": 1767268800},
        {"types": ["task.done"]},
        {"status": "pending"},
        {"status": "failed"},
        {"cursor": "x"},
        {"dry_run": "yes"},
    ],
)
async def test_a_bad_wish_is_422_and_names_its_field(small: Taskbell, wish: dict[str, Any]) -> None:
    answer = await small.api.post(f"/v1/subscriptions/{ID}/replay", json=wish)

    assert f"'{next(iter(wish))}" in problem(answer, 422)
