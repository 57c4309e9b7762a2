from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from store.clock import ManualClock
from tests.app import Taskbell, good, minimax, problem, running

PUBLIC = {"PUBLIC_URL": "https://bell.example.com/base/"}


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock) as taskbell:
        yield taskbell


async def make(taskbell: Taskbell, **fields: Any) -> dict[str, Any]:
    answer = await taskbell.api.post("/v1/callback-urls", json={"provider": "minimax", **fields})
    made: dict[str, Any] = good(answer, 201)
    return made


async def test_a_callback_url_takes_pushes(taskbell: Taskbell) -> None:
    made = await make(taskbell, metadata={"customer": "42"})

    assert made["expires_at"] is None
    path = urlsplit(made["url"]).path
    assert good(await taskbell.push({"challenge": "x"}, path)) == {"challenge": "x"}
    await taskbell.push(minimax(), path)
    [task] = await taskbell.tasks()
    assert task["metadata"] == {"customer": "42"}


async def test_a_callback_url_is_below_the_public_url(sqlite_url: str, clock: ManualClock) -> None:
    async with running(sqlite_url, clock, PUBLIC) as taskbell:
        made = await make(taskbell)

    assert made["url"].startswith("https://bell.example.com/base/callbacks/minimax/")


async def test_a_callback_url_ends_when_it_said(taskbell: Taskbell, clock: ManualClock) -> None:
    made = await make(taskbell, expires_in=3600)
    path = urlsplit(made["url"]).path

    assert made["expires_at"] == "2026-01-01T13:00:00.000000Z"
    good(await taskbell.push({"challenge": "x"}, path))
    clock.advance(seconds=(timedelta(hours=1, minutes=11)).total_seconds())
    problem(await taskbell.push({"challenge": "x"}, path), 404)


async def test_no_two_callback_urls_are_the_same(taskbell: Taskbell) -> None:
    assert (await make(taskbell))["url"] != (await make(taskbell))["url"]


async def test_a_callback_url_fits_in_what_providers_take(taskbell: Taskbell) -> None:
    made = await make(taskbell, metadata={"a": "é" * 160}, expires_in=1)

    assert len(made["url"]) < 2048
    good(await taskbell.push({"challenge": "x"}, urlsplit(made["url"]).path))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"provider": None}, "'provider'"),
        ({"provider": "nobody"}, "atlascloud, minimax, opencomputing"),
        ({"provider": "opencomputing"}, "does not push"),
        ({"expires_in": 0}, "'expires_in'"),
        ({"expires_in": -1}, "'expires_in'"),
        ({"expires_in": 1.5}, "'expires_in'"),
        ({"expires_in": "60"}, "'expires_in'"),
        ({"expires_in": True}, "'expires_in'"),
        ({"expires_in": 10**20}, "'expires_in'"),
        ({"metadata": "x"}, "'metadata'"),
        ({"metadata": {"a": "x" * 1024}}, "1024"),
        ({"metadata": {"a": "\x00"}}, "'metadata'"),
        ({"url": "https://example.com"}, "'url' is not known"),
    ],
)
async def test_a_bad_wish_is_422_and_names_its_field(
    taskbell: Taskbell, fields: dict[str, Any], words: str
) -> None:
    wish = {"provider": "minimax", **fields}

    assert words in problem(await taskbell.api.post("/v1/callback-urls", json=wish), 422)
