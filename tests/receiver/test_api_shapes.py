"""filter, shape and method of a subscription: checked when saved, shown, and used."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.server import LocalServer
from store.clock import ManualClock
from tests.app import Taskbell, problem, running

DISPATCH = "{event_type: type, client_payload: {task: data.task.id, model: data.task.model}}"


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock, {"ALLOW_NETWORKS": "127.0.0.0/8"}) as taskbell:
        yield taskbell


async def test_they_are_shown_as_they_were_given(taskbell: Taskbell) -> None:
    wish: dict[str, Any] = {"filter": {"data.late": False}, "shape": DISPATCH, "method": "PUT"}
    made = await taskbell.subscribe(**wish)

    assert {name: made[name] for name in wish} == wish
    changed = await taskbell.api.patch(f"/v1/subscriptions/{made['id']}", json={"shape": None})
    assert changed.json() | {"shape": DISPATCH} == {
        name: value
        for name, value in (made | {"updated_at": changed.json()["updated_at"]}).items()
        if name != "secret"
    }


@pytest.mark.parametrize(
    ("wish", "detail"),
    [
        ({"filter": {"task.model": "a"}}, "fields are written like data.task.model"),
        ({"filter": []}, "filter"),
        ({"shape": "data.["}, "field 'shape': the shape is no JMESPath expression"),
        ({"shape": "data.nothing"}, "field 'shape': the shape makes nothing of an event"),
        ({"shape": "nothing(@)"}, "field 'shape': the shape fails on an event"),
        (
            {"shape": "[@, @, @, @, @, @, @, @, @, @, @, @][]." * 3 + "[to_string([@, @])]"},
            "field 'shape': the shape fails on an event: it takes more work than a shape may: 2 MiB",
        ),
        ({"shape": "a|" * 150 + "a"}, "field 'shape': the shape cannot be used: its parts are"),
        ({"method": "GET"}, "method"),
        ({"method": "POST /x HTTP/1.1\r\nX: y"}, "method"),
    ],
)
async def test_what_cannot_work_is_refused_when_saved(
    taskbell: Taskbell, wish: dict[str, Any], detail: str
) -> None:
    body = {"url": "http://127.0.0.1:9000/", **wish}

    answer = await taskbell.api.post("/v1/subscriptions", json=body)

    assert detail in problem(answer, 422)


@pytest.mark.parametrize("format_name", ["webhook", "cloudevents"])
async def test_a_shaped_event_arrives_by_the_method_and_signed_as_sent(
    taskbell: Taskbell, format_name: str
) -> None:
    seen: list[tuple[str, bytes]] = []

    async def hook(request: Request) -> Response:
        seen.append((request.method, await request.body()))
        return Response(status_code=204)

    app = Starlette(routes=[Route("/hook", hook, methods=["PUT"])])
    async with LocalServer(app) as server:
        made = await taskbell.subscribe(
            url=f"{server.url}/hook", format=format_name, shape=DISPATCH, method="PUT"
        )
        trial = await taskbell.api.post(f"/v1/subscriptions/{made['id']}/test")

    assert trial.json()["delivered"] is True
    [(method, raw)] = seen
    body = json.loads(raw)
    shaped = body if format_name == "webhook" else body["data"]
    assert method == "PUT"
    assert shaped["event_type"] == "task.succeeded"
    assert shaped["client_payload"]["model"] == "MiniMax-Hailuo-2.3"
