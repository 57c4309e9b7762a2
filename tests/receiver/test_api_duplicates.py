"""Two equal subscriptions: the second is refused and names the first, unless it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from store.clock import ManualClock
from store.events import Status
from store.tables import subscriptions
from tests.app import Taskbell, good, problem, running
from tests.pages import Document, signed_in

URL = "https://hooks.partner.org/a?b=c"
SLACK = "https://hooks.slack.com/services/T0/B0/hush"


@pytest.fixture
async def taskbell(database_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(database_url, clock) as taskbell:
        yield taskbell


@pytest.fixture
async def small(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock) as taskbell:
        yield taskbell


async def create(taskbell: Taskbell, url: str = URL, **fields: Any) -> httpx.Response:
    return await taskbell.api.post("/v1/subscriptions", json={"url": url, **fields})


EQUAL: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({}, {"url": "HTTPS://Hooks.Partner.org.:443/a?b=c#part"}),
    ({}, {"types": ["task.*"]}),
    ({"types": ["task.*"]}, {"types": ["task.failed", "task.*"]}),
    ({}, {"types": [f"task.{status}" for status in Status]}),
    (
        {"types": ["delivery.dead", *(f"task.{status}" for status in Status)]},
        {"types": ["task.*", "delivery.dead"]},
    ),
    (
        {"types": ["task.failed", "task.succeeded"]},
        {"types": ["task.succeeded", "task.failed", "task.failed"]},
    ),
    ({"providers": ["minimax", "atlascloud"]}, {"providers": ["atlascloud", "minimax"]}),
    ({"metadata": {"a": 1, "b": 2}}, {"metadata": {"b": 2, "a": 1}}),
    ({"filter": {"data.task.model": "m"}}, {"filter": {"data.task.model": "m"}}),
    ({}, {"format": "cloudevents", "description": "other", "headers": {"X": "1"}}),
    ({"active": False}, {}),
    ({"url": SLACK}, {"url": SLACK}),  # which are stored encrypted
]
DIFFERENT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"url": "https://hooks.partner.org/A?b=c"}),
    ({}, {"url": "https://hooks.partner.org/a"}),
    ({}, {"url": "http://hooks.partner.org/a?b=c"}),
    ({}, {"url": "https://hooks.partner.org:8443/a?b=c"}),
    ({}, {"types": ["task.failed"]}),
    ({"types": ["task.*"]}, {"types": ["task.*", "delivery.dead"]}),
    ({}, {"providers": ["minimax"]}),
    ({"metadata": {"a": 1}}, {"metadata": {"a": "1"}}),
    ({}, {"filter": {"data.task.model": "m"}}),
    ({"url": SLACK}, {"url": f"{SLACK}2"}),
]


@pytest.mark.parametrize(("first", "second"), EQUAL)
async def test_a_second_one_is_refused_and_names_the_first(
    small: Taskbell, first: dict[str, Any], second: dict[str, Any]
) -> None:
    made = good(await create(small, **first), 201)

    detail = problem(await create(small, **second), 409)
    again = good(await create(small, **second, allow_duplicate=True), 201)

    assert detail.startswith(f"{made['id']} sends the same events to this URL already")
    assert "allow_duplicate" in detail
    assert "hush" not in detail
    assert "allow_duplicate" not in again
    assert len(await small.rows(subscriptions)) == 2


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
async def test_one_that_differs_is_none(
    small: Taskbell, first: dict[str, Any], second: dict[str, Any]
) -> None:
    good(await create(small, **first), 201)
    good(await create(small, **second), 201)


async def test_a_deleted_one_is_no_first(small: Taskbell) -> None:
    made = good(await create(small), 201)
    await small.api.delete(f"/v1/subscriptions/{made['id']}")

    good(await create(small), 201)


async def test_of_many_that_come_at_once_one_is_made(taskbell: Taskbell) -> None:
    answers = await asyncio.gather(*(create(taskbell) for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    [row] = await taskbell.rows(subscriptions)
    refused = [answer.json()["detail"] for answer in answers if answer.status_code == 409]
    assert all(detail.startswith(row.id) for detail in refused)


async def test_of_two_processes_one_makes_it(postgresql_url: str, clock: ManualClock) -> None:
    async with running(postgresql_url, clock) as one, running(postgresql_url, clock) as other:
        for round_ in range(5):
            url = f"{URL}{round_}"
            both = await asyncio.gather(create(one, url), create(other, url))
            assert sorted(answer.status_code for answer in both) == [201, 409]


async def test_a_change_that_makes_two_the_same_is_refused_likewise(small: Taskbell) -> None:
    first = good(await create(small), 201)
    other = good(await create(small, "https://hooks.partner.org/b", types=["task.failed"]), 201)
    one = f"/v1/subscriptions/{other['id']}"

    good(await small.api.patch(one, json={"url": URL}))
    detail = problem(await small.api.patch(one, json={"types": None}), 409)
    good(await small.api.patch(one, json={"types": None, "allow_duplicate": True}))
    good(await small.api.patch(one, json={"url": URL, "description": "still the same"}))

    assert detail.startswith(first["id"])


async def test_the_page_says_so_and_offers_a_second_one(small: Taskbell) -> None:
    made = good(await create(small), 201)
    admin = await signed_in(small)
    path = "/subscriptions/new"

    refused = await admin.press(path, path, url=URL)
    page = Document(refused.text)
    chinese = Document((await admin.press(f"{path}?lang=zh", f"{path}?lang=zh", url=URL)).text)
    taken = await admin.press(path, path, url=URL, allow_duplicate="on")

    assert refused.status_code == 409
    assert "another subscription sends the same events" in page.text
    assert page.all("a", href=f"/subscriptions/{made['id']}")
    assert page.all("input", name="allow_duplicate")
    assert "已有订阅" in chinese.text
    assert taken.status_code == 200  # and shows its secret


async def test_the_audit_has_only_what_was_made(small: Taskbell) -> None:
    good(await create(small), 201)
    await create(small)

    assert [each["action"] for each in await small.data("/v1/audit")] == ["subscription.created"]
