import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from deploy.demo.server import LocalServer
from deploy.demo.subscriber import BadSignature, Subscriber, verify
from tests.patience import PATIENCE_SECONDS

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(32)).decode()


def event(event_id: str = "evt_1", event_type: str = "task.succeeded") -> bytes:
    task = {"id": "task_1", "provider": "minimax", "status": "succeeded"}
    return json.dumps({"id": event_id, "type": event_type, "data": {"task": task}}).encode()


def signed(
    body: bytes, event_id: str = "evt_1", secret: str = SECRET, now: datetime = NOW
) -> dict[str, str]:
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(event_id, now, body.decode()),
    }


@asynccontextmanager
async def served(subscriber: Subscriber) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        LocalServer(subscriber.app) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False, verify=False) as client,
    ):
        yield client


async def test_what_the_reference_library_signs_is_kept() -> None:
    subscriber = Subscriber(SECRET, clock=lambda: NOW)

    async with served(subscriber) as client:
        answer = await client.post("/hook", content=event(), headers=signed(event()))

    assert answer.status_code == 204
    [kept] = subscriber.events
    assert (kept.id, kept.type, kept.task_id) == ("evt_1", "task.succeeded", "task_1")
    assert (kept.provider, kept.order, kept.attempts) == ("minimax", 1, 1)
    assert kept.body == json.loads(event())


async def test_a_repeated_event_is_kept_once_and_thanked_again() -> None:
    subscriber = Subscriber(SECRET, clock=lambda: NOW)

    async with served(subscriber) as client:
        for event_id in ("evt_1", "evt_2", "evt_1"):
            body = event(event_id)
            answer = await client.post("/hook", content=body, headers=signed(body, event_id))
            assert answer.is_success

    assert [(e.id, e.order, e.attempts) for e in subscriber.events] == [
        ("evt_1", 1, 2),
        ("evt_2", 2, 1),
    ]


async def test_an_event_answered_badly_is_kept_when_it_comes_again() -> None:
    subscriber = Subscriber(SECRET, fail_first=1, clock=lambda: NOW)
    answers = []

    async with served(subscriber) as client:
        for status in (None, 410, None):
            subscriber.status = status
            answer = await client.post("/hook", content=event(), headers=signed(event()))
            answers.append((answer.status_code, len(subscriber.events)))

    assert answers == [(500, 0), (410, 0), (204, 1)]
    assert subscriber.events[0].attempts == 3


async def test_a_forged_event_is_answered_400_and_not_kept() -> None:
    subscriber = Subscriber(SECRET, clock=lambda: NOW)

    async with served(subscriber) as client:
        answer = await client.post("/hook", content=event(), headers=signed(event(), secret=OTHER))

    assert (answer.status_code, answer.text) == (400, "no signature matches")
    assert subscriber.events == []
    assert not subscriber.attempts


async def test_waiting_ends_with_the_wanted_event() -> None:
    subscriber = Subscriber(SECRET, clock=lambda: NOW)

    async with served(subscriber) as client, asyncio.timeout(PATIENCE_SECONDS):
        waiting = asyncio.create_task(subscriber.wait_for(1))
        await client.post("/hook", content=event(), headers=signed(event()))
        await waiting

    assert len(subscriber.events) == 1


async def test_an_event_about_taskbell_itself_has_no_task() -> None:
    subscriber = Subscriber(SECRET, clock=lambda: NOW)
    body = json.dumps({"id": "evt_1", "type": "delivery.dead", "data": {}}).encode()

    async with served(subscriber) as client:
        await client.post("/hook", content=body, headers=signed(body))

    assert [(e.type, e.task_id) for e in subscriber.events] == [("delivery.dead", None)]


def test_during_a_rotation_one_of_two_signatures_is_enough() -> None:
    headers = signed(event(), secret=OTHER)
    headers["webhook-signature"] += " " + signed(event())["webhook-signature"]

    assert verify(SECRET, headers, event(), NOW) == "evt_1"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"webhook-id": "evt_2"}, id="another id"),
        pytest.param({"webhook-timestamp": str(int(NOW.timestamp()) + 1)}, id="another time"),
        pytest.param({"webhook-timestamp": "soon"}, id="no time"),
        pytest.param({"webhook-timestamp": "9" * 400}, id="a time beyond numbers"),
        pytest.param({"webhook-signature": ""}, id="no signature"),
        pytest.param({"webhook-signature": "v1,ÿ"}, id="not ascii"),
        pytest.param(
            {"webhook-signature": signed(event())["webhook-signature"].replace("v1,", "v1a,")},
            id="another version",
        ),
    ],
)
def test_tampered_headers_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        verify(SECRET, signed(event()) | change, event(), NOW)


def test_a_tampered_body_is_refused() -> None:
    with pytest.raises(BadSignature, match="no signature"):
        verify(SECRET, signed(event()), event() + b" ", NOW)


def test_a_missing_header_is_refused() -> None:
    headers = signed(event())
    del headers["webhook-id"]

    with pytest.raises(BadSignature, match="missing"):
        verify(SECRET, headers, event(), NOW)


@pytest.mark.parametrize("seconds", [-301, 301])
def test_an_event_signed_more_than_five_minutes_away_is_refused(seconds: int) -> None:
    headers = signed(event(), now=NOW + timedelta(seconds=seconds))

    with pytest.raises(BadSignature, match="too far"):
        verify(SECRET, headers, event(), NOW)


def test_a_signature_computed_elsewhere_verifies() -> None:
    headers = {
        "webhook-id": "msg_test_1",
        "webhook-timestamp": "1790000000",
        "webhook-signature": "v1,fZZdTILeVolorAP7TZgPSpOELa3te7LfvC3TjbKEMJg=",
    }
    body = b'{"id":"pred_1","status":"succeeded"}'

    assert verify(SECRET, headers, body, datetime.fromtimestamp(1790000000, UTC)) == "msg_test_1"
