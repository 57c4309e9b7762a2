"""What tells open pages that something changed, and pages about what went wrong."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import NoReturn

import pytest
from starlette.requests import Request
from starlette.routing import Route

import receiver.sse
from store.clock import ManualClock
from store.events import Status
from store.records import record
from tests.app import SECURITY_HEADERS, Taskbell, good, minimax, problem, running
from tests.making import poll
from tests.pages import Browser, Document, signed_in
from tests.streams import WHOLE, Client, idle, opened

NAV = {"/", "/events", "/subscriptions", "/deliveries", "/providers"}


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock) as taskbell:
        yield taskbell


def cookie(person: Browser) -> dict[str, str]:
    pairs = dict(person.client.cookies).items()
    return {"cookie": "; ".join(f"{name}={value}" for name, value in pairs), "authorization": ""}


async def begun(client: Client) -> None:
    await client.until(lambda: client.raw or client.ended)


# What is told


async def test_a_page_hears_which_task_changed_and_nothing_else_of_it(taskbell: Taskbell) -> None:
    person = await signed_in(taskbell)
    async with opened(taskbell.app, headers=cookie(person), path="/live") as client:
        await begun(client)
        task = await taskbell.track("1", metadata={"customer": "a secret"})
        await taskbell.push(minimax("1"))
        sent = await client.wait_for(2)

    types = ["task.queued", "task.succeeded"]
    assert (SECURITY_HEADERS | WHOLE).items() <= client.headers.items()
    assert [each.event for each in sent] == ["changed", "changed"]
    assert [each.data for each in sent] == [{"type": t, "task": task["id"]} for t in types]


async def test_a_tasks_page_hears_of_that_task_and_of_its_progress(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    task, person = await taskbell.track("1"), await signed_in(taskbell)
    store = taskbell.service.store
    query = f"task={task['id']}"
    async with opened(taskbell.app, query, cookie(person), path="/live") as client:
        await begun(client)
        await taskbell.track("2")
        await store.write(record, poll("1", Status.PROCESSING, progress=0.5))
        await client.wait_for(1)
        clock.advance(seconds=1)  # a row is new to who has seen it when its time is another
        await store.write(record, poll("1", Status.PROCESSING, progress=0.6))
        await client.until(lambda: "task.progress" in str(client.raw))

    assert {each.data["task"] for each in client.sent} == {task["id"]}


async def test_who_is_signed_in_no_longer_hears_no_more(
    taskbell: Taskbell, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver.sse, "ADMIT_SECONDS", 0.0)
    person = await signed_in(taskbell)
    async with opened(taskbell.app, headers=cookie(person), path="/live") as client:
        await begun(client)
        clock.advance(hours=12)
        await taskbell.track("1")
        await client.until(lambda: client.ended)

    assert client.sent == []


async def test_a_page_of_who_signs_out_elsewhere_hears_no_more_at_once(taskbell: Taskbell) -> None:
    person, other = await signed_in(taskbell), await signed_in(taskbell)
    async with (
        opened(taskbell.app, headers=cookie(person), path="/live") as client,
        opened(taskbell.app, headers=cookie(other), path="/live") as stays,
    ):
        await begun(client)
        await begun(stays)
        await idle(taskbell.service.feed, 2)
        await person.press("/", "/logout")
        await client.until(lambda: client.ended)
        await taskbell.track("1")
        await stays.wait_for(1)

    assert client.sent == []


async def test_it_ends_when_the_process_is_about_to_stop(taskbell: Taskbell) -> None:
    person = await signed_in(taskbell)
    async with opened(taskbell.app, headers=cookie(person), path="/live") as client:
        await begun(client)
        taskbell.service.feed.end()
        await client.until(lambda: client.ended)

    assert (await person.client.get("/live")).status_code == 503


# What went wrong


@pytest.mark.parametrize("path", ["/", "/tasks/task_01kdwpvng0jmwss390q20wa8r0", "/nothing-here"])
async def test_with_the_store_away_there_is_a_page_that_says_so(
    taskbell: Taskbell, path: str
) -> None:
    wish = {"name": "reader", "scope": "read"}
    key = good(await taskbell.api.post("/v1/api-keys", json=wish), 201)["key"]
    person = await signed_in(taskbell, key)
    taskbell.service.access.changed()  # what was known of keys is stale
    taskbell.service.store.close()

    status = 404 if path == "/nothing-here" else 503
    page = Document(await person.see(path, status, accept="text/html"))

    assert page.all("a", href="/")
    assert status == 404 or "TASKBELL_DATABASE_URL" in page.text


async def test_who_is_signed_in_keeps_the_screens_on_a_page_about_nothing(
    taskbell: Taskbell,
) -> None:
    person = await signed_in(taskbell)

    page = Document(await person.see("/nothing-here", 404, accept="text/html"))

    assert {each.attributes["href"] for each in page.all("a")} >= NAV


async def boom(_request: Request) -> NoReturn:
    raise ValueError("a secret of ours")


async def test_a_bug_is_a_page_with_an_id_that_the_log_has(
    taskbell: Taskbell, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await signed_in(taskbell)
    taskbell.app.router.routes.append(Route("/broken", boom))
    monkeypatch.setattr("receiver.pages.tasks.look_through", boom)

    for path in ("/", "/broken"):
        caplog.clear()
        answer = await person.client.get(path, headers={"accept": "text/html"})
        [logged] = [each for each in caplog.records if each.name == "taskbell.pages"]
        assert answer.status_code == 500
        assert vars(logged)["error_id"] in Document(answer.text).text
        assert logged.levelno == logging.ERROR
        assert "a secret of ours" not in answer.text
        assert SECURITY_HEADERS.keys() <= answer.headers.keys()
    detail = problem(await taskbell.api.get("/broken"), 500)
    assert "a secret of ours" not in detail
