"""Our signatures against the specification's two reference libraries and a recorded vector."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
import standardwebhooks
import svix
from hypothesis import given
from hypothesis import strategies as st

from dispatch.signing import new_secret, sign, signature_header, signed_headers
from store.clock import system_clock

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OTHER = "whsec_" + base64.b64encode(b"k" * 24).decode()

keys = st.binary(min_size=24, max_size=64).map(
    lambda key: "whsec_" + base64.b64encode(key).decode()
)
ids = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=40)
times = st.integers(min_value=0, max_value=2**33)


def test_the_recorded_vector_is_reproduced() -> None:
    body = b'{"id":"pred_1","status":"succeeded"}'

    signature = sign(SECRET, "msg_test_1", 1790000000, body)

    assert signature == "v1,fZZdTILeVolorAP7TZgPSpOELa3te7LfvC3TjbKEMJg="


@given(secret=keys, message_id=ids, timestamp=times, text=st.text())
def test_both_reference_libraries_sign_alike(
    secret: str, message_id: str, timestamp: int, text: str
) -> None:
    moment = datetime.fromtimestamp(timestamp, UTC)

    ours = sign(secret, message_id, timestamp, text.encode())

    assert ours == standardwebhooks.Webhook(secret).sign(message_id, moment, text)
    assert ours == svix.Webhook(secret).sign(message_id, moment, text)


@given(secret=keys, message_id=ids, timestamp=times, body=st.binary())
def test_any_bytes_are_signed_as_they_are(
    secret: str, message_id: str, timestamp: int, body: bytes
) -> None:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = message_id.encode() + b"." + str(timestamp).encode() + b"." + body

    version, _, signature = sign(secret, message_id, timestamp, body).partition(",")

    assert version == "v1"
    assert base64.b64decode(signature) == hmac.new(key, signed, hashlib.sha256).digest()


@given(message_id=ids, timestamp=times, body=st.binary(), change=st.sampled_from(["id", "t", "b"]))
def test_a_change_in_any_part_changes_the_signature(
    message_id: str, timestamp: int, body: bytes, change: str
) -> None:
    other = {
        "id": (message_id + "x", timestamp, body),
        "t": (message_id, timestamp + 1, body),
        "b": (message_id, timestamp, body + b" "),
    }[change]

    assert sign(SECRET, message_id, timestamp, body) != sign(SECRET, *other)


def test_a_rotation_signs_with_both_secrets_newest_first() -> None:
    header = signature_header([OTHER, SECRET], "evt_1", 1790000000, b"{}")

    assert header.split(" ") == [
        sign(OTHER, "evt_1", 1790000000, b"{}"),
        sign(SECRET, "evt_1", 1790000000, b"{}"),
    ]


@pytest.mark.parametrize("secret", [SECRET, OTHER])
def test_subscribers_with_the_old_or_the_new_secret_verify_a_rotation(secret: str) -> None:
    now = int(system_clock().timestamp())  # the libraries compare with the real time
    headers = signed_headers([OTHER, SECRET], "evt_1", now, b'{"a":1}')

    assert standardwebhooks.Webhook(secret).verify(b'{"a":1}', headers) == {"a": 1}
    svix.Webhook(secret).verify(b'{"a":1}', headers)  # raises when it does not match


def test_an_id_with_a_dot_is_not_signed() -> None:
    with pytest.raises(ValueError, match="no dot"):
        sign(SECRET, "evt.1", 1790000000, b"{}")


def test_new_secrets_are_sound_and_differ() -> None:
    first, second = new_secret(), new_secret()

    sign(first, "evt_1", 1790000000, b"{}")
    assert first != second
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32


@given(keys)
def test_every_length_from_24_to_64_bytes_is_a_secret(secret: str) -> None:
    sign(secret, "evt_1", 1790000000, b"{}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "starts with whsec_", id="empty"),
        pytest.param(SECRET.removeprefix("whsec_"), "starts with whsec_", id="no prefix"),
        pytest.param(SECRET.upper(), "starts with whsec_", id="prefix in capitals"),
        pytest.param("whsec_", "padded base64", id="prefix only"),
        pytest.param("whsec_!!!!", "padded base64", id="letters a lenient decoder drops"),
        pytest.param(SECRET + "\n", "padded base64", id="newline at the end"),
        pytest.param(SECRET.rstrip("="), "padded base64", id="padding gone"),
        pytest.param(SECRET.replace("h8=", "h9="), "padded base64", id="spare bits set"),
        pytest.param(SECRET.replace("AAEC", "_-EC"), "padded base64", id="URL-safe alphabet"),
        pytest.param(SECRET.replace("A", "А"), "padded base64", id="Cyrillic A"),
        pytest.param("whsec_" + base64.b64encode(b"k" * 23).decode(), "not 23", id="23 bytes"),
        pytest.param("whsec_" + base64.b64encode(b"k" * 65).decode(), "not 65", id="65 bytes"),
    ],
)
def test_a_bad_secret_is_refused_without_quoting_it(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        sign(text, "evt_1", 1790000000, b"{}")

    tail = text.removeprefix("whsec_")
    assert not tail or tail not in str(caught.value)
    assert caught.value.__cause__ is None
