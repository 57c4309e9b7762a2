"""Pausing a subscription keeps its deliveries; resuming sends them, or skips them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from deploy.expiry import Expiry
from store.clock import ManualClock
from store.tables import subscriptions
from tests.app import Taskbell, good, minimax, problem, running
from tests.dispatch.hook import Hook

LOOPBACK = {"ALLOW_NETWORKS": "127.0.0.0/8"}


@pytest.fixture
async def taskbell(database_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(database_url, clock, LOOPBACK) as taskbell:
        yield taskbell


@pytest.fixture
async def small(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock, LOOPBACK) as taskbell:
        yield taskbell


async def call(taskbell: Taskbell, known: dict[str, Any], what: str, **body: Any) -> Any:
    path = f"/v1/subscriptions/{known['id']}/{what}"
    return good(await taskbell.api.post(path, json=body) if body else await taskbell.api.post(path))


async def statuses(taskbell: Taskbell) -> list[tuple[str, Any, Any]]:
    found = await taskbell.data("/v1/deliveries")
    return [(each["status"], each["last_error"], each["next_attempt_at"]) for each in found]


async def test_a_pause_keeps_what_is_wanted_and_says_how_many_wait_until_when(
    taskbell: Taskbell,
) -> None:
    made = await taskbell.subscribe()

    paused = await call(taskbell, made, "pause")
    for number in range(3):
        good(await taskbell.push(minimax(str(number))))
    view = good(await taskbell.api.get(f"/v1/subscriptions/{made['id']}"))
    [listed] = await taskbell.data("/v1/subscriptions")

    assert (paused["active"], paused["waiting"], paused["waiting_expires_at"]) == (False, 0, None)
    assert (view["waiting"], view["waiting_expires_at"]) == (3, "2026-01-31T12:00:00.000000Z")
    assert listed == view
    assert await statuses(taskbell) == [("pending", None, None)] * 3
    assert (await call(taskbell, made, "resume"))["active"]


async def test_skip_cancels_what_waits(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe()
    await call(taskbell, made, "pause")
    good(await taskbell.push(minimax()))

    view = await call(taskbell, made, "resume", backlog="skip")

    assert (view["active"], view["waiting"]) == (True, 0)
    assert await statuses(taskbell) == [("canceled", "skipped", None)]


async def test_patching_active_pauses_and_resumes_as_well(small: Taskbell) -> None:
    made = await small.subscribe()
    one = f"/v1/subscriptions/{made['id']}"

    good(await small.api.patch(one, json={"active": False}))
    good(await small.push(minimax()))
    kept = good(await small.api.get(one))
    back = good(await small.api.patch(one, json={"active": True}))

    assert (kept["waiting"], back["active"], back["waiting"]) == (1, True, 1)


async def test_the_audit_says_who_paused_and_what_became_of_the_backlog(small: Taskbell) -> None:
    made = await small.subscribe()
    await call(small, made, "pause")
    await call(small, made, "resume", backlog="skip")

    resumed, paused, *_ = await small.data("/v1/audit")

    assert (paused["action"], paused["object_id"]) == ("subscription.paused", made["id"])
    assert resumed["action"] == "subscription.resumed"
    assert resumed["detail"]["values"] == {"backlog": "skip"}


async def test_what_cannot_be_paused_or_resumed_is_told(small: Taskbell) -> None:
    made = await small.subscribe()
    one = f"/v1/subscriptions/{made['id']}"
    off = {"active": False, "disabled_reason": "410 Gone"}
    await small.write(subscriptions.update().values(off))

    assert "disabled (410 Gone)" in problem(await small.api.post(f"{one}/pause"), 409)
    bad = await small.api.post(f"{one}/resume", json={"backlog": "drop"})
    assert "'backlog'" in problem(bad, 422)
    assert (await call(small, made, "resume"))["disabled_reason"] is None
    other = "/v1/subscriptions/sub_01kdwpvng0jmwss390q20wa8r0"
    problem(await small.api.post(f"{other}/pause"), 404)
    problem(await small.api.post(f"{other}/resume"), 404)


async def test_a_key_that_may_only_read_pauses_nothing(small: Taskbell) -> None:
    made = await small.subscribe()
    key = good(await small.api.post("/v1/api-keys", json={"name": "r", "scope": "read"}), 201)
    headers = {"authorization": f"Bearer {key['key']}"}

    for what in ("pause", "resume"):
        path = f"/v1/subscriptions/{made['id']}/{what}"
        problem(await small.door.post(path, headers=headers), 403)


async def test_what_was_kept_arrives_in_order_on_a_real_socket(
    sqlite_url: str, clock: ManualClock
) -> None:
    environ = {**LOOPBACK, "ROLES": "receive,dispatch"}
    async with (
        Hook(clock).served() as hook,
        running(sqlite_url, clock, environ) as taskbell,
    ):
        made = await taskbell.subscribe(hook.url, max_in_flight=1)
        await call(taskbell, made, "pause")
        for number in range(5):
            clock.advance(seconds=1)
            good(await taskbell.push(minimax(str(number), file_id="7")))
        assert hook.taken == []

        await call(taskbell, made, "resume")
        await hook.wait_for(5)
        events = [each["id"] for each in await taskbell.events()]

    assert [each.event_id for each in hook.taken] == events


async def test_what_expires_is_announced_a_day_before_and_counted(
    small: Taskbell, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    made = await small.subscribe()
    await call(small, made, "pause")
    good(await small.push(minimax(file_id="7")))
    store, keep = small.service.store, timedelta(days=30)
    expiry = Expiry(store, clock, keep)

    async def told(after: timedelta) -> list[str]:
        clock.advance(seconds=after.total_seconds())
        caplog.clear()
        await expiry.step()
        return [record.getMessage() for record in caplog.records]

    early = await told(timedelta(days=28))
    announced = await told(timedelta(days=1, minutes=1))
    soon = (await small.api.get("/metrics")).text
    again = await told(timedelta(hours=1))
    expired = await told(timedelta(days=1))
    await store.detach()  # what was written before it is counted
    page = (await small.api.get("/metrics")).text

    assert (early, again) == ([], [])
    assert announced == [
        f"1 deliveries kept for {made['id']} expire within a day: resume it, or skip them"
    ]
    assert expired == ["1 deliveries that were kept for paused subscriptions expired"]
    assert await statuses(small) == [("canceled", "expired", None)]
    assert 'taskbell_deliveries_open{status="kept"} 1.0' in soon
    assert "taskbell_deliveries_expiring 1.0" in soon
    assert "taskbell_deliveries_expired_total 1.0" in page
