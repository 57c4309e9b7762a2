from __future__ import annotations

from typing import Any

import pytest

from store.clock import ManualClock
from store.keys import digest
from store.tables import api_keys
from tests.app import Taskbell, bearer, good, problem, running


async def make(taskbell: Taskbell, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = good(
        await taskbell.api.post("/v1/api-keys", json={"name": "ci", **fields}), 201
    )
    return made


async def test_a_key_is_shown_once_and_kept_as_a_digest(taskbell: Taskbell) -> None:
    made = await make(taskbell, scope="write")

    assert made["name"] == "ci"
    assert made["scope"] == "write"
    assert made["created_at"] == "2026-01-01T12:00:00.000000Z"
    listed = await taskbell.api.get("/v1/api-keys")
    assert good(listed)["data"] == [{k: v for k, v in made.items() if k != "key"}]
    assert made["key"] not in listed.text
    [row] = await taskbell.rows(api_keys)
    assert row.digest == digest(made["key"])
    assert made["key"] not in str(row)


async def test_a_key_may_read_unless_it_is_told_otherwise(taskbell: Taskbell) -> None:
    made = await make(taskbell)

    assert made["scope"] == "read"
    good(await taskbell.door.get("/v1/tasks", headers=bearer(made["key"])))


async def test_a_key_is_revoked(taskbell: Taskbell) -> None:
    made = await make(taskbell)

    answer = await taskbell.api.delete(f"/v1/api-keys/{made['id']}")

    assert (answer.status_code, answer.content) == (204, b"")
    problem(await taskbell.door.get("/v1/tasks", headers=bearer(made["key"])), 401)
    assert await taskbell.data("/v1/api-keys") == []
    problem(await taskbell.api.delete(f"/v1/api-keys/{made['id']}"), 404)


async def test_keys_are_listed_newest_first_in_pages(taskbell: Taskbell) -> None:
    made = [(await make(taskbell, name=f"k{number}"))["id"] for number in range(5)]

    listed = await taskbell.all_pages("/v1/api-keys?limit=2")

    assert [key["id"] for key in listed] == made[::-1]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "'name'"),
        ({"name": ""}, "'name'"),
        ({"name": "x" * 201}, "'name'"),
        ({"name": 5}, "'name'"),
        ({"name": "a\x00b"}, "'name'"),
        ({"name": "x", "scope": "root"}, "'scope'"),
        ({"name": "x", "scope": None}, "'scope'"),
        ({"name": "x", "key": "mine"}, "'key'"),
        ({"name": "x", "id": "key_1"}, "'id'"),
        ([], "object"),
    ],
)
async def test_a_bad_wish_is_422_and_names_its_field(
    sqlite_url: str, clock: ManualClock, body: Any, place: str
) -> None:
    async with running(sqlite_url, clock) as taskbell:
        assert place in problem(await taskbell.api.post("/v1/api-keys", json=body), 422)
        assert await taskbell.data("/v1/api-keys") == []
