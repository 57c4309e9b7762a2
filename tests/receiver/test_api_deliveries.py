from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from store.claims import Claim, claim
from store.clock import ManualClock
from store.deliveries import Attempt, Finished, finish
from store.outlet import Delivery
from store.tables import deliveries
from tests.app import AWAY, Taskbell, good, minimax, problem, running

ID = "dlv_01kdwpvng0jmwss390q20wa8r0"
NOON = "2026-01-01T12:00:00.000000Z"


async def take(taskbell: Taskbell) -> Delivery:
    """Claim the one delivery that is due, as the worker does."""
    store = taskbell.service.store
    [delivery] = (await store.write(claim, Claim("test", 10, timedelta(minutes=1)))).deliveries
    return delivery


async def end(
    taskbell: Taskbell,
    delivery: Delivery,
    status_code: int,
    *,
    retry_in: timedelta | None = None,
) -> None:
    """Write down how an attempt went."""
    delivered = status_code < 300
    attempt = Attempt(
        started_at=delivery.event_time,
        duration=timedelta(milliseconds=12.7),
        result="delivered" if delivered else "retry",
        status_code=status_code,
        error=None if delivered else f"answered {status_code}",
        answer=b"an answer \xff",
    )
    await taskbell.service.store.write(
        finish, Finished(delivery, attempt, delivered, retry_in=retry_in)
    )


async def owed(taskbell: Taskbell) -> dict[str, Any]:
    """One delivery that is owed."""
    await taskbell.subscribe()
    await taskbell.track("1")
    [delivery] = await taskbell.data("/v1/deliveries")
    return delivery


async def show(taskbell: Taskbell, delivery: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = good(await taskbell.api.get(f"/v1/deliveries/{delivery['id']}"))
    return found


async def test_a_delivery_that_waits(taskbell: Taskbell) -> None:
    delivery = await owed(taskbell)

    [event] = await taskbell.events()
    [subscription] = await taskbell.data("/v1/subscriptions")
    assert delivery == {
        "id": delivery["id"],
        "event_id": event["id"],
        "event_type": "task.queued",
        "subscription_id": subscription["id"],
        "task_id": event["data"]["task"]["id"],
        "status": "pending",
        "attempt_count": 0,
        "last_error": None,
        "next_attempt_at": NOON,
        "created_at": NOON,
        "finished_at": None,
    }
    assert await show(taskbell, delivery) == delivery | {"attempts": []}


async def test_a_delivery_shows_its_attempts(taskbell: Taskbell, clock: ManualClock) -> None:
    delivery = await owed(taskbell)
    await end(taskbell, await take(taskbell), 500, retry_in=timedelta(seconds=5))
    waiting = await show(taskbell, delivery)
    clock.advance(seconds=5)
    under_way = await take(taskbell)
    flying = await show(taskbell, delivery)
    await end(taskbell, under_way, 204)

    done = await show(taskbell, delivery)

    assert waiting["status"] == "pending"
    assert waiting["next_attempt_at"] == "2026-01-01T12:00:05.000000Z"
    assert waiting["last_error"] == "answered 500"
    assert (flying["status"], flying["next_attempt_at"]) == ("in_flight", None)
    assert (done["status"], done["attempt_count"]) == ("delivered", 2)
    assert done["finished_at"] == "2026-01-01T12:00:05.000000Z"
    assert done["attempts"] == [
        {
            "number": 1,
            "started_at": NOON,
            "duration_ms": 12,
            "result": "retry",
            "status_code": 500,
            "error": "answered 500",
            "answer": "an answer \ufffd",
        },
        {
            "number": 2,
            "started_at": NOON,
            "duration_ms": 12,
            "result": "delivered",
            "status_code": 204,
            "error": None,
            "answer": "an answer \ufffd",
        },
    ]


async def test_deliveries_are_listed_newest_first_in_pages(taskbell: Taskbell) -> None:
    await taskbell.subscribe()
    for number in range(5):
        await taskbell.track(str(number))

    listed = await taskbell.all_pages("/v1/deliveries?limit=2")

    events = [event["id"] for event in await taskbell.events()]
    assert [each["event_id"] for each in listed] == events[::-1]


async def test_deliveries_are_filtered(taskbell: Taskbell) -> None:
    one, other = await taskbell.subscribe(), await taskbell.subscribe(types=["task.succeeded"])
    await taskbell.track("1")
    await end(taskbell, await take(taskbell), 200)
    await taskbell.push(minimax("1"))
    queued, succeeded = await taskbell.events()

    async def found(query: str) -> set[tuple[str, str]]:
        listed = await taskbell.all_pages(f"/v1/deliveries?limit=1&{query}")
        return {(each["event_id"], each["subscription_id"]) for each in listed}

    first, second = (queued["id"], one["id"]), (succeeded["id"], one["id"])
    third = (succeeded["id"], other["id"])
    assert await found("") == {first, second, third}
    assert await found("status=delivered") == {first}
    assert await found("status=pending") == {second, third}
    assert await found("status=dead") == set()
    assert await found(f"event={succeeded['id']}") == {second, third}
    assert await found(f"subscription={one['id']}") == {first, second}
    assert await found(f"subscription={one['id']}&status=pending") == {second}


@pytest.mark.parametrize(
    "query",
    [
        "status=failed",
        "status=",
        "subscription=1",
        "event=%00",
        "cursor=1",
        "limit=0",
        "task=task_1",
    ],
)
async def test_a_bad_query_is_422_and_names_its_parameter(small: Taskbell, query: str) -> None:
    name = query.partition("=")[0]

    assert f"'{name}'" in problem(await small.api.get(f"/v1/deliveries?{query}"), 422)


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/retry")])
@pytest.mark.parametrize("delivery_id", [ID, "evt_01kdwpvng0jmwss390q20wa8r0", "%00", "1"])
async def test_an_unknown_delivery_is_404(
    taskbell: Taskbell, method: str, path: str, delivery_id: str
) -> None:
    problem(await taskbell.api.request(method, f"/v1/deliveries/{delivery_id}{path}"), 404)


@pytest.mark.parametrize("status", ["dead", "canceled", "pending"])
async def test_what_is_not_delivered_is_tried_again_from_the_start(
    taskbell: Taskbell, clock: ManualClock, status: str
) -> None:
    delivery = await owed(taskbell)
    await end(taskbell, await take(taskbell), 500, retry_in=timedelta(hours=1))
    over = None if status == "pending" else clock()
    await taskbell.write(deliveries.update().values(status=status, finished_at=over))
    clock.advance(minutes=1)

    again = good(await taskbell.api.post(f"/v1/deliveries/{delivery['id']}/retry"), 202)

    assert again["status"] == "pending"
    assert again["next_attempt_at"] == "2026-01-01T12:01:00.000000Z"
    assert again["finished_at"] is None
    assert again["attempt_count"] == 1
    assert len(again["attempts"]) == 1
    assert (await take(taskbell)).failures == 0


async def test_what_is_delivered_or_under_way_is_not_tried_again(taskbell: Taskbell) -> None:
    delivery = await owed(taskbell)
    retry = f"/v1/deliveries/{delivery['id']}/retry"
    taken = await take(taskbell)

    assert "in_flight" in problem(await taskbell.api.post(retry), 409)
    await end(taskbell, taken, 200)
    assert "delivered" in problem(await taskbell.api.post(retry), 409)


async def test_every_call_is_503_while_the_database_is_away(clock: ManualClock) -> None:
    async with running(AWAY, clock) as taskbell:
        problem(await taskbell.api.get("/v1/deliveries"), 503)
        problem(await taskbell.api.get(f"/v1/deliveries/{ID}"), 503)
        problem(await taskbell.api.post(f"/v1/deliveries/{ID}/retry"), 503)
