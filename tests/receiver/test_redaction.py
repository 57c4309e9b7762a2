"""An API key is cut out of what is kept, however it is written, and nothing else is."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote

import pytest

from receiver.redaction import Redactor, redacted
from store.events import Failure, Output, Status, TaskUpdate

KEY = "sk-AbC/0123+4567=wxyz"
redact = Redactor(KEY)


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param(KEY, id="as it is"),
        pytest.param(f"Bearer {KEY}", id="in a header"),
        pytest.param(KEY.replace("/", "\\/"), id="escaped slash"),
        pytest.param(json.dumps(json.dumps(KEY.replace("/", "\\/"))), id="JSON in JSON"),
        pytest.param(quote(KEY, safe=""), id="percent-encoded"),
        pytest.param(quote(KEY, safe="").lower().replace("abc", "AbC"), id="in lower case"),
        pytest.param(quote(quote(KEY, safe=""), safe=""), id="percent-encoded twice"),
        pytest.param("".join(f"%{ord(letter):02X}" for letter in KEY), id="each letter"),
        pytest.param(escaped(KEY), id="JSON escapes"),
        pytest.param(escaped(KEY).upper().replace("\\U", "\\u"), id="JSON escapes, upper case"),
        pytest.param(html.escape(KEY).replace("/", "&#x2F;").replace("+", "&#43;"), id="HTML"),
        pytest.param(base64.b64encode(KEY.encode()).decode(), id="base64"),
        pytest.param(base64.b64encode(f"a{KEY}".encode()).decode(), id="base64, one byte before"),
        pytest.param(base64.b64encode(f"ab{KEY}cd".encode()).decode(), id="base64, two bytes"),
        pytest.param(base64.urlsafe_b64encode(f"u:{KEY}".encode()).decode(), id="base64 for URLs"),
    ],
)
def test_a_key_is_cut_however_it_is_written(spelling: str) -> None:
    said = redact(f"wrong key {spelling}, sorry")

    assert said.startswith("wrong key ")
    assert said.endswith(", sorry")
    for start in range(len(spelling) - 12):
        assert spelling.replace("Bearer ", "")[start : start + 12] not in said


@pytest.mark.parametrize(
    "text", ["", "sk-", "wrong key", "AbC/0123", "https://a.example/sk-AbC?x=0123+4567", "元境"]
)
def test_what_is_not_the_key_stays(text: str) -> None:
    assert redact(text) == text
    assert Redactor(None)(text) == text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"wrong key {KEY[:12]}", "wrong key ..."),
        (f"wrong key {KEY[:-1]}… (12 more are cut)", "wrong key ...… (12 more are cut)"),
        (f"500 (wrong key {KEY[:9]}…)", "500 (wrong key ...…)"),
    ],
)
def test_a_key_that_a_shortened_text_breaks_off_is_cut(text: str, kept: str) -> None:
    assert redact(text) == kept


def test_every_text_of_an_update_is_cut_and_its_status_is_not() -> None:
    update = TaskUpdate(
        Status.FAILED,
        f"fail {KEY}",
        "t1",
        model=KEY,
        outputs=(Output(url=f"https://a.example/?key={quote(KEY)}"), Output(url="https://a.ex/1")),
        error=Failure(KEY, f"no {KEY}"),
        usage={KEY: [KEY, {"deep": f"x{KEY}"}], "n": 1},
    )

    cut = redacted(update, redact)

    assert (cut.status, cut.provider_task_id) == (Status.FAILED, "t1")
    assert (cut.provider_status, cut.model) == ("fail ...", "...")
    assert cut.error == Failure("...", "no ...")
    assert cut.usage == {"...": ["...", {"deep": "x..."}], "n": 1}
    assert cut.outputs[0].url is None
    assert "API key" in (cut.outputs[0].note or "")
    assert cut.outputs[1] == update.outputs[1]
