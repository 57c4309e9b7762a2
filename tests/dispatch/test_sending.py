"""One attempt: whatever is wrong with a subscription or its receiver becomes a verdict."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import Response

from dispatch.client import Client
from dispatch.guard import Guard
from dispatch.sending import Sender
from dispatch.signing import new_secret, sign
from dispatch.sink import Event, Result
from store.clock import ManualClock
from store.matching import Subscription
from store.vault import Vault
from tests.conftest import START
from tests.dispatch.hook import Hook
from tests.making import subscription_of

VAULT = Vault(["k" * 32])
OLD, NEW = new_secret(), new_secret()
EVENT = Event(
    id="evt_1",
    type="task.succeeded",
    source="/taskbell/minimax",
    subject="task_1",
    time=START,
    body=b'{"id":"evt_1","data":{}}',
)


@pytest.fixture
async def hook(clock: ManualClock) -> AsyncIterator[Hook]:
    async with Hook(clock).served() as served:
        yield served


@pytest.fixture
async def sender(clock: ManualClock) -> AsyncIterator[Sender]:
    guard = Guard(allow=(ipaddress.ip_network("127.0.0.0/8"),))
    client = Client(guard, timeout=timedelta(seconds=5), limit=10, user_agent="taskbell/test")
    async with client:
        yield Sender(client, VAULT, clock)


def subscription(url: str, **values: Any) -> Subscription:
    return subscription_of(START, url=url, secret_locked=VAULT.lock(NEW), **values)


def signature(*secrets: str) -> str:
    at = int(START.timestamp())
    return " ".join(sign(secret, EVENT.id, at, EVENT.body) for secret in secrets)


@pytest.mark.parametrize(
    ("status", "result", "reason"),
    [
        (200, Result.DELIVERED, ""),
        (202, Result.DELIVERED, ""),
        (
            301,
            Result.RETRY,
            "answered 301: redirects are not followed; it points to no place: there is no Location",
        ),
        (404, Result.RETRY, "answered 404"),
        (410, Result.REFUSED, "410 Gone"),
        (500, Result.RETRY, "answered 500"),
    ],
)
async def test_the_answer_is_judged_and_kept(
    sender: Sender, hook: Hook, status: int, result: Result, reason: str
) -> None:
    hook.answers.append(Response("said so", status_code=status))

    sent = await sender.send(EVENT, subscription(hook.url))

    assert (sent.outcome.result, sent.outcome.reason) == (result, reason)
    assert sent.answer is not None
    assert (sent.answer.status, sent.answer.body) == (status, b"said so")
    assert sent.started_at == START
    assert timedelta(0) < sent.duration < timedelta(seconds=5)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        pytest.param({"format": "pigeon"}, "format 'pigeon' is not known here", id="format"),
        pytest.param({"secret_locked": "plain"}, "TASKBELL_SECRET_KEYS", id="secret"),
        pytest.param({"headers_locked": "plain"}, "TASKBELL_SECRET_KEYS", id="headers"),
        pytest.param({"url": "http://127.0.0.1:22/"}, "address refused: ", id="port"),
        pytest.param({"url": "http://10.0.0.1/"}, "address refused: ", id="network"),
        pytest.param({"url": "http://user@127.0.0.1/"}, "address refused: ", id="user info"),
    ],
)
async def test_what_cannot_be_sent_is_a_verdict_too(
    sender: Sender, hook: Hook, values: dict[str, Any], reason: str
) -> None:
    sent = await sender.send(EVENT, replace(subscription(hook.url), **values))

    assert sent.outcome.result is Result.RETRY
    assert reason in sent.outcome.reason
    assert sent.answer is None
    assert hook.taken == []


async def test_the_old_secret_signs_beside_the_new_one_to_the_end_of_its_day(
    sender: Sender, hook: Hook, clock: ManualClock
) -> None:
    rotated = subscription(
        hook.url,
        old_secret_locked=VAULT.lock(OLD),
        old_secret_until=START + timedelta(hours=24),
    )

    await sender.send(EVENT, rotated)
    clock.advance(hours=24)
    await sender.send(EVENT, rotated)

    first, second = (taken.headers["webhook-signature"] for taken in hook.taken)
    assert first == signature(NEW, OLD)
    assert len(second.split()) == 1


async def test_a_changed_subscription_is_opened_anew(
    sender: Sender, hook: Hook, clock: ManualClock
) -> None:
    before = subscription(hook.url, headers_locked=VAULT.lock({"X-Team": "a"}))
    after = replace(
        before,
        headers_locked=VAULT.lock({"X-Team": "b"}),
        updated_at=START + timedelta(microseconds=1),
    )

    for each in (before, after, before):
        await sender.send(EVENT, each)

    assert [taken.headers["x-team"] for taken in hook.taken] == ["a", "b", "a"]


async def test_a_secret_that_is_sent_back_is_not_kept(hook: Hook, sender: Sender) -> None:
    hook.answers.append(Response("you said Authorization: Bearer hush-hush-hush, X-Team: a", 500))
    headers = {"Authorization": "Bearer hush-hush-hush", "X-Team": "a"}

    sent = await sender.send(EVENT, subscription(hook.url, headers_locked=VAULT.lock(headers)))

    assert sent.answer is not None
    assert sent.answer.body == "you said Authorization: Bearer …, X-Team: a".encode()


async def test_a_header_sent_back_as_the_host_of_a_redirect_is_not_kept(
    sender: Sender, hook: Hook
) -> None:
    hook.answers.append(Response(status_code=302, headers={"location": "//HushHush12.example/"}))
    headers = VAULT.lock({"Authorization": "Bearer HushHush12"})

    sent = await sender.send(EVENT, subscription(hook.url, headers_locked=headers))

    assert sent.outcome.reason.endswith("it points to ….example")


async def test_an_old_row_s_header_that_may_not_be_set_is_not_sent_and_the_log_says_so(
    sender: Sender, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    headers = VAULT.lock({"X_Forwarded_For": "127.0.0.1", "X-Team": "a"})
    wanted = subscription(hook.url, headers_locked=headers)

    for _ in range(2):
        await sender.send(EVENT, wanted)

    assert all("x_forwarded_for" not in taken.headers for taken in hook.taken)
    assert all(taken.headers["x-team"] == "a" for taken in hook.taken)
    [message] = [each for each in caplog.messages if "X_Forwarded_For" in each]
    assert message.startswith(f"subscription {wanted.id}: header X_Forwarded_For is not sent: ")
    assert "127.0.0.1" not in message
