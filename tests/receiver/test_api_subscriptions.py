from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.server import LocalServer
from deploy.demo.subscriber import BadSignature, Subscriber, verify
from store.clock import ManualClock
from store.subscriptions import disable
from store.tables import subscriptions
from store.writer import Operation, Tx
from tests.app import AWAY, HOOK, Taskbell, good, minimax, problem, running

ID = "sub_01kdwpvng0jmwss390q20wa8r0"
NOON = "2026-01-01T12:00:00.000000Z"
LOOPBACK = {"ALLOW_NETWORKS": "127.0.0.0/8"}


@pytest.fixture
async def taskbell(database_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(database_url, clock, LOOPBACK) as taskbell:
        yield taskbell


@pytest.fixture
async def small(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    """For what does not depend on the database; nothing but public addresses is open."""
    async with running(sqlite_url, clock) as taskbell:
        yield taskbell


def without(view: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in view.items() if name not in names}


def key_bytes(secret: str) -> bytes:
    assert secret.startswith("whsec_")
    return base64.b64decode(secret.removeprefix("whsec_"), validate=True)


async def stored(taskbell: Taskbell) -> Any:
    [row] = await taskbell.rows(subscriptions)
    return row


# Creating and reading


async def test_a_subscription_needs_no_more_than_a_url(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe()

    assert without(made, "id", "secret") == {
        "url": HOOK,
        "types": None,
        "providers": None,
        "metadata": None,
        "format": "webhook",
        "language": "en",
        "service_secret": None,
        "filter": None,
        "shape": None,
        "method": "POST",
        "headers": {},
        "description": None,
        "max_in_flight": None,
        "rate_per_second": None,
        "active": True,
        "disabled_reason": None,
        "failing_since": None,
        "waiting": 0,
        "waiting_expires_at": None,
        "warnings": [],
        "created_at": NOON,
        "updated_at": NOON,
    }
    assert made["id"].startswith("sub_")
    assert len(key_bytes(made["secret"])) >= 24


async def test_a_subscription_keeps_every_wish(taskbell: Taskbell) -> None:
    wish: dict[str, Any] = {
        "types": ["task.*", "delivery.dead"],
        "providers": ["minimax", "atlascloud"],
        "metadata": {"customer": {"id": 42}, "vip": True},
        "format": "cloudevents",
        "description": "元境 …",
        "max_in_flight": 3,
        "rate_per_second": 0.5,
        "active": False,
    }

    made = await taskbell.subscribe(**wish)

    assert {name: made[name] for name in wish} == wish
    read = good(await taskbell.api.get(f"/v1/subscriptions/{made['id']}"))
    assert read == without(made, "secret")


async def test_the_secret_is_shown_at_creation_and_never_again(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe()
    one = f"/v1/subscriptions/{made['id']}"

    answers = [
        await taskbell.api.get(one),
        await taskbell.api.get("/v1/subscriptions"),
        await taskbell.api.patch(one, json={"description": "x"}),
        await taskbell.api.get(f"{one}/secret"),
    ]

    for answer in answers:
        assert "whsec_" not in answer.text
        assert made["secret"].removeprefix("whsec_") not in answer.text
    assert made["secret"] not in str(await stored(taskbell))


async def test_no_two_subscriptions_share_a_secret(small: Taskbell) -> None:
    assert (await small.subscribe())["secret"] != (await small.subscribe())["secret"]


async def test_values_of_headers_are_masked(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe(headers={"Authorization": "Bearer hush", "X-Team": "video"})
    one = f"/v1/subscriptions/{made['id']}"

    answers = [
        await taskbell.api.get(one),
        await taskbell.api.get("/v1/subscriptions"),
        await taskbell.api.patch(one, json={"description": "x"}),
    ]

    assert made["headers"] == {"Authorization": "•••", "X-Team": "•••"}
    for answer in answers:
        assert "X-Team" in answer.text
        assert "hush" not in answer.text
    assert "hush" not in str(await stored(taskbell))


async def test_subscriptions_are_listed_newest_first_in_pages(taskbell: Taskbell) -> None:
    made = [(await taskbell.subscribe())["id"] for _ in range(5)]

    listed = await taskbell.all_pages("/v1/subscriptions?limit=2")

    assert [each["id"] for each in listed] == made[::-1]


BAD_FIELDS = [
    # mass assignment: fields of ours, or of nobody
    pytest.param({"verify_tls": False}, "'verify_tls' is not known", id="TLS checks"),
    pytest.param({"allow_private": True}, "'allow_private' is not known", id="the guard"),
    pytest.param({"id": ID}, "'id' is not known", id="id"),
    pytest.param({"created_at": "1970-01-01"}, "'created_at' is not known", id="created_at"),
    pytest.param({"failing_since": None}, "'failing_since' is not known", id="failing_since"),
    pytest.param({"disabled_reason": "x"}, "'disabled_reason'", id="disabled_reason"),
    pytest.param({"secret": "whsec_"}, "'secret' is not known", id="an empty secret"),
    pytest.param({"secret": None}, "'secret' is not known", id="null as secret"),
    # types
    pytest.param({"types": []}, "'types'", id="no types"),
    pytest.param({"types": "task.*"}, "'types'", id="a text as types"),
    pytest.param({"types": ["(a+)+$"]}, "'types'", id="a regular expression"),
    pytest.param({"types": ["*" * 1000]}, "'types'", id="1,000 stars"),
    pytest.param({"types": ["*"]}, "'types'", id="one star"),
    pytest.param({"types": [""]}, "'types'", id="an empty type"),
    pytest.param({"types": [5]}, "'types.0'", id="a number as type"),
    pytest.param({"types": ["task.succeeded"] * 1_000}, "'types'", id="1,000 types"),
    pytest.param({"types": ["Task.Succeeded"]}, "task.succeeded", id="another case"),
    # the rest
    pytest.param({"providers": []}, "'providers'", id="no providers"),
    pytest.param({"providers": ["../a"]}, "'providers.0'", id="no name of a provider"),
    pytest.param(
        {"providers": ["minimx"]},
        "field 'providers': not a provider; did you mean 'minimax'?",
        id="a misspelt provider",
    ),
    pytest.param(
        {"providers": ["minimax", "atlas_cloud"]},
        "did you mean 'atlascloud'?",
        id="a misspelled provider after a known one",
    ),
    pytest.param(
        {"providers": ["kling"]},
        "not a provider. Known: atlascloud, minimax, opencomputing",
        id="a provider that there is not",
    ),
    pytest.param({"metadata": []}, "'metadata'", id="a list as metadata"),
    pytest.param({"metadata": {"a": "\x00"}}, "'metadata'", id="NUL in metadata"),
    pytest.param({"metadata": {"a": "x" * 17_000}}, "'metadata'", id="much metadata"),
    pytest.param({"description": "x" * 501}, "'description'", id="a long description"),
    pytest.param({"description": "\x00"}, "'description'", id="NUL in a description"),
    pytest.param({"max_in_flight": 0}, "'max_in_flight'", id="none in flight"),
    pytest.param({"max_in_flight": 1.5}, "'max_in_flight'", id="one and a half in flight"),
    pytest.param({"max_in_flight": "3"}, "'max_in_flight'", id="a text as number"),
    pytest.param({"rate_per_second": 0}, "'rate_per_second'", id="no rate"),
    pytest.param({"rate_per_second": -1}, "'rate_per_second'", id="a negative rate"),
    pytest.param({"active": "no"}, "'active'", id="a text as truth"),
    pytest.param({"active": None}, "'active'", id="null as truth"),
    pytest.param(
        {"format": "slak"},
        "not a format; did you mean 'slack'? Known: apprise, cloudevents, dingtalk,",
        id="an unknown format",
    ),
    pytest.param(
        {"language": "tlh"},
        "field 'language': not one of these. Known: en, zh",
        id="an unknown language",
    ),
    pytest.param(
        {"method": "post"}, "did you mean 'POST'? Known: POST, PUT, PATCH", id="a small method"
    ),
    pytest.param({"language": None}, "'language'", id="null as language"),
    pytest.param({"service_secret": "x"}, "'service_secret'", id="a secret of no service"),
    pytest.param({"format": None}, "'format'", id="null as format"),
    pytest.param({"headers": {"Host": "x"}}, "'headers': header Host", id="a header of ours"),
    pytest.param(
        {"headers": {"X_Forwarded_For": "::1"}},
        "'headers': header X_Forwarded_For may not be set: servers take from it where",
        id="a header of origin",
    ),
    pytest.param({"headers": {"Webhook-Id": "x"}}, "'headers'", id="a signed header"),
    pytest.param({"headers": {"X": "a\r\nB: c"}}, "'headers'", id="a header break"),
    pytest.param({"headers": {"X": 1}}, "'headers.X'", id="a number as header"),
    pytest.param({"headers": []}, "'headers'", id="a list as headers"),
]


@pytest.mark.parametrize(("fields", "words"), BAD_FIELDS)
async def test_a_bad_wish_is_422_and_names_its_field(
    small: Taskbell, fields: dict[str, Any], words: str
) -> None:
    answer = await small.api.post("/v1/subscriptions", json={"url": HOOK, **fields})

    assert words in problem(answer, 422)
    assert await small.rows(subscriptions) == []


async def test_a_refused_header_is_named_and_its_value_is_not(small: Taskbell) -> None:
    wish = {"url": HOOK, "headers": {"Authorization": "Bearer hush\n"}}

    detail = problem(await small.api.post("/v1/subscriptions", json=wish), 422)

    assert "Authorization" in detail
    assert "hush" not in detail


BAD_URLS = [
    # the guard's own tests go through many more; none of these is looked up
    ("http://127.0.0.1/", "not a public address"),
    ("http://10.1.2.3/hook", "not a public address"),
    ("http://169.254.169.254/latest/meta-data/", "not a public address"),
    ("http://[::1]/", "not a public address"),
    ("http://[::ffff:127.0.0.1]/", "not a public address"),
    ("http://[64:ff9b::7f00:1]/", "not a public address"),
    ("http://localhost/", ""),
    ("http://2130706433/", ""),
    ("http://0x7f.1/", ""),
    ("http://127.1/", ""),
    ("http://metadata.google.internal/", ""),
    ("https://user:secret@93.184.216.34/", "user"),
    ("https://93.184.216.34:22/", "port 22"),
    ("https://93.184.216.34:6379/", "port 6379"),
    ("ftp://93.184.216.34/", "http"),
    ("javascript:alert(1)", "http"),
    ("//93.184.216.34/", "http"),
    ("93.184.216.34/hook", "http"),
    ("https://exämple.com/", ""),
    ("https://93.184.216.34/\r\nX: y", ""),
    ("https://93.184.216.34/\x00", ""),
    ("https://93.184.216.34/\ud800", ""),
    ("https://93.184.216.34/" + "a" * 2048, "2048"),
    ("", ""),
    (5, ""),
    (None, ""),
    (["https://93.184.216.34/"], ""),
]


@pytest.mark.parametrize(("url", "words"), BAD_URLS, ids=lambda value: ascii(value)[:40])
async def test_a_url_that_deliveries_may_not_go_to_is_422_with_the_reason(
    small: Taskbell, url: Any, words: str
) -> None:
    wish = json.dumps({"url": url})  # in ASCII, so that half a surrogate pair can be sent

    detail = problem(await small.api.post("/v1/subscriptions", content=wish), 422)

    assert detail.startswith("field 'url': ")
    assert words in detail
    assert "secret" not in detail
    assert await small.rows(subscriptions) == []


async def test_our_own_door_is_no_place_for_deliveries(sqlite_url: str, clock: ManualClock) -> None:
    own = {"PUBLIC_URL": "https://93.184.216.34", **LOOPBACK}
    async with running(sqlite_url, clock, own) as taskbell:
        for url in ("https://93.184.216.34/callbacks/x/y", "http://127.0.0.1:8000/"):
            answer = await taskbell.api.post("/v1/subscriptions", json={"url": url})
            assert "Taskbell itself" in problem(answer, 422)


async def test_opened_networks_are_open_and_others_are_not(taskbell: Taskbell) -> None:
    await taskbell.subscribe("http://127.0.0.1:3000/hook")

    problem(await taskbell.api.post("/v1/subscriptions", json={"url": "http://10.0.0.1/"}), 422)


# Changing


async def test_a_change_moves_only_what_it_names(taskbell: Taskbell, clock: ManualClock) -> None:
    made = await taskbell.subscribe(
        types=["task.failed"], metadata={"a": 1}, headers={"X": "1"}, max_in_flight=2
    )
    clock.advance(minutes=1)

    changed = good(
        await taskbell.api.patch(
            f"/v1/subscriptions/{made['id']}",
            json={"description": "new", "types": ["task.*"], "max_in_flight": None},
        )
    )

    assert changed == without(made, "secret") | {
        "description": "new",
        "types": ["task.*"],
        "max_in_flight": None,
        "updated_at": "2026-01-01T12:01:00.000000Z",
    }
    assert good(await taskbell.api.get(f"/v1/subscriptions/{made['id']}")) == changed


async def test_null_takes_a_condition_or_a_limit_away(taskbell: Taskbell) -> None:
    given: dict[str, Any] = {
        "types": ["task.failed"],
        "providers": ["minimax"],
        "metadata": {"a": 1},
        "headers": {"X": "1"},
        "description": "x",
        "max_in_flight": 2,
        "rate_per_second": 2.5,
    }
    made = await taskbell.subscribe(**given)

    changed = good(
        await taskbell.api.patch(f"/v1/subscriptions/{made['id']}", json=dict.fromkeys(given))
    )

    assert {name: changed[name] for name in given} == dict.fromkeys(given) | {"headers": {}}


async def test_headers_are_changed_as_a_whole(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe(headers={"A": "1", "B": "2"})

    changed = good(
        await taskbell.api.patch(f"/v1/subscriptions/{made['id']}", json={"headers": {"C": "3"}})
    )

    assert changed["headers"] == {"C": "•••"}


async def test_an_empty_change_changes_nothing(small: Taskbell) -> None:
    made = await small.subscribe()

    assert good(await small.api.patch(f"/v1/subscriptions/{made['id']}", json={})) == without(
        made, "secret"
    )


@pytest.mark.parametrize(("fields", "words"), [*BAD_FIELDS, ({"url": None}, "'url'")])
async def test_a_bad_change_is_422_and_changes_nothing(
    small: Taskbell, fields: dict[str, Any], words: str
) -> None:
    made = await small.subscribe()
    before = await stored(small)

    answer = await small.api.patch(
        f"/v1/subscriptions/{made['id']}", json={"description": "new", **fields}
    )

    assert words in problem(answer, 422)
    assert await stored(small) == before


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "ftp://93.184.216.34/", "x"])
async def test_a_changed_url_is_checked_as_a_new_one(small: Taskbell, url: str) -> None:
    made = await small.subscribe()

    answer = await small.api.patch(f"/v1/subscriptions/{made['id']}", json={"url": url})

    assert problem(answer, 422).startswith("field 'url': ")
    assert (await stored(small)).url == HOOK


def switch_off(tx: Tx, ids: Sequence[str]) -> list[None]:
    for subscription_id in ids:
        disable(tx, tx.subscriptions[subscription_id], "410 Gone")
    return [None] * len(ids)


SWITCH_OFF: Operation[str, None] = Operation("switch off", switch_off)


async def test_switching_on_forgets_why_it_was_off(taskbell: Taskbell, clock: ManualClock) -> None:
    made = await taskbell.subscribe()
    one = f"/v1/subscriptions/{made['id']}"
    await taskbell.service.store.write(SWITCH_OFF, made["id"])
    off = good(await taskbell.api.get(one))
    assert (off["active"], off["disabled_reason"]) == (False, "410 Gone")

    on = good(await taskbell.api.patch(one, json={"active": True}))

    assert (on["active"], on["disabled_reason"], on["failing_since"]) == (True, None, None)


# Deleting


async def test_a_deleted_subscription_is_gone(taskbell: Taskbell) -> None:
    made, kept = await taskbell.subscribe(), await taskbell.subscribe()
    one = f"/v1/subscriptions/{made['id']}"

    answer = await taskbell.api.delete(one)

    assert (answer.status_code, answer.content) == (204, b"")
    assert [each["id"] for each in await taskbell.data("/v1/subscriptions")] == [kept["id"]]
    problem(await taskbell.api.get(one), 404)
    problem(await taskbell.api.patch(one, json={"active": True}), 404)
    problem(await taskbell.api.post(f"{one}/test"), 404)
    problem(await taskbell.api.post(f"{one}/rotate-secret"), 404)
    problem(await taskbell.api.delete(one), 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/test"),
        ("POST", "/rotate-secret"),
    ],
)
@pytest.mark.parametrize("subscription_id", [ID, "task_01kdwpvng0jmwss390q20wa8r0", "%00", "1"])
async def test_an_unknown_subscription_is_404(
    taskbell: Taskbell, method: str, path: str, subscription_id: str
) -> None:
    answer = await taskbell.api.request(method, f"/v1/subscriptions/{subscription_id}{path}")

    problem(answer, 404)


# Deliveries it is owed


async def test_an_event_is_owed_to_every_subscription_that_wants_it(taskbell: Taskbell) -> None:
    plain = await taskbell.subscribe()
    matching = await taskbell.subscribe(
        types=["task.succeeded"], providers=["minimax"], metadata={"customer": "42"}
    )
    await taskbell.subscribe(types=["task.failed", "delivery.dead"])
    await taskbell.subscribe(metadata={"customer": "7"})

    await taskbell.push(minimax(), taskbell.path(metadata={"customer": "42", "more": 1}))

    owed = {each["subscription_id"] for each in await taskbell.data("/v1/deliveries")}
    assert owed == {plain["id"], matching["id"]}


# Secrets and trials


def trial_app(statuses: list[int]) -> tuple[Starlette, list[Request], list[bytes]]:
    requests: list[Request] = []
    bodies: list[bytes] = []

    async def hook(request: Request) -> Response:
        bodies.append(await request.body())
        requests.append(request)
        return Response("INTERNAL-BODY", statuses[len(requests) - 1])

    return Starlette(routes=[Route("/hook", hook, methods=["POST"])]), requests, bodies


async def test_a_trial_delivers_a_signed_sample(taskbell: Taskbell, clock: ManualClock) -> None:
    subscriber = Subscriber("", clock=clock)
    async with LocalServer(subscriber.app) as server:
        made = await taskbell.subscribe(f"{server.url}/hook", headers={"X-Team": "video"})
        subscriber.secret = made["secret"]

        answer = await taskbell.api.post(f"/v1/subscriptions/{made['id']}/test")

    trial = good(answer)
    assert without(trial, "duration_ms") == {
        "delivered": True,
        "status_code": 204,
        "reason": None,
        "hint": None,
    }
    assert trial["duration_ms"] >= 0
    [event] = subscriber.events
    assert event.type == "task.succeeded"
    assert event.body["data"]["task"]["metadata"] == {"taskbell_test": True}
    assert await taskbell.events() == []
    assert await taskbell.data("/v1/deliveries") == []


@pytest.mark.parametrize("status", [500, 301, 404, 410, 400, 401, 403])
async def test_a_trial_tells_the_status_and_not_the_answer(
    sqlite_url: str, clock: ManualClock, status: int
) -> None:
    app, _, _ = trial_app([status])
    async with running(sqlite_url, clock, LOOPBACK) as taskbell, LocalServer(app) as server:
        made = await taskbell.subscribe(f"{server.url}/hook")
        answer = await taskbell.api.post(f"/v1/subscriptions/{made['id']}/test")
        after = good(await taskbell.api.get(f"/v1/subscriptions/{made['id']}"))

    trial = good(answer)
    assert (trial["delivered"], trial["status_code"]) == (False, status)
    assert str(status) in trial["reason"]
    assert ("`taskbell verify`" in (trial["hint"] or "")) == (status in (400, 401, 403))
    assert "INTERNAL-BODY" not in answer.text
    assert after["active"] is True


async def test_a_trial_of_a_dead_address_says_why(small: Taskbell, sqlite_url: str) -> None:
    made = await small.subscribe()
    # as if it had been saved before the network was closed
    await small.write(subscriptions.update().values(url="http://127.0.0.1:3000/"))

    trial = good(await small.api.post(f"/v1/subscriptions/{made['id']}/test"))

    assert (trial["delivered"], trial["status_code"]) == (False, None)
    assert "not a public address" in trial["reason"]


async def test_after_a_rotation_both_secrets_sign_for_a_day(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    app, requests, bodies = trial_app([204] * 3)
    async with LocalServer(app) as server:
        made = await taskbell.subscribe(f"{server.url}/hook")
        one = f"/v1/subscriptions/{made['id']}"
        await taskbell.api.post(f"{one}/test")

        clock.advance(seconds=1)
        rotated = good(await taskbell.api.post(f"{one}/rotate-secret"))
        await taskbell.api.post(f"{one}/test")

        clock.advance(hours=24)
        await taskbell.api.post(f"{one}/test")

    assert without(rotated, "secret", "updated_at") == without(made, "secret", "updated_at")
    old, new = made["secret"], rotated["secret"]
    assert len(key_bytes(new)) >= 24

    def signs(secret: str, number: int) -> bool:
        at = clock() - timedelta(hours=24 if number < 2 else 0)
        try:
            verify(secret, requests[number].headers, bodies[number], at)
        except BadSignature:
            return False
        return True

    assert [(signs(old, number), signs(new, number)) for number in range(3)] == [
        (True, False),
        (True, True),
        (False, True),
    ]


async def test_a_rotation_keeps_the_old_secret_locked_beside_the_new(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    made = await taskbell.subscribe()

    rotated = good(await taskbell.api.post(f"/v1/subscriptions/{made['id']}/rotate-secret"))

    row, vault = await stored(taskbell), taskbell.service.vault
    assert vault.open(row.secret_locked) == rotated["secret"] != made["secret"]
    assert vault.open(row.old_secret_locked) == made["secret"]
    assert row.old_secret_until == clock() + timedelta(hours=24)


async def test_every_call_is_503_while_the_database_is_away(clock: ManualClock) -> None:
    one = f"/v1/subscriptions/{ID}"
    async with running(AWAY, clock) as taskbell:
        for answer in [
            await taskbell.api.post("/v1/subscriptions", json={"url": HOOK}),
            await taskbell.api.get("/v1/subscriptions"),
            await taskbell.api.patch(one, json={}),
            await taskbell.api.delete(one),
            await taskbell.api.post(f"{one}/rotate-secret"),
            await taskbell.api.post(f"{one}/test"),
        ]:
            problem(answer, 503)
