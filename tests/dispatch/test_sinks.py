"""One suite for every sink that takes any URL, then what each format promises by itself.

Those of chat services have test_chat_sinks.py.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event, from_structured_event

from dispatch.headers import check_headers
from dispatch.sink import Answer, Event, Outcome, Request, Result, Sink, Target, sinks

NOW = datetime(2026, 11, 21, 2, 55, 3, 250000, tzinfo=UTC)
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OLD_SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()

DATA = {
    "task": {"id": "task_1", "status": "succeeded", "progress": 1.0, "title": "元境 😀"},
    "previous_status": "processing",
    "source": "poll",
    "late": False,
}
EVENT = Event(
    id="evt_01kb",
    type="task.succeeded",
    source="/taskbell/minimax",
    subject="task_1",
    time=datetime(2026, 11, 21, 2, 55, 2, 120000, tzinfo=UTC),
    body=json.dumps(
        {
            "id": "evt_01kb",
            "type": "task.succeeded",
            "timestamp": "2026-11-21T02:55:02.120000Z",
            "data": DATA,
        },
        separators=(",", ":"),
    ).encode(),
)
TARGET = Target(
    subscription_id="sub_1",
    url="https://hooks.example.com/x?y=1",
    secrets=(SECRET,),
    headers={"Authorization": "Bearer hush", "X-Team": "a"},
)


@pytest.fixture(params=sorted(name for name, sink in sinks().items() if sink.service is None))
def sink(request: pytest.FixtureRequest) -> Sink:
    return sinks()[request.param]


def answer(status: int, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, headers or {}, b"", 0.01)


def test_the_formats_of_the_contract_are_found() -> None:
    chats = {"slack", "discord", "feishu", "lark", "dingtalk", "wecom", "telegram", "teams"}
    assert {"webhook", "cloudevents", *chats} <= set(sinks())
    assert all(sink.name == name for name, sink in sinks().items())


def test_the_body_is_the_same_on_every_attempt(sink: Sink) -> None:
    first = sink.render(EVENT, TARGET, NOW)
    later = sink.render(EVENT, TARGET, NOW + timedelta(days=3))

    assert first.body == later.body
    assert first.url == later.url == TARGET.url
    assert first.headers["webhook-id"] == later.headers["webhook-id"]
    assert first.headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert later.headers["webhook-timestamp"] == str(int(NOW.timestamp()) + 3 * 86400)


def test_the_signature_covers_the_body_that_is_sent(sink: Sink) -> None:
    request = sink.render(EVENT, TARGET, NOW)

    assert request.headers["webhook-signature"] == _signature(SECRET, request)


def test_a_rotation_carries_two_signatures(sink: Sink) -> None:
    target = Target("sub_1", TARGET.url, (SECRET, OLD_SECRET), {})

    request = sink.render(EVENT, target, NOW)

    assert request.headers["webhook-signature"].split(" ") == [
        _signature(SECRET, request),
        _signature(OLD_SECRET, request),
    ]


def test_every_header_can_be_sent(sink: Sink) -> None:
    request = sink.render(EVENT, TARGET, NOW)

    for name, value in request.headers.items():
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert re.fullmatch(r"[!-~](?:[ -~]*[!-~])?", value)


def test_custom_headers_are_added_and_never_replace_ours(sink: Sink) -> None:
    plain = sink.render(EVENT, Target("sub_1", TARGET.url, (SECRET,), {}), NOW)
    forged = {name.title(): "forged" for name in plain.headers}

    request = sink.render(
        EVENT, Target("sub_1", TARGET.url, (SECRET,), {**forged, **TARGET.headers}), NOW
    )

    assert request.headers == {
        **plain.headers,
        "authorization": "Bearer hush",
        "x-team": "a",
    }


def test_no_custom_header_may_be_saved_under_a_name_a_sink_uses(sink: Sink) -> None:
    request = sink.render(EVENT, Target("sub_1", TARGET.url, (SECRET,), {}), NOW)

    for name in request.headers:
        with pytest.raises(ValueError, match="may not be set"):
            check_headers({name: "x"})


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        pytest.param(200, {}, Outcome(Result.DELIVERED), id="200"),
        pytest.param(204, {}, Outcome(Result.DELIVERED), id="204"),
        pytest.param(299, {}, Outcome(Result.DELIVERED), id="299"),
        pytest.param(410, {}, Outcome(Result.REFUSED, "410 Gone"), id="410 for good"),
        pytest.param(101, {}, Outcome(Result.RETRY, "answered 101"), id="101"),
        pytest.param(
            301,
            {"location": "http://169.254.169.254/"},
            Outcome(
                Result.RETRY,
                "answered 301: redirects are not followed; it points to 169.254.169.254 (http)",
            ),
            id="a redirect is a failed attempt",
        ),
        pytest.param(304, {}, Outcome(Result.RETRY, "answered 304"), id="304 is no success"),
        pytest.param(404, {}, Outcome(Result.RETRY, "answered 404"), id="404 may be a deploy"),
        pytest.param(500, {}, Outcome(Result.RETRY, "answered 500"), id="500"),
        pytest.param(599, {}, Outcome(Result.RETRY, "answered 599"), id="599"),
        pytest.param(
            429,
            {"retry-after": "120"},
            Outcome(Result.RETRY, "answered 429", timedelta(seconds=120)),
            id="429 with seconds",
        ),
        pytest.param(
            503,
            {"retry-after": "Sat, 21 Nov 2026 02:56:03 GMT"},
            Outcome(Result.RETRY, "answered 503", timedelta(seconds=59.75)),
            id="503 with a date",
        ),
        pytest.param(
            503,
            {"retry-after": "soon"},
            Outcome(Result.RETRY, "answered 503"),
            id="503 with nonsense",
        ),
        pytest.param(429, {}, Outcome(Result.RETRY, "answered 429"), id="429 without"),
        pytest.param(
            500,
            {"retry-after": "120"},
            Outcome(Result.RETRY, "answered 500"),
            id="only 429 and 503 may ask",
        ),
    ],
)
def test_answers_are_judged_alike(
    sink: Sink, status: int, headers: Mapping[str, str], expected: Outcome
) -> None:
    assert sink.judge(answer(status, headers), NOW) == expected


def test_a_webhook_sends_the_stored_bytes() -> None:
    request = sinks()["webhook"].render(EVENT, TARGET, NOW)

    assert request.body is EVENT.body
    assert request.headers["content-type"] == "application/json"
    assert "user-agent" not in request.headers  # the client's to say


def test_a_webhook_is_a_cloudevent_in_binary_mode() -> None:
    request = sinks()["webhook"].render(EVENT, TARGET, NOW)

    event = from_binary_event(HTTPMessage(headers=dict(request.headers), body=request.body))

    assert event.get_specversion() == "1.0"
    assert event.get_id() == EVENT.id
    assert event.get_type() == EVENT.type
    assert event.get_source() == EVENT.source
    assert event.get_subject() == EVENT.subject
    assert event.get_time() == EVENT.time
    assert event.get_data() == json.loads(EVENT.body)


def test_structured_mode_is_a_cloudevent_with_the_events_data() -> None:
    request = sinks()["cloudevents"].render(EVENT, TARGET, NOW)

    event = from_structured_event(HTTPMessage(headers=dict(request.headers), body=request.body))

    assert request.headers["content-type"] == "application/cloudevents+json"
    assert event.get_specversion() == "1.0"
    assert event.get_id() == EVENT.id
    assert event.get_type() == EVENT.type
    assert event.get_source() == EVENT.source
    assert event.get_subject() == EVENT.subject
    assert event.get_time() == EVENT.time
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == DATA
    assert not [name for name in request.headers if name.startswith("ce-")]


def test_half_an_emoji_in_a_body_does_not_stop_its_delivery() -> None:
    body = b'{"data":{"title":"\\ud83d"}}'
    event = Event("evt_1", "task.failed", "/taskbell/minimax", "task_1", NOW, body)

    request = sinks()["cloudevents"].render(event, TARGET, NOW)

    assert b'"data":{"title":"\\ud83d"}' in request.body


def test_an_event_without_a_subject_names_none(sink: Sink) -> None:
    event = Event("evt_1", "delivery.dead", "/taskbell", "", NOW, b'{"data":{}}')

    request = sink.render(event, TARGET, NOW)

    assert "ce-subject" not in request.headers
    assert b"subject" not in request.body


def _signature(secret: str, request: Request) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join(
        [
            request.headers["webhook-id"].encode(),
            request.headers["webhook-timestamp"].encode(),
            request.body,
        ]
    )
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
