from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from receiver.access import Access
from receiver.auth import Authority
from receiver.problems import Problem
from store import keys
from store.clock import ManualClock
from store.keys import NewKey, Scope, new_key_text
from store.tables import api_keys
from tests.app import ADMIN_KEY, AWAY, Taskbell, bearer, good, problem, running
from tests.conftest import START
from tests.e2e.process import until
from tests.patience import PATIENCE_SECONDS
from tests.streams import listening

ID = "_01kdwpvng0jmwss390q20wa8r0"  # well formed, and of nothing


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock) as taskbell:
        yield taskbell


async def make_key(taskbell: Taskbell, scope: Scope) -> str:
    made = good(await taskbell.api.post("/v1/api-keys", json={"name": "k", "scope": scope}), 201)
    key: str = made["key"]
    return key


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("Bearer", id="no key"),
        pytest.param("Bearer ", id="an empty key"),
        pytest.param("Bearer wrong", id="a wrong key"),
        pytest.param(ADMIN_KEY, id="no scheme"),
        pytest.param(f"Basic {ADMIN_KEY}", id="another scheme"),
        pytest.param(f"Bearer  {ADMIN_KEY}", id="two blanks"),
        pytest.param(f"Bearer {ADMIN_KEY}x", id="one character more"),
        pytest.param(f"Bearer {ADMIN_KEY[:-1]}", id="one character less"),
        pytest.param(f"Bearer {ADMIN_KEY.upper()}", id="another case"),
        pytest.param(f"Bearer {ADMIN_KEY[:11]}", id="the part that may be shown"),
        pytest.param(f"Bearer {ADMIN_KEY}, Bearer x", id="a list"),
        pytest.param("Bearer \xe9\xff", id="not ASCII"),
        pytest.param("Bearer " + "A" * 9_000, id="9,000 characters"),
        pytest.param("Bearer ' OR 1=1 --", id="SQL"),
    ],
)
async def test_without_a_good_key_the_api_is_closed(taskbell: Taskbell, value: str | None) -> None:
    headers = [] if value is None else [(b"authorization", value.encode("latin-1"))]

    answer = await taskbell.door.get("/v1/tasks", headers=headers)

    assert "Authorization: Bearer" in problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_two_authorization_headers_are_none(taskbell: Taskbell) -> None:
    # a proxy in front may have looked at the other one
    both = [("authorization", f"Bearer {ADMIN_KEY}"), ("authorization", "Bearer wrong")]

    problem(await taskbell.door.get("/v1/tasks", headers=both), 401)
    problem(await taskbell.door.get("/v1/tasks", headers=both[::-1]), 401)


@pytest.mark.parametrize("query", ["api_key", "key", "access_token"])
async def test_a_key_in_the_query_opens_nothing(taskbell: Taskbell, query: str) -> None:
    problem(await taskbell.door.get("/v1/tasks", params={query: ADMIN_KEY}), 401)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_first_key_comes_from_the_settings(taskbell: Taskbell, scheme: str) -> None:
    headers = {"authorization": f"{scheme} {ADMIN_KEY}"}

    good(await taskbell.door.get("/v1/api-keys", headers=headers))


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json"])
async def test_health_and_documents_need_no_key(taskbell: Taskbell, path: str) -> None:
    assert (await taskbell.door.get(path)).status_code == 200
    assert (await taskbell.door.get(path, headers=bearer("wrong"))).status_code == 200


CALLS = [
    # what it needs, and what a key that may gets for an id of nothing or an empty body
    (Scope.READ, "GET", "/v1/tasks", 200),
    (Scope.READ, "GET", f"/v1/tasks/task{ID}", 404),
    (Scope.READ, "GET", "/v1/events", 200),
    (Scope.READ, "GET", f"/v1/events/evt{ID}", 404),
    (Scope.READ, "GET", "/v1/subscriptions", 200),
    (Scope.READ, "GET", f"/v1/subscriptions/sub{ID}", 404),
    (Scope.READ, "GET", "/v1/deliveries", 200),
    (Scope.READ, "GET", f"/v1/deliveries/dlv{ID}", 404),
    (Scope.WRITE, "POST", "/v1/tasks", 422),
    (Scope.WRITE, "POST", f"/v1/tasks/task{ID}/refresh", 404),
    (Scope.WRITE, "POST", f"/v1/tasks/task{ID}/cancel", 404),
    (Scope.WRITE, "POST", "/v1/callback-urls", 422),
    (Scope.WRITE, "POST", f"/v1/events/evt{ID}/replay", 404),
    (Scope.WRITE, "POST", "/v1/subscriptions", 422),
    (Scope.WRITE, "PATCH", f"/v1/subscriptions/sub{ID}", 404),
    (Scope.WRITE, "DELETE", f"/v1/subscriptions/sub{ID}", 404),
    (Scope.WRITE, "POST", f"/v1/subscriptions/sub{ID}/test", 404),
    (Scope.WRITE, "POST", f"/v1/subscriptions/sub{ID}/rotate-secret", 404),
    (Scope.WRITE, "POST", f"/v1/subscriptions/sub{ID}/replay", 404),
    (Scope.WRITE, "POST", f"/v1/deliveries/dlv{ID}/retry", 404),
    (Scope.READ, "GET", "/v1/callback-urls", 200),
    (Scope.READ, "GET", "/v1/sessions", 200),
    (Scope.READ, "DELETE", f"/v1/sessions/ses{ID}", 404),
    (Scope.ADMIN, "GET", "/v1/api-keys", 200),
    (Scope.ADMIN, "POST", "/v1/api-keys", 422),
    (Scope.ADMIN, "DELETE", f"/v1/api-keys/key{ID}", 404),
    (Scope.ADMIN, "GET", "/v1/audit", 200),
]


async def test_each_call_takes_keys_of_its_scope_and_above(taskbell: Taskbell) -> None:
    held = {scope: await make_key(taskbell, scope) for scope in Scope}

    for needed, method, path, status in CALLS:
        problem(await taskbell.door.request(method, path), 401)
        for scope, key in held.items():
            answer = await taskbell.door.request(method, path, headers=bearer(key))
            if not scope.allows(needed):
                detail = problem(answer, 403)
                assert detail == f"this API key may {scope}; {needed} is needed", path
            elif status == 200:
                good(answer)
            else:
                problem(answer, status)


async def test_a_weak_key_is_refused_before_its_body_is_read(taskbell: Taskbell) -> None:
    async def body() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    key = await make_key(taskbell, Scope.READ)

    problem(await taskbell.door.post("/v1/tasks", content=body()), 401)
    problem(await taskbell.door.post("/v1/tasks", content=body(), headers=bearer(key)), 403)


async def test_no_store_no_judgement(clock: ManualClock) -> None:
    async with running(AWAY, clock) as taskbell:
        answer = await taskbell.door.get("/v1/tasks", headers=bearer(new_key_text()))

    problem(answer, 503)
    assert int(answer.headers["retry-after"]) > 0


async def test_a_key_that_is_revoked_here_is_refused_at_once(taskbell: Taskbell) -> None:
    key = await make_key(taskbell, Scope.READ)
    good(await taskbell.door.get("/v1/tasks", headers=bearer(key)))
    [listed] = await taskbell.data("/v1/api-keys")

    await taskbell.api.delete(f"/v1/api-keys/{listed['id']}")

    problem(await taskbell.door.get("/v1/tasks", headers=bearer(key)), 401)


async def test_a_question_that_was_on_its_way_keeps_no_revoked_key(
    taskbell: Taskbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await make_key(taskbell, Scope.READ)
    [listed] = await taskbell.data("/v1/api-keys")
    read = taskbell.service.store.read

    async def slow(question: Any, *args: Any, **more: Any) -> Any:
        found = await read(question, *args, **more)
        if question.__name__ == "find_key":
            await taskbell.api.delete(f"/v1/api-keys/{listed['id']}")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(taskbell.service.store, "read", slow)
        good(await taskbell.door.get("/v1/tasks", headers=bearer(key)))

    problem(await taskbell.door.get("/v1/tasks", headers=bearer(key)), 401)


@pytest.mark.parametrize("change", ["revoked", "weakened"])
async def test_what_changes_without_a_notice_counts_within_two_seconds(
    taskbell: Taskbell, change: str
) -> None:
    now = 1_000.0
    taskbell.service.access.monotonic = lambda: now
    key = await make_key(taskbell, Scope.WRITE)
    good(await taskbell.door.get("/v1/tasks", headers=bearer(key)))

    # by hand: no notice tells of it
    values: dict[str, dict[str, Any]] = {
        "revoked": {"revoked_at": START},
        "weakened": {"scope": "read"},
    }
    await taskbell.write(api_keys.update().values(**values[change]))
    now += 1.99

    answer = await taskbell.door.post("/v1/tasks", headers=bearer(key), json={})
    problem(answer, 401 if change == "revoked" else 403)


async def test_a_revocation_counts_in_other_processes(
    postgresql_url: str, clock: ManualClock
) -> None:
    async with running(postgresql_url, clock) as one, running(postgresql_url, clock) as other:
        other.service.access.monotonic = lambda: 1_000.0  # only a notice makes it look again
        await listening(other.service.store)
        key = await make_key(one, Scope.READ)
        [listed] = await one.data("/v1/api-keys")
        good(await other.door.get("/v1/tasks", headers=bearer(key)))

        await one.api.delete(f"/v1/api-keys/{listed['id']}")

        async def refused() -> bool:
            answer = await other.door.get("/v1/tasks", headers=bearer(key))
            return answer.status_code == 401

        await until(refused, PATIENCE_SECONDS, every=0.01)


async def test_a_key_is_not_looked_up_again_for_a_moment(taskbell: Taskbell) -> None:
    now = 1_000.0
    store, text = taskbell.service.store, new_key_text()
    await store.write(keys.create, NewKey("k", Scope.READ, text))
    authority = Authority(store, None, Access(store, lambda: now))
    request = Request({"type": "http", "headers": [(b"authorization", b"Bearer " + text.encode())]})
    await authority.require(request, Scope.READ)
    store.close()

    now += 1.4

    await authority.require(request, Scope.READ)
    with pytest.raises(Problem, match="write is needed"):
        await authority.require(request, Scope.WRITE)


async def test_without_a_first_key_an_empty_one_opens_nothing(taskbell: Taskbell) -> None:
    authority = Authority(taskbell.service.store, None)

    for header in (b"Bearer ", b"Bearer None"):
        request = Request({"type": "http", "headers": [(b"authorization", header)]})
        with pytest.raises(Problem, match="valid API key"):
            await authority.require(request, Scope.READ)


async def ask_from(taskbell: Taskbell, address: str, key: str, **headers: str) -> httpx.Response:
    """A request whose socket leads to that address."""
    transport = httpx.ASGITransport(taskbell.app, client=(address, 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://taskbell.test") as client:
        return await client.get("/v1/tasks", headers={**bearer(key), **headers})


async def guess(taskbell: Taskbell, number: int, address: str = "192.0.2.1") -> list[int]:
    """The answers to so many wrong keys."""
    answers = [await ask_from(taskbell, address, new_key_text()) for _ in range(number)]
    return [answer.status_code for answer in answers]


async def test_more_than_thirty_wrong_keys_a_minute_are_too_many(
    taskbell: Taskbell, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1_000.0
    taskbell.service.access.monotonic = lambda: now

    assert await guess(taskbell, 33) == [401] * 30 + [429] * 3
    now += 20.5
    refused = await ask_from(taskbell, "192.0.2.1", new_key_text())
    assert await guess(taskbell, 2, "192.0.2.2") == [401] * 2
    now += 39.5
    assert await guess(taskbell, 2) == [401] * 2

    assert "a right one is still taken" in problem(refused, 429)
    assert refused.headers["retry-after"] == "40"
    told = [record for record in caplog.records if "wrong API keys" in record.message]
    assert [vars(record)["address"] for record in told] == ["192.0.2.1"]


async def test_a_good_key_passes_beside_whoever_guesses_from_its_address(
    taskbell: Taskbell,
) -> None:
    now = 1_000.0
    taskbell.service.access.monotonic = lambda: now
    held = await make_key(taskbell, Scope.READ)  # nobody has used it yet
    await guess(taskbell, 40)

    for key in (held, ADMIN_KEY, held):
        good(await ask_from(taskbell, "192.0.2.1", key))
        now += 6.0  # it is looked up again
        assert await guess(taskbell, 1) == [429]


async def test_once_there_are_too_many_a_guess_asks_the_database_nothing(
    taskbell: Taskbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    taskbell.service.access.monotonic = lambda: now
    asked: list[str] = []
    read = taskbell.service.store.read

    async def noted(question: Any, *args: Any, **more: Any) -> Any:
        asked.append(question.__name__)
        return await read(question, *args, **more)

    monkeypatch.setattr(taskbell.service.store, "read", noted)

    await guess(taskbell, 130)
    first = asked[:]
    now += 5.0
    await guess(taskbell, 100)

    assert first == ["find_key"] * 30 + ["known_digests"]
    assert asked[len(first) :] == ["known_digests"]


async def test_only_a_key_is_a_guess(taskbell: Taskbell) -> None:
    for header in ("", "Basic e30=", "Bearer ", "Bearer " + "x" * 201):
        for _ in range(31):
            await taskbell.door.get("/v1/tasks", headers={"authorization": header})

    problem(await taskbell.door.get("/v1/tasks", headers=bearer("wrong")), 401)


async def test_a_forwarded_address_is_not_believed(taskbell: Taskbell) -> None:
    await guess(taskbell, 31)

    for number in range(3):
        claimed = f"198.51.100.{number}"
        answer = await ask_from(
            taskbell, "192.0.2.1", "wrong", **{"x-forwarded-for": claimed, "forwarded": claimed}
        )
        problem(answer, 429)


async def test_guesses_at_once_are_not_more_than_guesses_in_turn(taskbell: Taskbell) -> None:
    async with asyncio.TaskGroup() as group:
        tries = [
            group.create_task(ask_from(taskbell, "192.0.2.9", new_key_text())) for _ in range(60)
        ]

    statuses = Counter(each.result().status_code for each in tries)
    assert statuses == {401: 30, 429: 30}
