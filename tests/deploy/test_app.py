from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from deploy.sample import sample_event
from receiver.models import TaskView
from store.clock import ManualClock
from store.errors import StoreError
from store.tables import tasks
from tests.app import AWAY, HOOK, SECURITY_HEADERS, Taskbell, good, minimax, problem, running


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock) as taskbell:
        yield taskbell


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/v1/tasks", 401),
        ("GET", "/nothing", 404),
        ("PUT", "/v1/tasks", 405),
        ("GET", "/callbacks/minimax/token", 405),
        ("POST", "/callbacks/minimax/token", 404),
    ],
)
async def test_every_answer_keeps_a_browser_from_making_anything_of_it(
    taskbell: Taskbell, method: str, path: str, status: int
) -> None:
    answer = await taskbell.door.request(method, path)

    assert answer.status_code == status
    expected = dict(SECURITY_HEADERS)
    if path == "/docs":  # for people; tests/receiver/test_manual.py holds its policy
        del expected["content-security-policy"]
    assert expected.items() <= answer.headers.items()
    assert "set-cookie" not in answer.headers
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/v1",
        "/v1/nothing",
        "/callbacks",
        "/callbacks/minimax",
        "/callbacks/minimax/token/more",
        "/v1/tasks/",  # with a redirect, the Host header would say where it leads
        "//v1/tasks",
        "/v1/%2e%2e/tasks",
        "/v1/tasks/task_0/../..",
    ],
)
async def test_an_unknown_page_is_a_404_that_repeats_nothing(taskbell: Taskbell, path: str) -> None:
    answer = await taskbell.door.post(path, headers={"host": "odd-name"})

    assert problem(answer, 404) == "no such page"
    assert "odd" not in answer.text + str(answer.headers)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/tasks", {"GET", "HEAD", "POST"}),
        ("PUT", "/v1/subscriptions/sub_1", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("GET", "/callbacks/minimax/token", {"POST"}),
        ("OPTIONS", "/callbacks/minimax/token", {"POST"}),
        ("POST", "/docs", {"GET", "HEAD"}),
    ],
)
async def test_a_wrong_method_is_told_every_right_one(
    taskbell: Taskbell, method: str, path: str, allowed: set[str]
) -> None:
    answer = await taskbell.door.request(method, path)

    problem(answer, 405)
    assert set(answer.headers["allow"].split(", ")) == allowed


HOSTILE = "<img/src=x>\r\nx-odd: 1\x1b[2J"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/api-keys", {HOSTILE: 1}),
        ("/v1/api-keys", {"name": "x", "scope": HOSTILE}),
        ("/v1/api-keys", {"name": {HOSTILE: 1}}),
        ("/v1/tasks", {"provider": HOSTILE, "task_id": "1"}),
        ("/v1/tasks", {"provider": "minimax", "task_id": HOSTILE}),
        ("/v1/subscriptions", {"url": HOOK, "types": [HOSTILE]}),
        ("/v1/subscriptions", {"url": HOOK, "headers": {HOSTILE: "x"}}),
        ("/v1/subscriptions", {"url": HOOK, "headers": {"X-A": HOSTILE}}),
        ("/v1/subscriptions", {"url": HOOK, "headers": {"X-A": {HOSTILE: 1}}}),
        ("/v1/subscriptions", {"url": f"https://a.example/{HOSTILE}"}),
        ("/v1/subscriptions", {"url": HOOK, "format": HOSTILE}),
        ("/v1/events/evt_01kdwpvng0jmwss390q20wa8r0/replay", {"subscription": HOSTILE}),
        (f"/v1/tasks/{quote(HOSTILE)}/cancel", {}),
        (f"/v1/api-keys?{quote(HOSTILE)}=1", {"name": "x"}),
        (f"/{quote(HOSTILE)}", {}),
    ],
)
async def test_a_refusal_repeats_nothing_odd(taskbell: Taskbell, path: str, body: Any) -> None:
    answer = await taskbell.api.post(path, json=body)

    said = problem(answer, 404 if "cancel" in path or "v1" not in path else 422)
    assert "img" not in said
    assert "odd" not in said + str(answer.headers)


@pytest.mark.parametrize("query", [HOSTILE, f"{HOSTILE}=1&{HOSTILE}"])
async def test_a_refused_query_repeats_nothing_odd(taskbell: Taskbell, query: str) -> None:
    said = problem(await taskbell.api.get(f"/v1/tasks?{quote(query, safe='=&')}"), 422)

    assert "img" not in said
    assert "query parameter '…'" in said


async def test_a_misspelt_field_is_named(taskbell: Taskbell) -> None:
    answer = await taskbell.api.post("/v1/subscriptions", json={"url": HOOK, "typse": []})

    assert problem(answer, 422) == "field 'typse' is not known here; did you mean 'types'?"


async def test_a_packed_body_is_not_unpacked(taskbell: Taskbell) -> None:
    headers = {"content-encoding": "gzip", "content-type": "application/json"}

    problem(await taskbell.api.post("/v1/tasks", content=b"\x1f\x8b", headers=headers), 415)


async def test_a_bug_answers_500_and_tells_nothing(taskbell: Taskbell) -> None:
    await taskbell.track()
    await taskbell.write(tasks.update().values(status="swordfish"))

    answer = await taskbell.api.get("/v1/tasks")

    assert "swordfish" not in problem(answer, 500)


async def test_a_process_that_does_not_receive_answers_health_alone(
    sqlite_url: str, clock: ManualClock
) -> None:
    async with running(sqlite_url, clock, {"ROLES": "dispatch"}) as taskbell:
        good(await taskbell.door.get("/healthz"))
        good(await taskbell.door.get("/readyz"))
        problem(await taskbell.api.get("/v1/tasks"), 404)
        problem(await taskbell.push(minimax()), 404)


async def test_the_lifespan_closes_the_store(sqlite_url: str, clock: ManualClock) -> None:
    async with running(sqlite_url, clock) as taskbell:
        with pytest.raises(StoreError, match="in use by another taskbell process"):
            async with running(sqlite_url, clock):
                pass
        assert not taskbell.service.draining

    assert taskbell.service.draining
    async with running(sqlite_url, clock) as again:
        good(await again.door.get("/readyz"))


async def test_a_database_that_is_away_stops_neither_the_start_nor_the_end(
    clock: ManualClock,
) -> None:
    async with running(AWAY, clock, {"ROLES": "receive,poll,dispatch"}) as taskbell:
        good(await taskbell.door.get("/healthz"))
        answer = await taskbell.door.get("/readyz")

    problem(answer, 503)
    assert int(answer.headers["retry-after"]) > 0


def test_a_sample_event_is_what_it_says(clock: ManualClock) -> None:
    event = sample_event(clock)

    body = json.loads(event.body)
    assert body["type"] == "task.succeeded"
    assert body["timestamp"] == "2026-01-01T12:00:00.000000Z"
    assert body["data"]["previous_status"] == "processing"
    assert TaskView.model_validate(body["data"]["task"]).metadata == {"taskbell_test": True}
