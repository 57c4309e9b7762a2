from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from store.callback_tokens import make_token_id
from store.callback_urls import Uses, note_uses
from store.clock import ManualClock
from store.retention import Prune, prune
from store.tables import audit, callback_tokens, callback_urls
from tests.app import Taskbell, bearer, good, minimax, problem, running

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
        ({"single_task": "true"}, "'single_task'"),
        ({"single_task": None}, "'single_task'"),
        ({"url": "https://example.com"}, "'url' is not known"),
    ],
)
async def test_a_bad_wish_is_422_and_names_its_field(
    taskbell: Taskbell, fields: dict[str, Any], words: str
) -> None:
    wish = {"provider": "minimax", **fields}

    assert words in problem(await taskbell.api.post("/v1/callback-urls", json=wish), 422)


# One task


async def test_a_url_for_one_task_says_so_and_ends_after_a_week(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    made = await make(taskbell, single_task=True)
    asked_for = await make(taskbell, single_task=True, expires_in=60)

    assert made["single_task"] is True
    assert made["expires_at"] == "2026-01-08T12:00:00.000000Z"
    assert asked_for["expires_at"] == "2026-01-01T12:01:00.000000Z"
    assert (await make(taskbell))["single_task"] is False


async def test_a_url_for_one_task_takes_the_pushes_of_one_task(taskbell: Taskbell) -> None:
    path = urlsplit((await make(taskbell, single_task=True))["url"]).path

    for task_id in ("1", "2", "1"):
        good(await taskbell.push(minimax(task_id, "Processing"), path))

    assert [task["provider_task_id"] for task in await taskbell.tasks()] == ["1"]


# Revocation


async def revoke(taskbell: Taskbell, token_id: str) -> httpx.Response:
    return await taskbell.api.delete(f"/v1/callback-urls/{token_id}")


async def test_a_revoked_url_is_as_unknown_as_a_wrong_one(taskbell: Taskbell) -> None:
    made, other = await make(taskbell), await make(taskbell)
    path = urlsplit(made["url"]).path
    good(await taskbell.push(minimax("1", "Processing"), path))

    answer = await revoke(taskbell, made["id"])

    assert (answer.status_code, answer.content) == (204, b"")
    wrong = await taskbell.push(minimax(), "/callbacks/minimax/nonsense")
    for body in ({"challenge": "x"}, minimax(), b"{"):
        refused = await taskbell.push(body, path)
        assert (refused.status_code, refused.content) == (404, wrong.content)
        assert refused.headers == wrong.headers
    assert len(await taskbell.receipts()) == 1
    good(await taskbell.push({"challenge": "x"}, urlsplit(other["url"]).path))


async def test_revoking_twice_is_as_good_as_once(taskbell: Taskbell) -> None:
    made = await make(taskbell)

    answers = [await revoke(taskbell, made["id"]) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [204] * 3
    assert len(await taskbell.rows(callback_tokens)) == 1
    actions = [(row.action, row.object_id) for row in await taskbell.rows(audit)]
    assert actions == [("callback_url.created", made["id"]), ("callback_url.deleted", made["id"])]


async def test_a_url_nobody_remembers_can_be_revoked(taskbell: Taskbell) -> None:
    assert (await revoke(taskbell, make_token_id(None, 7))).status_code == 204


@pytest.mark.parametrize(
    "token_id",
    [
        "cb_",
        "cb_short",
        "cb_" + "z" * 27,
        "cb_" + "Z" * 26,
        "key_" + "z" * 26,  # an id, of something else
        "z" * 29,
        "%00",
        "cb_%2e%2e",
        "eyJwcm92aWRlciI6Im1pbmltYXgifQ.c2ln",  # a token, not its id
    ],
)
async def test_what_no_url_has_as_its_id_is_404(taskbell: Taskbell, token_id: str) -> None:
    answer = await revoke(taskbell, token_id)

    assert problem(answer, 404) == "nothing has that id"
    assert await taskbell.rows(callback_tokens) == []


async def test_revoking_needs_a_key_that_may_write(taskbell: Taskbell) -> None:
    made = await make(taskbell)
    key = good(
        await taskbell.api.post("/v1/api-keys", json={"name": "reader", "scope": "read"}), 201
    )
    path, header = f"/v1/callback-urls/{made['id']}", {"authorization": f"Bearer {key['key']}"}

    problem(await taskbell.door.delete(path), 401)
    problem(await taskbell.door.delete(path, headers=header), 403)
    good(await taskbell.push({"challenge": "x"}, urlsplit(made["url"]).path))


# The list


@pytest.fixture
async def either(database_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(database_url, clock) as taskbell:
        yield taskbell


async def test_urls_that_work_are_listed_newest_first_without_their_tokens(
    either: Taskbell, clock: ManualClock
) -> None:
    key = good(await either.api.post("/v1/api-keys", json={"name": "ci", "scope": "write"}), 201)
    first = await make(either, metadata={"customer": "42"}, expires_in=3600)
    clock.advance(seconds=1)
    wish, header = {"provider": "minimax", "single_task": True}, bearer(key["key"])
    second = good(await either.door.post("/v1/callback-urls", json=wish, headers=header), 201)

    answer = await either.api.get("/v1/callback-urls")

    newest, oldest = good(answer)["data"]
    assert oldest == {
        "id": first["id"],
        "provider": "minimax",
        "metadata": {"customer": "42"},
        "single_task": False,
        "created_by": "first",
        "created_at": "2026-01-01T12:00:00.000000Z",
        "expires_at": "2026-01-01T13:00:00.000000Z",
        "last_used_at": None,
    }
    assert newest["created_by"] == key["id"]
    assert (newest["id"], newest["single_task"]) == (second["id"], True)
    for made in (first, second):
        assert made["url"].rpartition("/")[2] not in answer.text


async def test_the_list_has_pages(either: Taskbell, clock: ManualClock) -> None:
    made = []
    for _ in range(5):
        made.append((await make(either))["id"])
        clock.advance(seconds=1)

    pages = await either.all_pages("/v1/callback-urls?limit=2")

    assert [url["id"] for url in pages] == made[::-1]
    assert good(await either.api.get("/v1/callback-urls?limit=5"))["next_cursor"] is None


async def test_what_was_revoked_or_has_ended_is_not_listed(
    either: Taskbell, clock: ManualClock
) -> None:
    revoked, _, stays = [await make(either, expires_in=end) for end in (None, 60, 3600)]
    await revoke(either, revoked["id"])
    clock.advance(seconds=61)

    assert [url["id"] for url in await either.data("/v1/callback-urls")] == [stays["id"]]
    assert len(await either.rows(callback_urls)) == 2


async def test_rows_of_urls_that_ended_go_after_a_day(either: Taskbell, clock: ManualClock) -> None:
    await make(either, expires_in=60)
    stays = await make(either)
    clock.advance(days=2)

    gone = await either.service.store.write(prune, Prune(timedelta(days=30)))

    assert gone == 1
    assert [row.id for row in await either.rows(callback_urls)] == [stays["id"]]


@pytest.mark.parametrize("scope", ["read", None])
async def test_the_list_needs_a_key_and_no_more(taskbell: Taskbell, scope: str | None) -> None:
    if scope is None:
        problem(await taskbell.door.get("/v1/callback-urls"), 401)
        return
    key = good(await taskbell.api.post("/v1/api-keys", json={"name": "a", "scope": scope}), 201)
    good(await taskbell.door.get("/v1/callback-urls", headers=bearer(key["key"])))


async def test_the_last_use_is_in_the_list(either: Taskbell, clock: ManualClock) -> None:
    made, other = await make(either), await make(either)
    used, earlier = clock() + timedelta(minutes=1), clock()

    for at in (earlier, used, earlier):  # two processes may write it down in any order
        await either.service.store.write(note_uses, Uses({made["id"]: at, "cb_unknown": at}))

    listed = {url["id"]: url["last_used_at"] for url in await either.data("/v1/callback-urls")}
    assert listed == {made["id"]: "2026-01-01T12:01:00.000000Z", other["id"]: None}


@pytest.mark.parametrize("body", [{"challenge": "x"}, minimax(), b"{"], ids=str)
async def test_every_use_is_noted(taskbell: Taskbell, body: Any) -> None:
    made = await make(taskbell)

    await taskbell.push(body, urlsplit(made["url"]).path)
    await taskbell.uses().flush()

    [url] = await taskbell.data("/v1/callback-urls")
    assert url["last_used_at"] == "2026-01-01T12:00:00.000000Z"


async def test_a_url_without_a_row_works_and_is_not_listed(taskbell: Taskbell) -> None:
    good(await taskbell.push(minimax()))  # as all were made before there were rows
    await taskbell.uses().flush()

    assert await taskbell.data("/v1/callback-urls") == []
    assert len(await taskbell.tasks()) == 1
