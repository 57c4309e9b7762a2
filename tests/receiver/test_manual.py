"""/docs: complete, true, safe to look at, and its examples work as they stand.

deploy/docs/reference/api.md is made from the same, and shows the same commands.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import pytest

from deploy.demo.server import LocalServer
from deploy.demo.subscriber import Subscriber
from deploy.serving import openapi_document
from deploy.settings import process_environment
from receiver import models
from receiver.glossary import EXAMPLES, MEANINGS
from receiver.manual import Manual, Operation, Shape, manual_of
from receiver.manual_page import PROBLEMS, manual_page
from store.clock import ManualClock
from tests.app import ADMIN_KEY, Taskbell, good, minimax, running
from tests.pages import signed_in
from tests.patience import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def manual() -> Manual:
    return manual_of(openapi_document())


ORDER = ("POST", "GET", "PATCH", "DELETE")
"""What waits for an end has one by then; what switches off comes late."""


def operations(manual: Manual) -> list[Operation]:
    return [operation for group in manual.groups for operation in group.operations]


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock, {"ALLOW_NETWORKS": "127.0.0.0/8"}) as taskbell:
        yield taskbell


class Page(HTMLParser):
    """What a browser would make of a page, as far as these tests ask."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids[value or ""] += 1
            elif name in ("href", "src"):
                self.links.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_needs_no_key_no_script_and_no_other_host(taskbell: Taskbell) -> None:
    answer = await taskbell.door.get("/docs")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(answer.text)
    assert page.tags["script"] == page.tags["img"] == 0
    assert not [name for name in page.attributes if name.startswith("on") or name == "style"]
    elsewhere = {link for link in page.links if not link.startswith("#")}
    assert elsewhere == {"/openapi.json", "/static/icon.svg"}
    for link in elsewhere:
        assert (await taskbell.door.get(link)).status_code == 200


async def test_its_policy_lets_its_one_style_and_its_icon_through_and_nothing_else(
    taskbell: Taskbell,
) -> None:
    answer = await taskbell.door.get("/docs")

    [style] = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    [policy] = answer.headers.get_list("content-security-policy")
    rules = dict(rule.split(None, 1) for rule in policy.split("; "))
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "img-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_link_within_the_page_leads_somewhere(manual: Manual) -> None:
    page = Page(bytes(manual_page(manual).body).decode())

    assert [name for name, times in page.ids.items() if times > 1] == []
    targets = {link.removeprefix("#") for link in page.links if link.startswith("#")}
    assert targets - set(page.ids) == set()


def test_the_page_has_every_operation_with_its_scope_and_each_problem_explained(
    manual: Manual,
) -> None:
    page = Page(bytes(manual_page(manual).body).decode())

    for path, by_method in openapi_document()["paths"].items():
        for operation in by_method.values():
            assert path in page.text
            assert operation["summary"] in page.text
            assert operation.get("description", "Needs no key.").replace("`", "") in page.text
    assert set(PROBLEMS) == {status for each in operations(manual) for status in each.problems}


def test_what_the_document_says_is_text_to_the_page() -> None:
    foul = '<script>alert("`1`")</script>'
    shape = Shape(foul, foul, (), (foul,), foul)

    html = bytes(manual_page(Manual(foul, (), (shape,))).body).decode()

    assert "<script" not in html
    assert "&lt;script&gt;alert(&#34;" in html


def test_every_field_and_parameter_is_explained_and_nothing_else_is(manual: Manual) -> None:
    fields = [(shape.name, field) for shape in manual.shapes for field in shape.fields]
    fields += [("", field) for each in operations(manual) for field in each.parameters]

    assert [(where, field.name) for where, field in fields if not field.meaning] == []
    names = {field.name for _, field in fields} | {f"{where}.{f.name}" for where, f in fields}
    assert set(MEANINGS) - names == set()


def test_every_body_has_an_example_that_its_model_takes(manual: Manual) -> None:
    wanted = {each.body.name for each in operations(manual) if each.body}
    wanted |= {told.shape for each in operations(manual) for told in each.answers if told.shape}
    assert {name for name in wanted if not name.startswith("Page_")} - set(EXAMPLES) == set()

    for name, example in EXAMPLES.items():
        model = getattr(models, name)
        assert set(model.model_validate(example).model_dump(exclude_unset=True)) == set(example)


async def test_every_example_works_as_it_stands(taskbell: Taskbell, manual: Manual) -> None:
    hook = Subscriber("")
    async with LocalServer(hook.app) as subscriber, LocalServer(taskbell.app) as server:
        ids = await things(taskbell, f"{subscriber.url}/hook")
        # a stream has no end
        ready = [each for each in operations(manual) if not each.path.endswith("/stream")]
        for operation in sorted(ready, key=lambda each: ORDER.index(each.method)):
            command = operation.curl.replace(
                "https://your-app.example.com/hook", f"{subscriber.url}/hook"
            ).replace("sub_1krsxv3g00m3vqk8yh5d2rwztc", ids["Subscriptions"])
            thing = next((g.name for g in manual.groups if operation in g.operations), "")
            status = await curl(command, server.url, ids.get(thing, ""))

            assert status in {answer.status for answer in operation.answers}, command


async def things(taskbell: Taskbell, hook: str) -> dict[str, str]:
    """One of everything that has an id."""
    subscription = await taskbell.subscribe(hook)
    task = await taskbell.track("7")
    await taskbell.push(minimax("1"))
    made = {"provider": "minimax"}
    url = good(await taskbell.api.post("/v1/callback-urls", json=made), 201)
    key = good(await taskbell.api.post("/v1/api-keys", json={"name": "ci"}), 201)
    [delivery, *_] = await taskbell.data("/v1/deliveries")
    [event, *_] = await taskbell.events()
    await signed_in(taskbell)
    [session, *_] = await taskbell.data("/v1/sessions")
    return {
        "API keys": key["id"],
        "Callback URLs": url["id"],
        "Deliveries": delivery["id"],
        "Events": event["id"],
        "Sessions": session["id"],
        "Subscriptions": subscription["id"],
        "Tasks": task["id"],
    }


async def curl(command: str, url: str, thing_id: str) -> int:
    """The status that the answer to a reader's curl has."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-euc", f"{command} --silent --output /dev/null --write-out '%{{http_code}}'"),
        env={
            "PATH": process_environment()["PATH"],
            "TASKBELL_URL": url,
            "TASKBELL_API_KEY": ADMIN_KEY,
            "ID": thing_id,
        },
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    return int(json.loads(output))
