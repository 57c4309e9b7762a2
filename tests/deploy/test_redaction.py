"""No spelling of a secret that Taskbell makes, or is given, gets past the end of a log line."""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import secrets
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from itsdangerous import URLSafeSerializer

from deploy import logs
from deploy.redaction import redacted, redactor
from dispatch.signing import new_secret
from receiver.pages.once import OnceLinks
from receiver.pages.session import Sessions
from receiver.tokens import CallbackTokens
from store.clock import system_clock
from store.ids import new_id
from store.keys import new_key_text
from tests.app import SECRET_KEYS, loggers_as_before

LONG = {"customer": "42", "note": "which compresses well " * 8}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with loggers_as_before():
        yield


def _token(metadata: dict[str, str]) -> str:
    return CallbackTokens(SECRET_KEYS).issue(
        "minimax", "cb_" + "z" * 26, expires_at=None, metadata=metadata
    )


def _old_token(metadata: dict[str, str]) -> str:
    payload = {"provider": "minimax", "id": "cb_" + "z" * 26, "exp": None, "meta": metadata}
    return str(URLSafeSerializer(list(SECRET_KEYS), salt="taskbell.callback.v1").dumps(payload))


def _cookie(*, signed_in: bool) -> str:
    sessions = Sessions(SECRET_KEYS, "http://taskbell.test", system_clock)
    return sessions.write(sessions.begin(signed_in=signed_in))


def _form_token() -> str:
    """One with a digit in it: without any, six in a million look like words written together."""
    sessions = Sessions(SECRET_KEYS, "http://taskbell.test", system_clock)
    return next(
        token
        for token in iter(lambda: sessions.form_token(sessions.begin()), "")
        if any(map(str.isdigit, token))
    )


KINDS: dict[str, Callable[[], str]] = {
    "a callback token": lambda: _token({}),
    "a callback token that was compressed": lambda: _token(LONG),
    "a callback token in upper case": lambda: _token({}).upper(),
    "an old callback token": lambda: _old_token({}),
    "an old callback token that was compressed": lambda: _old_token(LONG),
    "an API key": new_key_text,
    "a signing secret": new_secret,
    "a session cookie": lambda: _cookie(signed_in=True),
    "a cookie of nobody": lambda: _cookie(signed_in=False),
    "a form token": _form_token,
    "a one-time link": lambda: OnceLinks().issue(),
    "a secret key": lambda: secrets.token_urlsafe(48),
    "an authorization": lambda: f"Bearer {new_key_text()}",
}

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "percent": lambda text: quote(text, safe=""),
    "percent, every letter": lambda text: "".join(f"%{ord(letter):02x}" for letter in text),
    "percent, twice": lambda text: quote(quote(text.replace("_", "%5F"), safe=""), safe=""),
    "in JSON": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "in JSON, every letter": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text),
    "in a repr": lambda text: repr(text.encode()),
    "in HTML": lambda text: html.escape(text).replace("_", "&#95;"),
    "in base64": lambda text: base64.b64encode(text.encode()).decode(),
    "in base64 of URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "in base64 without padding": lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    "in base64, shifted by one": lambda text: base64.b64encode(b"x:" + text.encode()).decode(),
    "in base64, shifted by two": lambda text: base64.b64encode(b"xy" + text.encode()).decode(),
    "in base64, twice": lambda text: base64.b64encode(base64.b64encode(text.encode())).decode(),
    "in hex": lambda text: text.encode().hex(),
}

PLACES = [
    "{}",
    "refused {} at once",
    "key={}&x=1",
    "'{}'",
    "POST /callbacks/minimax/{} failed",
    "Cookie: taskbell-8000={}; a=b",
    "https://taskbell.example.com/callbacks/minimax/{}",
    '{{"token": "{}"}}',
    "({}),",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_spelling_of_what_we_make_is_left(kind: str, spelling: str) -> None:
    spelled = SPELLINGS[spelling](KINDS[kind]())
    for place in PLACES:
        left = redacted(place.format(spelled))
        pieces = [spelled[at : at + 16] for at in range(12, len(spelled) - 16)]
        assert not [piece for piece in pieces if piece in left], (place, spelled, left)
        assert "…" in left


@pytest.mark.parametrize(
    "text",
    [
        "task task_01m7yzmhg0abcdefgh0123456z of sub_01m7yzmhg0abcdefgh0123456z has ended",
        "token cb_zzzzzzzzzz000000000000000z was revoked",
        "/usr/local/lib/python3.11/site-packages/sqlalchemy/engine/default.py, line 943",
        "test_a_callback_url_that_was_compressed_ordinary_is_left_out_whole",
        "sqlalchemy.exc.IntegrityError: UNIQUE constraint failed: events.cursor",
        "receiver.providers.minimax.MiniMaxVideoTemplateGenerationProvider2 has no attribute",
        "SELECT tasks.id, tasks.provider FROM tasks WHERE tasks.next_poll_at IS NOT NULL",
        "answered 500 after 15.0 s; trying again in 300 s (100% of them)",
        "provider_task_id 115334141465231360, f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "at 2026-11-21T02:55:03.120000Z on http://127.0.0.1:8000",
        r"C:\Users\ada\taskbell\xff and a\/b &amp; c%20d",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_ids_of_ours_stay_whatever_their_kind() -> None:
    for prefix in ("task", "evt", "sub", "dlv", "key", "aud", "ses", "rcp", "cb", "url"):
        made = new_id(prefix, system_clock())
        assert redacted(f"about {made}, and {made}") == f"about {made}, and {made}"


@pytest.mark.parametrize("spelling", ["as it is", "percent", "in JSON", "in base64"])
def test_values_that_were_given_are_left_out_though_nothing_marks_them(spelling: str) -> None:
    given = "an ordinary/pass phrase of ours"

    left = redactor([given, "short"])(f"no: {SPELLINGS[spelling](given)} in short")

    assert left.startswith("no: ...")
    assert left.endswith(" in short")
    assert len(left) < 25  # of base64 the last letter may stay: it has but a few of its bits


def test_the_settings_secrets_are_in_no_line() -> None:
    stream = io.StringIO()
    logs.set_up(stream, console=False)
    logs.hide(["an ordinary pass phrase of ours"])

    log = logging.getLogger("taskbell")
    try:
        raise ValueError("no an ordinary pass phrase of ours")
    except ValueError:
        log.exception(
            "an ordinary pass phrase of ours", extra={"a": "an ordinary pass phrase of ours"}
        )

    assert "ordinary" not in stream.getvalue().replace("as_before", "")


def test_long_text_without_a_blank_is_read_in_time() -> None:
    for letters in ("a", "%41", "a.", "eyJ", "/", "A1b"):
        assert redacted(letters * 100_000) is not None
