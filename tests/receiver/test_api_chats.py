"""Subscriptions of chats: their URLs are secrets, their services set the pace."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from store.clock import ManualClock
from store.tables import attempts, subscriptions
from store.vault import Vault
from tests.app import HOOK, SECRET_KEYS, Taskbell, good, minimax, problem, running
from tests.dispatch.fake_chat import FAKES, SECRET, FakeChat
from tests.dispatch.hook import Hook
from tests.pages import signed_in
from tests.patience import PATIENCE_SECONDS

LOOPBACK = {"ALLOW_NETWORKS": "127.0.0.0/8"}
SLACK = f"http://127.0.0.1:8123{FAKES['slack'].hook}"
FEISHU = f"http://127.0.0.1:8123{FAKES['feishu'].hook}"
SHOWN = "http://127.0.0.1:8123/…"


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock, LOOPBACK) as taskbell:
        yield taskbell


async def stored(taskbell: Taskbell) -> dict[str, Any]:
    [row] = await taskbell.rows(subscriptions)
    return dict(row._mapping)


def opened(locked: str) -> Any:
    return Vault(SECRET_KEYS).open(locked)


async def change(taskbell: Taskbell, known: dict[str, Any], **fields: Any) -> dict[str, Any]:
    answer = await taskbell.api.patch(f"/v1/subscriptions/{known['id']}", json=fields)
    view: dict[str, Any] = good(answer)
    return view


async def refusal(taskbell: Taskbell, known: dict[str, Any], **fields: Any) -> str:
    return problem(await taskbell.api.patch(f"/v1/subscriptions/{known['id']}", json=fields), 422)


async def test_a_chats_url_is_stored_encrypted_and_shown_masked(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe(SLACK, format="slack")
    one = f"/v1/subscriptions/{made['id']}"

    answers = [
        await taskbell.api.get(one),
        await taskbell.api.get("/v1/subscriptions"),
        await taskbell.api.patch(one, json={"description": "x"}),
        await taskbell.api.patch(one, json={"active": False}),
    ]

    assert made["url"] == SHOWN
    for answer in answers:
        assert "/…" in answer.text
        assert "hush" not in answer.text
    row = await stored(taskbell)
    assert "hush" not in str(row)
    assert opened(row["url_locked"]) == SLACK


async def test_a_plain_url_is_shown_as_before(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe(HOOK)

    assert made["url"] == HOOK
    assert (await stored(taskbell))["url_locked"] is None


async def test_a_robots_secret_is_kept_and_never_shown(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe(FEISHU, format="feishu", service_secret=SECRET)

    row = await stored(taskbell)
    assert made["service_secret"] == "•••"
    assert opened(row["service_secret_locked"]) == SECRET
    assert SECRET not in str(row)
    assert (await change(taskbell, made, service_secret=None))["service_secret"] is None
    assert (await stored(taskbell))["service_secret_locked"] is None


@pytest.mark.parametrize("name", sorted(FAKES))
async def test_the_services_pace_is_the_subscriptions_own(taskbell: Taskbell, name: str) -> None:
    made = await taskbell.subscribe(f"http://127.0.0.1:8123{FAKES[name].hook}", format=name)

    assert 0.3 < made["rate_per_second"] <= 4
    assert made["max_in_flight"] == 1


async def test_a_pace_of_ones_own_goes_first(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe(SLACK, format="slack", rate_per_second=0.2, max_in_flight=2)

    assert (made["rate_per_second"], made["max_in_flight"]) == (0.2, 2)
    back = await change(taskbell, made, rate_per_second=None, max_in_flight=None)
    assert (back["rate_per_second"], back["max_in_flight"]) == (1.0, 1)


async def test_a_new_url_takes_the_place_of_the_old_one(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe(SLACK, format="slack")

    view = await change(taskbell, made, url=SLACK.replace("8123", "8124"))

    assert view["url"] == "http://127.0.0.1:8124/…"
    assert opened((await stored(taskbell))["url_locked"]) == SLACK.replace("8123", "8124")


async def test_the_masked_url_is_no_url(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe(SLACK, format="slack")

    assert "'url'" in await refusal(taskbell, made, url=made["url"])
    assert opened((await stored(taskbell))["url_locked"]) == SLACK


async def test_a_secret_url_is_not_shown_by_a_change_of_format(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe(SLACK, format="slack")

    detail = await refusal(taskbell, made, format="webhook")
    assert detail.startswith("field 'url': give it, too")
    assert "hush" not in detail

    view = await change(taskbell, made, format="webhook", url=HOOK)
    assert (view["url"], view["rate_per_second"], view["max_in_flight"]) == (HOOK, None, None)
    assert (await stored(taskbell))["url_locked"] is None


async def test_a_format_of_a_chat_hides_the_url_that_was_shown(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe(SLACK)
    assert made["url"] == SLACK

    view = await change(taskbell, made, format="slack")

    assert (view["url"], view["rate_per_second"]) == (SHOWN, 1.0)
    assert "hush" not in str(await stored(taskbell))


async def test_another_chats_format_wants_another_url(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe(FEISHU, format="feishu", service_secret=SECRET)

    detail = await refusal(taskbell, made, format="slack")

    assert detail == "field 'url': Slack takes messages at https://hooks.slack.com/services/T…/B…/…"
    view = await change(taskbell, made, format="slack", url=SLACK)
    assert (view["format"], view["service_secret"]) == ("slack", None)


@pytest.mark.parametrize("name", ["slack", "discord", "wecom", "telegram", "teams"])
async def test_a_service_that_signs_nothing_has_no_use_for_a_secret(
    taskbell: Taskbell, name: str
) -> None:
    wish = {
        "url": f"http://127.0.0.1:8123{FAKES[name].hook}",
        "format": name,
        "service_secret": SECRET,
    }

    detail = problem(await taskbell.api.post("/v1/subscriptions", json=wish), 422)

    assert detail == f"field 'service_secret': format '{name}' has no use for one"


async def test_a_refused_url_is_not_repeated(taskbell: Taskbell) -> None:
    for url in ("https://93.184.216.34/services/T0/B0/hush", "http://127.0.0.1:8123/hush"):
        wish = {"url": url, "format": "slack"}
        detail = problem(await taskbell.api.post("/v1/subscriptions", json=wish), 422)
        assert "https://hooks.slack.com/services/" in detail
        assert "hush" not in detail


async def test_a_lost_key_leaves_a_url_that_can_be_given_again(
    sqlite_url: str, clock: ManualClock
) -> None:
    async with running(sqlite_url, clock, LOOPBACK) as taskbell:
        made = await taskbell.subscribe(SLACK, format="slack")
    async with running(sqlite_url, clock, {**LOOPBACK, "SECRET_KEYS": "k" * 32}) as taskbell:
        assert "give it, too" in await refusal(taskbell, made, format="slack")
        assert (await change(taskbell, made, url=SLACK))["url"] == SHOWN


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", sorted(FAKES))
async def test_a_test_sends_a_message_that_says_so(
    taskbell: Taskbell, clock: ManualClock, name: str, language: str
) -> None:
    async with FakeChat(FAKES[name], clock).served() as chat:
        signs = name in ("feishu", "lark", "dingtalk")
        secret = {"service_secret": SECRET} if signs else {}
        made = await taskbell.subscribe(chat.url, format=name, language=language, **secret)

        trial = good(await taskbell.api.post(f"/v1/subscriptions/{made['id']}/test"))

    assert (trial["delivered"], trial["reason"]) == (True, None)
    [call] = chat.calls
    assert ("Test:" if language == "en" else "测试") in call.raw.decode().replace("\\\\:", ":")


async def test_a_test_tells_what_the_service_said(taskbell: Taskbell, clock: ManualClock) -> None:
    async with FakeChat(FAKES["feishu"], clock).served() as chat:
        chat.script.append("refused with 200")
        made = await taskbell.subscribe(chat.url, format="feishu")

        trial = good(await taskbell.api.post(f"/v1/subscriptions/{made['id']}/test"))

    assert (trial["delivered"], trial["status_code"]) == (False, 200)
    assert "keyword" in trial["reason"]


async def test_a_video_becomes_a_message_in_a_chat(sqlite_url: str, clock: ManualClock) -> None:
    environ = {**LOOPBACK, "ROLES": "receive,dispatch"}
    async with (
        FakeChat(FAKES["slack"], clock).served() as chat,
        running(sqlite_url, clock, environ) as taskbell,
    ):
        made = await taskbell.subscribe(chat.url, format="slack", types=["task.succeeded"])
        good(await taskbell.push(minimax("1", file_id="7")))

        await chat.wait_for(1)
        [delivery] = await until_delivered(taskbell)

    assert delivery["subscription_id"] == made["id"]
    assert "Video ready" in json.dumps(chat.calls[0].body)


async def test_a_dead_hook_switches_the_subscription_off_with_the_reason(
    sqlite_url: str, clock: ManualClock
) -> None:
    environ = {**LOOPBACK, "ROLES": "receive,dispatch"}
    async with (
        FakeChat(FAKES["slack"], clock).served() as chat,
        running(sqlite_url, clock, environ) as taskbell,
    ):
        chat.script.append("revoked")
        made = await taskbell.subscribe(chat.url, format="slack")
        good(await taskbell.push(minimax("1", file_id="7")))
        await chat.wait_for(1)

        view = await until_disabled(taskbell, made["id"])

    assert view["disabled_reason"] == "answered 404: no_service"
    assert "hush" not in str(view)


async def test_a_code_that_is_about_the_message_switches_nothing_off(
    sqlite_url: str, clock: ManualClock
) -> None:
    environ = {**LOOPBACK, "ROLES": "receive,dispatch"}
    async with (
        FakeChat(FAKES["dingtalk"], clock).served() as chat,
        running(sqlite_url, clock, environ) as taskbell,
    ):
        chat.script.append((200, {}, {"errcode": 300001, "errmsg": "message param text is null"}))
        made = await taskbell.subscribe(chat.url, format="dingtalk")
        good(await taskbell.push(minimax("1", file_id="7")))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not [each for each in await taskbell.rows(attempts) if each.error]:
                pass
        view = good(await taskbell.api.get(f"/v1/subscriptions/{made['id']}"))

    assert (view["active"], view["disabled_reason"]) == (True, None)


async def test_a_limit_holds_up_the_whole_chat_until_its_url_is_another(
    sqlite_url: str, clock: ManualClock
) -> None:
    environ = {**LOOPBACK, "ROLES": "receive,dispatch"}
    async with (
        FakeChat(FAKES["slack"], clock).served() as chat,
        running(sqlite_url, clock, environ) as taskbell,
    ):
        chat.script.append("limited")
        made = await taskbell.subscribe(chat.url, format="slack")
        good(await taskbell.push(minimax("1", file_id="7")))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await stored(taskbell))["next_send_at"] != clock() + timedelta(seconds=7):
                pass

        await change(taskbell, made, url=SLACK)
        assert (await stored(taskbell))["next_send_at"] is None


async def until_delivered(taskbell: Taskbell) -> list[dict[str, Any]]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (found := await taskbell.data("/v1/deliveries?status=delivered")):
            pass
    return found


async def until_disabled(taskbell: Taskbell, subscription: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            view: dict[str, Any] = good(await taskbell.api.get(f"/v1/subscriptions/{subscription}"))
            if not view["active"]:
                return view


async def test_an_apprise_url_is_stored_encrypted_and_shows_its_service_alone(
    taskbell: Taskbell,
) -> None:
    made = await taskbell.subscribe("json://hush:hush@127.0.0.1:8123/hush", format="apprise")

    row = await stored(taskbell)
    assert made["url"] == "json://…"
    assert (made["rate_per_second"], made["max_in_flight"]) == (0.5, 1)
    assert opened(row["url_locked"]) == "json://hush:hush@127.0.0.1:8123/hush"
    assert "hush" not in str(row)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mailto://hush@example.com", "field 'url': apprise may write to these services: bark,"),
        ("json://10.0.0.1/hush", "field 'url': the host is not a public address"),
        ("pover://hush", "field 'url': apprise cannot read this pover:// URL"),
    ],
)
async def test_an_apprise_url_that_cannot_be_guarded_is_refused(
    taskbell: Taskbell, url: str, words: str
) -> None:
    wish = {"url": url, "format": "apprise"}

    detail = problem(await taskbell.api.post("/v1/subscriptions", json=wish), 422)

    assert detail.startswith(words)
    assert "hush" not in detail


async def test_without_the_extra_a_subscription_is_told_what_installs_it(
    taskbell: Taskbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    wish = {"url": "ntfys://ntfy.sh/topic", "format": "apprise"}

    detail = problem(await taskbell.api.post("/v1/subscriptions", json=wish), 422)

    assert "pip install 'taskbell[apprise]'" in detail
    assert await taskbell.rows(subscriptions) == []


async def test_a_trial_of_an_apprise_subscription_says_that_nobody_verified_it(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    async with Hook(clock).served() as hook:
        url = hook.url.replace("http://", "json://")
        made = await taskbell.subscribe(url, format="apprise")
        trial = good(await taskbell.api.post(f"/v1/subscriptions/{made['id']}/test"))

    assert (trial["delivered"], trial["reason"]) == (True, "accepted, not verified")


# Without a format, the host chooses it

BY_HOST = [
    ("https://hooks.slack.com/services/T0/B0/hush", "slack"),
    ("https://discordapp.com/api/webhooks/1/hush", "discord"),
    ("https://canary.discord.com/api/webhooks/1/hush", "discord"),
    ("https://open.feishu.cn/open-apis/bot/v2/hook/hush", "feishu"),
    ("https://open.larksuite.com/open-apis/bot/v2/hook/hush", "lark"),
    ("https://oapi.dingtalk.com/robot/send?access_token=hush", "dingtalk"),
    ("https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=hush", "wecom"),
    ("https://api.telegram.org/bot1:hush/sendMessage?chat_id=-100", "telegram"),
    ("https://prod-1.westus.logic.azure.com/workflows/1?sig=hush", "teams"),
    ("https://d1.0.environment.api.powerplatform.com/workflows/1?sig=hush", "teams"),
]


@pytest.mark.parametrize(("url", "name"), BY_HOST)
async def test_a_chats_host_chooses_its_format_and_the_answer_says_which(
    taskbell: Taskbell, url: str, name: str
) -> None:
    made = await taskbell.subscribe(url)

    assert made["format"] == name
    assert made["rate_per_second"] is not None
    assert made["warnings"] == []
    assert "hush" not in str(made)
    assert "hush" not in str(await stored(taskbell))


EXAMPLE_URLS = [
    "https://hooks.slack.com/services/T…/B…/…",
    "https://discord.com/api/webhooks/<id>/<token>",
    "https://open.feishu.cn/open-apis/bot/v2/hook/xxxxxxxx",
    "https://oapi.dingtalk.com/robot/send?access_token=YOUR_TOKEN",
    "https://….logic.azure.com/workflows/…",
]


@pytest.mark.parametrize("fields", [{}, {"format": "webhook"}, {"format": "slack"}])
@pytest.mark.parametrize("url", EXAMPLE_URLS)
async def test_an_example_of_a_chats_url_is_refused_as_such(
    taskbell: Taskbell, url: str, fields: dict[str, str]
) -> None:
    answer = await taskbell.api.post("/v1/subscriptions", json={"url": url, **fields})

    detail = problem(answer, 422)
    assert detail.startswith("field 'url': this is an example of ")
    assert "copy your own from " in detail


async def test_a_chat_that_cannot_read_the_chosen_format_is_refused_with_the_rule(
    taskbell: Taskbell,
) -> None:
    for format_name in ("webhook", "cloudevents"):
        wish = {"url": BY_HOST[0][0], "format": format_name}
        detail = problem(await taskbell.api.post("/v1/subscriptions", json=wish), 422)
        assert detail.startswith(f"field 'format': format '{format_name}' makes no message")
        assert "hush" not in detail

    made = await taskbell.subscribe(HOOK)
    moved = await refusal(taskbell, made, url=BY_HOST[1][0])
    assert "'discord'" in moved
    shaped = await taskbell.subscribe(
        BY_HOST[0][0], format="webhook", shape="{text: data.task.status}"
    )
    assert shaped["url"] == "https://hooks.slack.com/…"
    assert "'slack'" in shaped["warnings"][0]
    assert "makes no message" in await refusal(taskbell, shaped, shape=None)


async def test_a_webhook_to_a_workflow_is_taken_masked_and_warned_of(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe(BY_HOST[8][0], format="webhook")

    assert (made["format"], made["url"]) == ("webhook", "https://prod-1.westus.logic.azure.com/…")
    assert "set format to 'teams'" in made["warnings"][0]
    assert "hush" not in str(await stored(taskbell))


async def test_a_row_of_an_older_version_is_shown_masked_and_says_what_to_do(
    sqlite_url: str, clock: ManualClock
) -> None:
    async with running(sqlite_url, clock, LOOPBACK) as taskbell:
        made = await taskbell.subscribe(HOOK)
        old = {"url": BY_HOST[0][0], "url_locked": None}
        await taskbell.write(subscriptions.update().values(old))
        before = good(await taskbell.api.get(f"/v1/subscriptions/{made['id']}"))
    async with running(sqlite_url, clock, LOOPBACK) as taskbell:  # the start encrypts it
        view = good(await taskbell.api.get(f"/v1/subscriptions/{made['id']}"))
        pages = await signed_in(taskbell)
        seen = [
            await pages.see(f"/subscriptions/{made['id']}?lang={language}")
            for language in ("en", "zh")
        ]
        row = await stored(taskbell)
        mended = await change(taskbell, made, format="slack")

    for each in (before, view):
        assert each["url"] == "https://hooks.slack.com/…"
        assert "set format to 'slack'" in each["warnings"][0]
    for page in seen:
        assert "hush" not in page
        assert "--format slack" in page
    assert "hush" not in str(row)
    assert opened(row["url_locked"]) == BY_HOST[0][0]
    assert (mended["format"], mended["warnings"]) == ("slack", [])
