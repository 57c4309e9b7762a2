"""What the services of deploy/examples ask of a request, and how they answer.

Where the services describe this; only Airflow's source was read for this file, the rest was noted
down earlier: docs.github.com/rest/repos/repos (Create a repository dispatch event); Airflow 3.3.2, core_api/datamodels/dag_run.py (TriggerDAGRunPostBody); langgenius/dify-docs,
webhook-trigger.mdx; CloudEvents 1.0.2, JSON format and HTTP binding; for Event Grid
learn.microsoft.com, event-grid/post-to-custom-topic; for Kestra its Webhook trigger's page.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.server import LocalServer
from tests.dispatch.fake_chat import Refused, need, sized

Answer = tuple[int, Mapping[str, str], Any]


@dataclass(frozen=True, slots=True)
class Call:
    """What a service was sent; headers by their lower-case names."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass(frozen=True, slots=True)
class Fake:
    """One service. answers: taken, limited, revoked, malformed."""

    rules: Callable[[Call], None]
    answers: Mapping[str, Answer]


def json_object(call: Call) -> dict[str, Any]:
    need(call.headers["content-type"] == "application/json", "content type")
    body = call.body
    need(isinstance(body, dict), "no object")
    return dict(body)


def flat(call: Call) -> dict[str, Any]:
    body = json_object(call)
    for name, value in body.items():
        need(not isinstance(value, dict | list), f"{name} is nested")
    return body


def github(call: Call) -> None:
    body = json_object(call)
    need(call.path == "/repos/OWNER/REPO/dispatches", "Not Found")
    need(call.headers["authorization"].startswith("Bearer "), "Requires authentication")
    need(call.headers["user-agent"], "Request forbidden by administrative rules")
    need(call.headers["accept"] == "application/vnd.github+json", "accept")
    need(body.keys() == {"event_type", "client_payload"}, "not a permitted key")
    sized(body["event_type"], 100, "event_type")
    need(len(body["client_payload"]) <= 10, "no more than 10 properties are allowed")
    need(len(call.raw) < 65_535, "client_payload is too large")


_RUN = {
    *("dag_run_id", "data_interval_start", "data_interval_end", "logical_date", "run_after"),
    *("conf", "note", "partition_key"),
}


def airflow(call: Call) -> None:
    body = json_object(call)
    need(call.path == "/api/v2/dags/taskbell/dagRuns", "Not Found")
    need(call.headers["authorization"].startswith("Bearer "), "Unauthorized")
    need(body.keys() <= _RUN, "extra_forbidden")
    need("logical_date" in body and body["logical_date"] is None, "logical_date")
    need(isinstance(body["dag_run_id"], str) and isinstance(body["conf"], dict), "dict_type")


def dify(call: Call) -> None:
    body = flat(call)
    need(call.headers["x-taskbell-key"], "a required header is missing")
    for name in ("event", "type", "task", "provider", "model", "url", "error"):
        need(isinstance(body.get(name), str), f"{name} is no string")


def cloud_event(call: Call) -> None:
    need(call.headers["content-type"] == "application/cloudevents+json", "415")
    body = call.body
    for name in ("id", "source", "type"):
        need(isinstance(body[name], str) and body[name], name)
    need(body["specversion"] == "1.0" and "data" in body, "no CloudEvent")


def event_grid(call: Call) -> None:
    cloud_event(call)
    need(call.headers["aeg-sas-key"], "Unauthorized")
    need(call.query == {"api-version": "2018-01-01"}, "api-version")


def webhook(call: Call) -> None:
    body = json_object(call)
    need(body["id"] == call.headers["webhook-id"], "no Standard Webhook")
    need(body["data"]["task"]["id"], "no task")


def any_hook(call: Call) -> None:
    need(flat(call), "empty")


_LATER = {"retry-after": "7"}


def _answers(taken: int, revoked: int, malformed: int, body: Any = None) -> dict[str, Answer]:
    return {
        "taken": (taken, {}, body),
        "limited": (429, _LATER, {"message": "Too Many Requests"}),
        "revoked": (revoked, {}, {"message": "gone, or not allowed"}),
        "malformed": (malformed, {}, {"message": "that is no request of ours"}),
    }


FAKES: Mapping[str, Fake] = {
    "api.github.com": Fake(github, _answers(204, 401, 422)),
    "airflow.example.com": Fake(airflow, _answers(200, 401, 422, {"state": "queued"})),
    "dify.example.com": Fake(dify, _answers(200, 404, 400, {"message": "Webhook processed"})),
    "hooks.zapier.com": Fake(any_hook, _answers(200, 410, 400)),
    "hook.eu2.make.com": Fake(any_hook, _answers(200, 410, 400, "Accepted")),
    "broker-ingress.knative-eventing.svc.cluster.local": Fake(cloud_event, _answers(202, 404, 400)),
    "TOPIC.REGION-1.eventgrid.azure.net": Fake(event_grid, _answers(200, 401, 400)),
    "kestra.example.com": Fake(webhook, _answers(200, 404, 422, {"id": "x"})),
    "n8n.example.com": Fake(webhook, _answers(200, 404, 500, {"message": "Workflow was started"})),
    "your-app.example.com": Fake(webhook, _answers(204, 410, 400)),
}


@dataclass
class FakeService:
    """A service on a real socket. what: how it answers; a request against its rules is malformed."""

    fake: Fake
    what: str = "taken"
    url: str = ""
    calls: list[Call] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[FakeService]:
        app = Starlette(routes=[Route("/{path:path}", self._take, methods=["POST"])])
        async with LocalServer(app) as server:
            self.url = server.url
            yield self

    async def _take(self, request: Request) -> Response:
        query = dict(request.query_params)
        call = Call(request.url.path, query, request.headers, await request.body())
        self.calls.append(call)
        try:
            self.fake.rules(call)
        except (Refused, KeyError, ValueError, TypeError) as error:
            return Response(f"{type(error).__name__}: {error}", self.fake.answers["malformed"][0])
        status, headers, body = self.fake.answers[self.what]
        content = "" if body is None or status == 204 else json.dumps(body)
        return Response(content, status, headers=dict(headers))
