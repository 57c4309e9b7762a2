"""What is said of each part of a request whose signature does not match."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatch.mismatch import Finding, examine
from dispatch.signing import signed_headers
from store.events import Kind, Output, Status, Task, task_json
from store.outbox import event_row

# the vector of Standard Webhooks that test_signing.py signs
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OTHER = "whsec_" + base64.b64encode(b"k" * 24).decode()
BODY = b'{"id":"pred_1","status":"succeeded"}'
HEADERS = {
    "webhook-id": "msg_test_1",
    "webhook-timestamp": "1790000000",
    "webhook-signature": "v1,fZZdTILeVolorAP7TZgPSpOELa3te7LfvC3TjbKEMJg=",
}
THEN = datetime.fromtimestamp(1790000000, UTC)
RAW = base64.b64decode(HEADERS["webhook-signature"].removeprefix("v1,"))


def wrong(findings: list[Finding]) -> dict[str, str]:
    """What is said of the parts that are not right."""
    return {finding.part: finding.text for finding in findings if not finding.ok}


def examined(
    *, secret: str = SECRET, body: bytes = BODY, now: datetime = THEN, **changed: str
) -> dict[str, str]:
    """The same for the vector, with headers changed."""
    headers = {**HEADERS, **{f"webhook-{name}": value for name, value in changed.items()}}
    return wrong(examine([secret], headers, body, now))


def test_what_is_right_is_right_in_every_part() -> None:
    findings = examine([SECRET], HEADERS, BODY, THEN + timedelta(seconds=299))

    assert wrong(findings) == {}
    assert [finding.part for finding in findings] == ["secret", "headers", "timestamp", "signature"]


def test_headers_are_known_as_frameworks_spell_them() -> None:
    spelled = {f"HTTP_{name.upper().replace('-', '_')}": HEADERS[name] for name in HEADERS}

    assert wrong(examine([SECRET], spelled, BODY, THEN)) == {}


def test_one_of_several_secrets_is_enough_and_is_named() -> None:
    findings = examine([OTHER, SECRET], HEADERS, BODY, THEN)

    assert wrong(findings) == {}
    assert findings[-1].text.endswith("secret number 2")


def test_one_signature_of_a_rotation_is_enough() -> None:
    both = signed_headers([OTHER, SECRET], "evt_1", 1790000000, BODY)

    assert wrong(examine([SECRET], both, BODY, THEN)) == {}


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("", "empty"),
        (SECRET + "\n", "line break around it"),
        (f"'{SECRET}'", "quotes around it"),
        (SECRET[:20] + " " + SECRET[20:], "blanks in it"),
        ("tb_abcd1234_" + "k" * 43, "API key of Taskbell's"),
        ("sk-" + "k" * 43, "provider's API key"),
        (SECRET.replace("whsec_", "WHSEC_"), "small letters"),
        (SECRET.removeprefix("whsec_"), "does not start with whsec_"),
        (SECRET.rstrip("="), "= at its end is missing"),
        (SECRET.replace("AAEC", "!!!!"), "letters that base64 has not"),
        (SECRET.replace("AAEC", "_-EC"), "base64 for URLs"),
        ("whsec_" + base64.b64encode(b"k" * 16).decode(), "16 bytes: 24 to 64"),
    ],
)
def test_a_secret_of_another_form_is_told_and_never_shown(secret: str, said: str) -> None:
    findings = examine([secret], HEADERS, BODY, THEN)

    assert said in wrong(findings)["secret"]
    tail = secret.strip("' \n").partition("_")[2]
    assert not tail or all(tail not in finding.text for finding in findings)


@pytest.mark.parametrize("around", ["{}\n", "'{}'", ' "{}" '])
def test_a_secret_that_can_be_mended_is_the_only_thing_wrong(around: str) -> None:
    assert set(examined(secret=around.format(SECRET))) == {"secret"}


def test_an_old_or_foreign_secret_is_told_when_nothing_else_is_wrong() -> None:
    said = examined(secret=OTHER)

    assert set(said) == {"signature"}
    assert "the secret of this subscription?" in said["signature"]


@pytest.mark.parametrize("name", ["id", "timestamp", "signature"])
def test_a_missing_header_is_named(name: str) -> None:
    rest = {each: HEADERS[each] for each in HEADERS if each != f"webhook-{name}"}

    assert f"webhook-{name} is missing" in wrong(examine([SECRET], rest, BODY, THEN))["headers"]


def test_headers_of_svix_are_known() -> None:
    svix = {name.replace("webhook", "svix"): value for name, value in HEADERS.items()}

    said = [finding.text for finding in examine([SECRET], svix, BODY, THEN)]

    assert "there is svix-id, so this is not from Taskbell" in " ".join(said)


@pytest.mark.parametrize(
    ("now", "timestamp", "said"),
    [
        (THEN + timedelta(seconds=301), "1790000000", "5 min 1 s old"),
        (THEN + timedelta(days=2), "1790000000", "2 d 0 h old"),
        (THEN - timedelta(hours=1), "1790000000", "1 h 0 min ahead of the clock here"),
        (THEN, "1790000000000", "in milliseconds"),
        (THEN, "soon", "'soon' is not a number"),
        (THEN, "１７９０", "not a number"),
        (THEN, "-5", "not a number"),
    ],
)
def test_a_time_that_is_refused_is_told(now: datetime, timestamp: str, said: str) -> None:
    assert said in examined(now=now, timestamp=timestamp)["timestamp"]


def test_only_the_time_is_wrong_when_only_the_time_is_wrong() -> None:
    assert set(examined(now=THEN + timedelta(hours=1))) == {"timestamp"}
    assert set(examined(timestamp="1790000000000")) == {"timestamp"}


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        (RAW.hex(), "in hex"),
        (f"sha256={RAW.hex()}", "in hex"),
        (f"t=1790000000,v1={RAW.hex()}", "another service's form"),
        (base64.b64encode(RAW).decode(), "v1, is missing"),
        (f"v1={base64.b64encode(RAW).decode()}", "a comma belongs behind v1"),
        (f"v1a,{base64.b64encode(RAW + RAW).decode()}", "version v1a"),
        (f"v1,{base64.urlsafe_b64encode(RAW).decode().rstrip('=')}", "base64 for URLs, or cut"),
        ("", "the header is empty"),
        ("nonsense", "another form"),
    ],
)
def test_a_signature_of_another_form_is_told(signature: str, said: str) -> None:
    assert said in " ".join(
        finding.text
        for finding in examine([SECRET], {**HEADERS, "webhook-signature": signature}, BODY, THEN)
        if finding.part == "signature"
    )


EVENT = {
    "id": "evt_1",
    "type": "task.succeeded",
    "data": {"task": {"progress": 1.0, "metadata": {"名": "é"}}},
}
SENT = json.dumps(EVENT, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda body: body + b"\n", "without the line break", id="line break added"),
        pytest.param(lambda body: b" " + body, "without the blanks", id="blank added"),
        pytest.param(lambda body: b"\xef\xbb\xbf" + body, "byte order mark", id="mark added"),
        pytest.param(
            lambda body: json.dumps(json.loads(body), ensure_ascii=False).encode(),
            "as compact JSON, without blanks",
            id="blanks between",
        ),
        pytest.param(
            lambda body: json.dumps(json.loads(body)).encode(), "letters unescaped", id="escaped"
        ),
        pytest.param(
            lambda body: json.dumps(json.loads(body), indent=2).encode(), "compact", id="indented"
        ),
        pytest.param(
            lambda body: json.dumps(json.loads(body), sort_keys=True).encode(),
            "keys in Taskbell's order",
            id="keys sorted",
        ),
    ],
)
def test_a_changed_body_is_told_by_the_change_that_makes_it_match(
    change: Callable[[bytes], bytes], said: str
) -> None:
    headers = signed_headers([SECRET], "evt_1", 1790000000, SENT)

    found = wrong(examine([SECRET], headers, change(SENT), THEN))

    assert set(found) == {"body"}
    assert said in found["body"]


@pytest.mark.parametrize(
    ("signed", "got", "said"),
    [
        (b'{"a":1}\n', b'{"a":1}', "with a line break at its end"),
        (b"a\r\nb", b"a\nb", "with CRLF"),
        (b"a\nb", b"a\r\nb", "with LF"),
        (b'{"a": 1, "b": 2}', b'{"a":1,"b":2}', "with blanks behind commas"),
        (b'{"a":"\\u00e9"}', '{"a":"é"}'.encode(), "letters escaped"),
        (b'{\n  "a": 1\n}', b'{"a":1}', "indented by 2"),
    ],
)
def test_bodies_of_other_senders_are_found_too(signed: bytes, got: bytes, said: str) -> None:
    headers = signed_headers([SECRET], "evt_1", 1790000000, signed)

    assert said in wrong(examine([SECRET], headers, got, THEN))["body"]


def a_whole_event() -> bytes:
    task = Task(
        id="task_1", provider="minimax", provider_task_id="1", created_at=THEN, updated_at=THEN,
        deadline_at=THEN, status=Status.SUCCEEDED, progress=1.0, metadata={"z": 1, "a": 2},
        outputs=(Output(url="https://a.test/a.mp4", kind=Kind.VIDEO, expires_at=THEN),),
    )  # fmt: skip
    data = {"task": task_json(task), "previous_status": None, "source": "poll", "late": False}
    body: bytes = event_row("task.succeeded", data, THEN, subject="task_1")["body"]
    return body


def test_an_event_is_known_with_its_keys_shuffled_and_its_numbers_as_javascript_has_them() -> None:
    sent = a_whole_event()
    event: dict[str, Any] = json.loads(sent)
    task = event["data"]["task"]
    metadata = task.pop("metadata")
    task["progress"] = 1
    shuffled = json.loads(json.dumps(event, sort_keys=True))
    shuffled["data"]["task"]["metadata"] = metadata
    headers = signed_headers([SECRET], event["id"], 1790000000, sent)

    found = wrong(examine([SECRET], headers, json.dumps(shuffled).encode(), THEN))

    assert "keys in Taskbell's order" in found["body"]


@pytest.mark.parametrize("message_id", ["EVT_1", "1", '"evt_1"', "msg_1", "dlv_7"])
def test_an_id_that_was_not_signed_is_told_with_the_one_that_was(message_id: str) -> None:
    headers = signed_headers([SECRET], "evt_1", 1790000000, SENT)

    found = wrong(examine([SECRET], {**headers, "webhook-id": message_id}, SENT, THEN))

    assert set(found) == {"id"}
    assert "that was 'evt_1'" in found["id"]


def test_headers_of_one_message_with_the_body_of_another_are_told() -> None:
    headers = signed_headers([SECRET], "evt_2", 1790000000, b"{}")

    assert "two messages?" in wrong(examine([SECRET], headers, SENT, THEN))["id"]


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[" * 100_000, b'{"a":' + b"1" * 5000 + b"}"])
def test_no_body_is_too_odd_to_be_looked_at(body: bytes) -> None:
    assert set(examined(body=body)) == {"signature"}
