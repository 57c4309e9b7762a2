"""Whatever is changed through the API leaves a row that says who did it, and no secret."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from deploy.app import all_endpoints
from receiver.endpoint import action_of
from store.clock import ManualClock
from store.tables import audit, deliveries, events
from tests.app import HOOK, Taskbell, bearer, good, minimax, problem, running
from tests.pages import signed_in

SECRET = "hush-hush-hush"
WISH = {
    "url": f"{HOOK}/{SECRET}?key={SECRET}",
    "types": ["task.failed"],
    "headers": {"X-Token": SECRET},
    "description": SECRET,
    "metadata": {"note": SECRET},
    "active": False,
}


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    here = {"ALLOW_NETWORKS": "127.0.0.0/8"}
    async with running(sqlite_url, clock, here) as taskbell:
        yield taskbell


async def make(taskbell: Taskbell, path: str, **body: Any) -> Any:
    return good(await taskbell.api.post(path, json=body), 201)


async def new_subscription(taskbell: Taskbell) -> str:
    refusing = "http://127.0.0.1:1025/hook"
    return f"/v1/subscriptions/{(await taskbell.subscribe(refusing))['id']}"


async def new_task(taskbell: Taskbell) -> str:
    return f"/v1/tasks/{(await taskbell.track())['id']}"


async def new_key(taskbell: Taskbell) -> str:
    return f"/v1/api-keys/{(await make(taskbell, '/v1/api-keys', name='ci'))['id']}"


async def new_callback_url(taskbell: Taskbell) -> str:
    made = await make(taskbell, "/v1/callback-urls", provider="minimax")
    return f"/v1/callback-urls/{made['id']}"


async def new_event(taskbell: Taskbell) -> str:
    await taskbell.push(minimax())
    [row] = await taskbell.rows(events)
    return f"/v1/events/{row.id}"


async def new_dead_delivery(taskbell: Taskbell) -> str:
    await taskbell.subscribe()
    await taskbell.push(minimax())
    await taskbell.write(deliveries.update().values(status="dead"))
    [row] = await taskbell.rows(deliveries)
    return f"/v1/deliveries/{row.id}"


async def new_session(taskbell: Taskbell) -> str:
    await signed_in(taskbell)
    return f"/v1/sessions/{(await taskbell.data('/v1/sessions'))[0]['id']}"


async def nothing(_: Taskbell) -> str:
    return ""


Prepare = Callable[[Taskbell], Awaitable[str]]

CHANGES: list[tuple[str, Prepare, str, str, Any, Any]] = [
    # what it is called; what must be there; the call; what the row says of its fields
    (
        "subscription.created", nothing, "POST", "/v1/subscriptions", WISH,
        {
            "fields": ["active", "description", "headers", "metadata", "types", "url"],
            "values": {"active": False, "types": ["task.failed"]},
        },
    ),
    (
        "subscription.changed", new_subscription, "PATCH", "",
        {"headers": {"Authorization": f"Bearer {SECRET}"}, "active": True},
        {"fields": ["active", "headers"], "values": {"active": True}},
    ),
    ("subscription.deleted", new_subscription, "DELETE", "", None, None),
    ("subscription.paused", new_subscription, "POST", "/pause", None, None),
    (
        "subscription.resumed", new_subscription, "POST", "/resume", {"backlog": "skip"},
        {"fields": ["backlog"], "values": {"backlog": "skip"}},
    ),
    ("subscription.tested", new_subscription, "POST", "/test", None, None),
    ("subscription.secret_rotated", new_subscription, "POST", "/rotate-secret", None, None),
    (
        "task.created", nothing, "POST", "/v1/tasks",
        {"provider": "minimax", "task_id": "7", "model": SECRET, "metadata": {"a": SECRET}},
        {"fields": ["metadata", "model", "provider", "task_id"], "values": {"provider": "minimax"}},
    ),
    ("task.refreshed", new_task, "POST", "/refresh", None, None),
    ("task.canceled", new_task, "POST", "/cancel", None, None),
    (
        "subscription.replayed", new_subscription, "POST", "/replay", {"status": "dead"},
        {"fields": ["status"], "values": {"status": "dead"}},
    ),
    ("event.replayed", new_event, "POST", "/replay", {}, None),
    ("delivery.retried", new_dead_delivery, "POST", "/retry", None, None),
    (
        "api_key.created", nothing, "POST", "/v1/api-keys", {"name": SECRET, "scope": "write"},
        {"fields": ["name", "scope"], "values": {"scope": "write"}},
    ),
    ("api_key.deleted", new_key, "DELETE", "", None, None),
    (
        "callback_url.created", nothing, "POST", "/v1/callback-urls",
        {"provider": "minimax", "metadata": {"a": SECRET}, "expires_in": 60},
        {
            "fields": ["expires_in", "metadata", "provider"],
            "values": {"expires_in": 60, "provider": "minimax"},
        },
    ),
    ("session.deleted", new_session, "DELETE", "", None, None),
    ("callback_url.deleted", new_callback_url, "DELETE", "", None, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("action", "prepare", "method", "path", "body", "detail"),
    CHANGES,
    ids=[action for action, *_ in CHANGES],
)
async def test_a_change_says_who_did_what_to_what(
    taskbell: Taskbell,
    clock: ManualClock,
    action: str,
    prepare: Prepare,
    method: str,
    path: str,
    body: Any,
    detail: Any,
) -> None:
    there = await prepare(taskbell)
    before = len(await taskbell.rows(audit))
    clock.advance(minutes=1)
    who = (await make(taskbell, "/v1/api-keys", name="who", scope="admin"))["key"]
    key_id = (await taskbell.data("/v1/api-keys"))[0]["id"]

    answer = await call(taskbell, who, method, there + path, body)

    assert answer.is_success, answer.text
    listed = await taskbell.data("/v1/audit")
    assert len(listed) == before + 2  # the key that did it was made, too
    changed = listed[0]
    object_id = there.rpartition("/")[2] or answer.json()["id"]
    assert changed.pop("id").startswith("aud_")
    assert changed == {
        "at": "2026-01-01T12:01:00.000000Z",
        "key_id": key_id,
        "actor_id": key_id,
        "actor_name": "who",
        "action": action,
        "object_id": object_id,
        "detail": detail,
    }
    rows = str(await taskbell.rows(audit))
    assert SECRET not in rows
    for shown_once in ("key", "secret", "url"):
        told = answer.json().get(shown_once) if answer.content else None
        assert not told or told not in rows


async def call(taskbell: Taskbell, key: str, method: str, path: str, body: Any) -> httpx.Response:
    return await taskbell.door.request(method, path, json=body, headers=bearer(key))


async def test_every_call_that_changes_something_is_in_the_table(taskbell: Taskbell) -> None:
    actions = [action_of(endpoint) for endpoint in all_endpoints(taskbell.service)]

    assert sorted(filter(None, actions)) == sorted(action for action, *_ in CHANGES)


async def test_the_first_key_is_called_first(taskbell: Taskbell) -> None:
    await taskbell.track()

    [row] = await taskbell.data("/v1/audit")
    assert row["key_id"] == "first"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/tasks", {"provider": "minimax"}, 422),
        ("POST", "/v1/tasks", {"provider": "nobody", "task_id": "1"}, 422),
        ("POST", "/v1/subscriptions", {"url": "http://10.0.0.1/"}, 422),
        ("PATCH", "/v1/subscriptions/sub_01kdwpvng0jmwss390q20wa8r0", {"active": True}, 404),
        ("DELETE", "/v1/api-keys/key_01kdwpvng0jmwss390q20wa8r0", None, 404),
        ("POST", "/v1/callback-urls", {"provider": "opencomputing"}, 422),
        ("POST", "/v1/tasks/task_01kdwpvng0jmwss390q20wa8r0/cancel", None, 404),
    ],
)
async def test_what_is_refused_changes_nothing_and_leaves_no_row(
    taskbell: Taskbell, method: str, path: str, body: Any, status: int
) -> None:
    problem(await taskbell.api.request(method, path, json=body), status)
    problem(await taskbell.door.request(method, path, json=body), 401)

    assert await taskbell.rows(audit) == []


async def test_what_was_so_already_leaves_no_row(taskbell: Taskbell) -> None:
    task = await taskbell.track()
    good(await taskbell.api.post("/v1/tasks", json={"provider": "minimax", "task_id": "1"}))
    good(await taskbell.api.post(f"/v1/tasks/{task['id']}/cancel"))
    good(await taskbell.api.post(f"/v1/tasks/{task['id']}/cancel"))
    problem(await taskbell.api.post(f"/v1/tasks/{task['id']}/refresh"), 409)

    rows = await taskbell.data("/v1/audit")
    assert [row["action"] for row in rows] == ["task.canceled", "task.created"]


async def test_the_audit_is_listed_in_pages_by_action_and_object(taskbell: Taskbell) -> None:
    tasks = [(await taskbell.track(str(number)))["id"] for number in range(5)]
    await taskbell.api.post(f"/v1/tasks/{tasks[2]}/cancel")

    everything = await taskbell.all_pages("/v1/audit?limit=2")
    about_one = await taskbell.data(f"/v1/audit?object={tasks[2]}")
    canceled = await taskbell.data("/v1/audit?action=task.canceled")

    assert [row["object_id"] for row in everything] == [tasks[2], *tasks[::-1]]
    assert [row["action"] for row in about_one] == ["task.canceled", "task.created"]
    assert [row["object_id"] for row in canceled] == [tasks[2]]


@pytest.mark.parametrize("query", ["action=x", "object=x", "limit=0", "cursor=1", "who=x"])
async def test_an_odd_question_is_422(taskbell: Taskbell, query: str) -> None:
    problem(await taskbell.api.get(f"/v1/audit?{query}"), 422)


@pytest.mark.parametrize("action", ["created", "Subscription.created", "subscription:created"])
async def test_what_is_no_action_is_told_in_words(taskbell: Taskbell, action: str) -> None:
    answer = await taskbell.api.get("/v1/audit", params={"action": action})

    told = problem(answer, 422)
    assert told == "query parameter 'action': not an action, like subscription.created"
