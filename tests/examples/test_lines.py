"""Every `taskbell subscribe` line of deploy/examples, word for word, against the service it is for."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from typer.testing import CliRunner

from deploy.cli import build_app
from deploy.cli.client import Client
from deploy.cli.frame import Surroundings
from dispatch.sending import Sent
from dispatch.sink import Event, Result
from store.clock import ManualClock
from store.subscriptions import get_subscription
from tests.app import ADMIN_KEY, Taskbell, good, running
from tests.dispatch.chat_events import about, failure
from tests.examples.fake_services import FAKES, FakeService

EXAMPLES = Path(__file__).parents[2] / "deploy/examples"
VARIABLE = re.compile(r"\$[A-Z_]+")
TOKEN = "a-token-0123"
SUCCESS, FAILURE = about(), failure("1026", "sensitive content")
BARE = about(model=None, kind=None, outputs=[], metadata={})


@dataclass(frozen=True, slots=True)
class Line:
    file: str
    words: tuple[str, ...]

    @property
    def url(self) -> str:
        return self.words[2]

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc


def lines() -> list[Line]:
    """What a reader would type, with variables set."""
    found = []
    for path in sorted(EXAMPLES.rglob("*")):
        if path.suffix not in (".md", ".py", ".yml", ".mjs") and path.name != "n8n.json":
            continue
        text = path.read_text(encoding="utf-8")
        if path.name == "n8n.json":  # its sticky note
            text = "\n".join(
                node["parameters"].get("content", "") for node in json.loads(text)["nodes"]
            )
        joined = re.sub(r"\\\n\s*(?:#|//)?\s*", "", text)
        for command in re.findall(
            r"^[\s#/`\d.]*(taskbell subscribe [^`\n]*(?:`null`[^`\n]*)?)", joined, re.M
        ):
            words = shlex.split(VARIABLE.sub(TOKEN, command))
            found.append(Line(path.name, tuple(words)))
    return found


LINES = lines()


def named(line: Line) -> str:
    return f"{line.file} {line.host}"


def subscription_of(line: Line) -> dict[str, Any]:
    """The body that the command line makes of it."""
    sent: list[Any] = []

    def take(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(201, json={"id": "sub_1", "secret": "whsec_x"})

    def connect() -> Client:
        return Client("http://taskbell.test", ADMIN_KEY, httpx.MockTransport(take))

    around = Surroundings(connect=connect)
    result = CliRunner().invoke(build_app(), line.words[1:], obj=around, prog_name="taskbell")
    assert result.exit_code == 0, result.output
    body: dict[str, Any] = sent[0]
    return body


@pytest.fixture(params=LINES, ids=named)
def line(request: pytest.FixtureRequest) -> Line:
    found: Line = request.param
    return found


@pytest.fixture
async def service(line: Line) -> AsyncIterator[FakeService]:
    async with FakeService(FAKES[line.host]).served() as served:
        yield served


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock, {"ALLOW_NETWORKS": "127.0.0.0/8"}) as taskbell:
        yield taskbell


async def subscribed(taskbell: Taskbell, line: Line, service: FakeService) -> str:
    body = subscription_of(line)
    parts = urlsplit(line.url)
    body["url"] = service.url + line.url.removeprefix(f"{parts.scheme}://{parts.netloc}")
    made = good(await taskbell.api.post("/v1/subscriptions", json=body), 201)
    return str(made["id"])


async def send(taskbell: Taskbell, subscription_id: str, event: Event) -> Sent:
    known = await taskbell.service.store.read(get_subscription, subscription_id)
    assert known is not None
    return await taskbell.service.sender.send(event, known)


def test_every_example_has_its_line_and_every_line_its_service() -> None:
    programs = {path.name for path in EXAMPLES.rglob("*") if path.suffix in (".py", ".yml", ".mjs")}
    pages = {path.name for path in EXAMPLES.glob("*.md")} - {"README.md"}

    assert {line.file for line in LINES} == programs | pages | {"n8n.json"}
    assert {line.host for line in LINES} == set(FAKES)


def test_the_index_names_every_example() -> None:
    index = (EXAMPLES / "README.md").read_text()

    named = {link.partition("/")[0] for link in re.findall(r"\]\(([^)]+)\)", index)}

    assert named == {path.name for path in EXAMPLES.iterdir()} - {"README.md", "__pycache__"}


async def test_the_service_takes_every_event(
    taskbell: Taskbell, line: Line, service: FakeService
) -> None:
    subscription_id = await subscribed(taskbell, line, service)

    for event in (SUCCESS, FAILURE, BARE):
        sent = await send(taskbell, subscription_id, event)
        assert sent.outcome.result is Result.DELIVERED, sent.answer


async def test_the_services_other_answers_are_understood(
    taskbell: Taskbell, line: Line, service: FakeService
) -> None:
    subscription_id = await subscribed(taskbell, line, service)
    outcomes = {}

    for service.what in ("limited", "revoked", "malformed"):
        sent = await send(taskbell, subscription_id, SUCCESS)
        outcomes[service.what] = sent.outcome
        assert sent.answer is not None
        assert sent.answer.status == service.fake.answers[service.what][0]
        assert TOKEN not in sent.outcome.reason

    assert outcomes["limited"].retry_after == timedelta(seconds=7)
    gone = service.fake.answers["revoked"][0] == 410
    assert outcomes["revoked"].result is (Result.REFUSED if gone else Result.RETRY)
    assert outcomes["malformed"].result is Result.RETRY


@pytest.mark.parametrize("line", [each for each in LINES if "--shape" in each.words], ids=named)
async def test_a_body_without_the_shape_is_not_taken(
    taskbell: Taskbell, line: Line, service: FakeService
) -> None:
    cut = line.words.index("--shape")
    plain = replace(line, words=line.words[:cut] + line.words[cut + 2 :])
    subscription_id = await subscribed(taskbell, plain, service)

    sent = await send(taskbell, subscription_id, about())

    assert sent.outcome.result is Result.RETRY


def dag() -> ast.Module:
    return ast.parse((EXAMPLES / "airflow_dag.py").read_text())


def test_the_dag_reads_what_the_shape_writes() -> None:
    [shape] = [
        line.words[line.words.index("--shape") + 1]
        for line in LINES
        if line.file == "airflow_dag.py"
    ]
    written = set(re.findall(r"(\w+): ", shape.partition("conf: {")[2]))
    read = {
        str(node.slice.value)
        for node in ast.walk(dag())
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "conf"
        and isinstance(node.slice, ast.Constant)
    }

    assert read
    assert read <= written
