"""One suite for every chat sink: its service's rules, its answers, and what must not get through."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.client import Client
from dispatch.guard import Guard
from dispatch.sending import Sender, Sent
from dispatch.sink import Answer, Event, Outcome, Result, Sink, Target, sinks
from store.clock import ManualClock
from store.events import EVENT_TYPES
from store.vault import Vault
from tests.conftest import START
from tests.dispatch.chat_events import (
    AT,
    DEAD,
    DISABLED,
    HOSTILE,
    PICTURE,
    VIDEO,
    about,
    dressed_in,
    event,
    failure,
)
from tests.dispatch.fake_chat import FAKES, SECRET, FakeChat, texts
from tests.making import subscription_of

VAULT = Vault(["k" * 32])
CHATS = sorted(FAKES)
NOW = AT.timestamp()


def target(name: str, language: str = "en") -> Target:
    url = f"https://chat.example{FAKES[name].hook}"
    service = sinks()[name].service
    secret = SECRET if service is not None and service.signs else None
    return Target("sub_1", url, ("whsec_x",), {}, language=language, service_secret=secret)


@pytest.fixture(params=CHATS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sink(name: str) -> Sink:
    return sinks()[name]


@pytest.fixture
async def chat(name: str, clock: ManualClock) -> AsyncIterator[FakeChat]:
    async with FakeChat(FAKES[name], clock).served() as served:
        yield served


@pytest.fixture
async def sender(clock: ManualClock) -> AsyncIterator[Sender]:
    guard = Guard(allow=(ipaddress.ip_network("127.0.0.0/8"),))
    client = Client(guard, timeout=timedelta(seconds=5), limit=10, user_agent="taskbell/test")
    async with client:
        yield Sender(client, VAULT, clock)


async def send(
    sender: Sender, name: str, chat: FakeChat, what: Event | None = None, **values: Any
) -> Sent:
    service = sinks()[name].service
    subscription = subscription_of(
        START,
        url="http://127.0.0.1/…",
        format=name,
        secret_locked=VAULT.lock("whsec_x"),
        url_locked=VAULT.lock(chat.url),
        service_secret_locked=VAULT.lock(SECRET) if service and service.signs else None,
    )
    return await sender.send(what or about(), replace(subscription, **values))


# What it answers, on a real socket


def test_every_chat_sink_has_its_fake_service() -> None:
    own = {name for name, sink in sinks().items() if sink.service} - {
        "apprise"
    }  # has its own suite

    assert own == set(CHATS)


async def test_a_message_that_was_taken_is_delivered(
    sender: Sender, name: str, chat: FakeChat
) -> None:
    sent = await send(sender, name, chat)

    assert sent.outcome == Outcome(Result.DELIVERED)
    assert len(chat.calls) == 1


async def test_a_limit_is_tried_again_after_the_wait_that_was_asked_for(
    sender: Sender, name: str, chat: FakeChat
) -> None:
    chat.script.append("limited")

    sent = await send(sender, name, chat)

    assert sent.outcome.result is Result.RETRY
    assert sent.outcome.retry_after == chat.fake.wait


async def test_a_hook_that_is_gone_is_refused_with_the_reason(
    sender: Sender, name: str, chat: FakeChat
) -> None:
    chat.script.append("revoked")

    sent = await send(sender, name, chat)

    assert sent.outcome.result is Result.REFUSED
    assert sent.outcome.reason.startswith("answered ")
    assert len(sent.outcome.reason) > len("answered 404: ")


@pytest.mark.parametrize("what", ["malformed", "refused with 200"])
async def test_a_message_nobody_got_is_not_delivered(
    sender: Sender, name: str, chat: FakeChat, what: str
) -> None:
    chat.script.append(what)

    sent = await send(sender, name, chat)

    assert sent.outcome.result is Result.RETRY
    assert sent.outcome.reason.startswith("answered ")
    assert "hush" not in sent.outcome.reason


async def test_an_error_page_that_repeats_the_address_is_kept_without_its_secret(
    sender: Sender, name: str, chat: FakeChat
) -> None:
    asked = chat.url.removeprefix("http://127.0.0.1:")
    chat.script.append((404, {}, f"The requested URL {asked} was not found: {unquote(asked)}"))

    sent = await send(sender, name, chat)

    assert sent.outcome.result is Result.RETRY
    assert sent.answer is not None
    for kept in (sent.answer.body.decode(), sent.outcome.reason):
        for secret in ("hush", "bot1:abc", "-100"):
            assert secret not in kept
    assert b"was not found" in sent.answer.body


# a workflow has no word of its own
@pytest.mark.parametrize("name", [name for name in CHATS if name != "teams"])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(200, b"<html>Sign in to this network</html>", id="a captive portal"),
        pytest.param(204, b"", id="no word at all"),
        pytest.param(200, b"[" * 10_000, id="deep JSON"),
        pytest.param(200, b'{"code":true,"errcode":false,"ok":1}', id="truths for numbers"),
    ],
)
def test_a_success_without_the_services_word_is_none(
    name: str, sink: Sink, status: int, body: bytes
) -> None:
    outcome = sink.judge(Answer(status, {}, body, 0.1), AT)

    assert outcome.result is Result.RETRY


@pytest.mark.parametrize(
    ("status", "headers", "result", "wait"),
    [
        (500, {}, Result.RETRY, None),
        (302, {"location": "http://169.254.169.254/"}, Result.RETRY, None),
        (410, {}, Result.REFUSED, None),
        (503, {"retry-after": "9"}, Result.RETRY, timedelta(seconds=9)),
        (404, {}, Result.RETRY, None),
    ],
)
def test_a_status_alone_is_judged_as_for_every_format(
    sink: Sink, status: int, headers: dict[str, str], result: Result, wait: timedelta | None
) -> None:
    outcome = sink.judge(Answer(status, headers, b"", 0.1), AT)

    assert (outcome.result, outcome.retry_after) == (result, wait)


# What it sends

BRACKETED = {"url": "https://cdn.example/a(1)[2]<3>.png?x='y'", "kind": "image"}
EVENTS = [
    pytest.param(about(), id="a video"),
    pytest.param(about(outputs=[PICTURE], kind="image"), id="a picture"),
    pytest.param(about(outputs=[PICTURE, VIDEO, VIDEO, VIDEO, VIDEO]), id="many"),
    pytest.param(about(outputs=[BRACKETED], kind="image"), id="brackets in a link"),
    pytest.param(about(outputs=[{"url": None, "file_id": "1"}]), id="no link"),
    pytest.param(failure("1026", "sensitive content"), id="a failure"),
    pytest.param(about("task.queued", outputs=[], finished_at=None), id="queued"),
    pytest.param(about("task.timed_out", outputs=[], finished_at=None), id="overdue"),
    pytest.param(DISABLED, id="disabled"),
    pytest.param(DEAD, id="dead"),
    pytest.param(event("task.succeeded", {}), id="nothing"),
    pytest.param(event("news.of_tomorrow", {"x": 1}), id="a type of a later version"),
]


@pytest.mark.parametrize("language", ["en", "zh", "tlh"])
@pytest.mark.parametrize("what", EVENTS)
def test_the_service_takes_what_is_rendered(
    name: str, sink: Sink, what: Event, language: str
) -> None:
    request = sink.render(what, target(name, language), AT)

    FAKES[name].check(request, NOW)
    if request.instead is not None:
        FAKES[name].check(request.instead, NOW)
    assert request.headers == {"content-type": "application/json; charset=utf-8"}


def test_people_read_what_was_made_and_how_it_ended(name: str, sink: Sink) -> None:
    request = sink.render(about(), target(name), AT)

    shown = "\n".join(texts(json.loads(request.body))).replace("\\", "").replace("&amp;", "&")
    url = str(VIDEO["url"])
    for part in ("Video ready", "MiniMax", "Hailuo-2.3", "1 min 20 s", url, "2026-11-21"):
        assert part in shown, part
    if name != "wecom":  # has no room for more
        assert "42" in shown
        assert "0.28" in shown
        assert "task_01kb3x0e5x" in shown


def test_a_failure_says_why_in_plain_words(name: str, sink: Sink) -> None:
    request = sink.render(failure("1026", "sensitive content"), target(name, "zh"), AT)

    shown = "\n".join(texts(json.loads(request.body)))
    assert "视频生成失败" in shown
    assert "未通过服务商的内容审核" in shown
    assert "sensitive content" in shown


def test_every_type_of_event_has_a_message(name: str, sink: Sink) -> None:
    for kind in EVENT_TYPES:
        FAKES[name].check(sink.render(about(kind), target(name), AT), NOW)


def test_the_body_is_the_same_on_every_attempt(name: str, sink: Sink) -> None:
    unsigned = replace(target(name), service_secret=None)

    first = sink.render(about(), unsigned, AT)
    later = sink.render(about(), unsigned, AT + timedelta(days=3))

    assert first == later


def test_own_headers_are_sent_and_never_replace_ours(name: str, sink: Sink) -> None:
    headed = replace(target(name), headers={"X-Team": "a", "Content-Type": "text/plain"})

    request = sink.render(about(), headed, AT)

    assert request.headers == {
        "x-team": "a",
        "content-type": "application/json; charset=utf-8",
    }


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:30])
def test_hostile_texts_stay_letters(name: str, sink: Sink, text: str) -> None:
    request = sink.render(dressed_in(text), target(name), AT)

    FAKES[name].check(request, NOW)
    if request.instead is not None:
        FAKES[name].check(request.instead, NOW)


_PIECES = st.sampled_from([*HOSTILE[:6], "👩🏽‍🚀", "\ud83d", "元", "<", "@", "*", "&", "\\", "]("])
_TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(_PIECES, max_size=20).map("".join),
    st.builds(lambda piece, times: piece * times, _PIECES, st.integers(1, 300)),
)


@settings(max_examples=25)
@given(text=_TEXTS)
def test_no_text_breaks_a_limit_or_an_escape(text: str) -> None:
    what = dressed_in(text)

    for name in CHATS:
        request = sinks()[name].render(what, target(name), AT)
        FAKES[name].check(request, NOW)
        if request.instead is not None:
            FAKES[name].check(request.instead, NOW)


# What only one of them does


@pytest.mark.parametrize("name", ["telegram"])
async def test_telegram_gets_a_link_when_it_cannot_fetch_the_video(
    sender: Sender, name: str, chat: FakeChat
) -> None:
    words = "Bad Request: failed to get HTTP URL content"
    chat.script.append((400, {}, {"ok": False, "error_code": 400, "description": words}))

    sent = await send(sender, name, chat)

    assert sent.outcome == Outcome(Result.DELIVERED)
    shown, instead = chat.calls
    assert (shown.path, instead.path) == ("/bot1:abc/sendVideo", "/bot1:abc/sendMessage")
    assert shown.body["video"] == VIDEO["url"]
    assert str(VIDEO["url"]).replace("&", "&amp;") in instead.body["text"]


def test_telegram_gets_a_link_after_two_tries_with_the_video() -> None:
    third = replace(about(), attempt=3)

    requests = [sinks()["telegram"].render(e, target("telegram"), AT) for e in (about(), third)]

    assert [request.url.rpartition("/")[2] for request in requests] == ["sendVideo", "sendMessage"]


@pytest.mark.parametrize("name", ["slack"])
async def test_slack_gets_no_picture_when_it_cannot_fetch_it(
    sender: Sender, name: str, chat: FakeChat
) -> None:
    chat.script.append((400, {}, "invalid_blocks"))

    sent = await send(sender, name, chat, about(outputs=[PICTURE]))

    assert sent.outcome == Outcome(Result.DELIVERED)
    with_picture, without = ([b["type"] for b in call.body["blocks"]] for call in chat.calls)
    assert "image" in with_picture
    assert "image" not in without


@pytest.mark.parametrize("name", ["slack"])
async def test_a_plainer_message_that_is_refused_too_is_tried_again_later(
    sender: Sender, name: str, chat: FakeChat
) -> None:
    chat.script += [(400, {}, "invalid_blocks"), (400, {}, "invalid_blocks")]

    sent = await send(sender, name, chat, about(outputs=[PICTURE]))

    assert sent.outcome.result is Result.RETRY
    assert len(chat.calls) == 2


@pytest.mark.parametrize("name", ["dingtalk"])
async def test_a_reason_that_repeats_the_token_is_kept_without_it(
    sender: Sender, name: str, chat: FakeChat
) -> None:
    chat.script.append((200, {}, {"errcode": 88, "errmsg": "no robot for access_token hush"}))

    sent = await send(sender, name, chat)

    assert sent.outcome.reason == "answered 88: no robot for access_token •••"


@pytest.mark.parametrize(
    ("code", "description", "parameters", "result", "words"),
    [
        (403, "Forbidden: bot was kicked from the group chat", {}, Result.REFUSED, "kicked"),
        (403, "Forbidden: bot was blocked by the user", {}, Result.REFUSED, "blocked"),
        (404, "Not Found", {}, Result.REFUSED, "token"),
        (
            400,
            "Bad Request: group chat was upgraded to a supergroup chat",
            {"migrate_to_chat_id": -1001234},
            Result.REFUSED,
            "chat_id=-1001234",
        ),
        (400, "Bad Request: chat not found", {}, Result.RETRY, "chat not found"),
    ],
)
def test_telegrams_words_are_understood(
    code: int, description: str, parameters: dict[str, Any], result: Result, words: str
) -> None:
    body = {"ok": False, "error_code": code, "description": description, "parameters": parameters}

    outcome = sinks()["telegram"].judge(Answer(code, {}, json.dumps(body).encode(), 0.1), AT)

    assert outcome.result is result
    assert words in outcome.reason


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b'{"errcode":300001,"errmsg":"token is not exist"}', Result.REFUSED),
        (b'{"errcode":400102,"errmsg":"\xe6\x9c\xba\xe5\x99\xa8\xe4\xba\xba"}', Result.RETRY),
        (
            b'{"errcode":-1,"errmsg":"\xe7\xb3\xbb\xe7\xbb\x9f\xe7\xb9\x81\xe5\xbf\x99"}',
            Result.RETRY,
        ),
        (b'{"errcode":460101,"errmsg":"message too long, exceed 20000 bytes"}', Result.RETRY),
    ],
)
def test_dingtalks_codes_are_understood(body: bytes, result: Result) -> None:
    outcome = sinks()["dingtalk"].judge(Answer(200, {}, body, 0.1), AT)

    assert outcome.result is result
    assert outcome.retry_after is None
