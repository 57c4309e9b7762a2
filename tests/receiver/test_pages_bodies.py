from __future__ import annotations

import json
import subprocess

import pytest

from receiver.pages.bodies import SHOWN, asking, body_of, sending

HOSTILE = {
    "prompt": "'; rm -rf / #' $(reboot) `reboot` \\ \" !! %s 元境 😀",
    "hidden": "\u202egpj.exe\u2066\x1b[2J\x7f\u0085\u200b",
}


def sent_by(command: str) -> bytes:
    """What a shell makes curl send."""
    curl = 'curl() { while [ "$1" != --data-binary ]; do shift; done; printf %s "$2"; }; '
    done = subprocess.run(["/bin/sh", "-c", curl + command], capture_output=True, check=True)
    return done.stdout


def test_the_curl_line_sends_just_the_body() -> None:
    body = json.dumps({"prompt": HOSTILE["prompt"]}, ensure_ascii=False).encode()

    command = sending(body, "evt_1")

    assert command is not None
    assert sent_by(command) == body


def test_a_terminal_is_given_nothing_to_obey() -> None:
    body = json.dumps(HOSTILE, ensure_ascii=False).encode()

    command = sending(body, "evt_1")

    assert command is not None
    assert command.isprintable()
    assert json.loads(sent_by(command)) == HOSTILE


def test_a_long_body_is_no_command_line() -> None:
    assert sending(b'"%s"' % (b"a" * 10_000), "evt_1") is None


def test_the_curl_line_holds_no_key() -> None:
    assert asking("https://taskbell.example/", "evt_1") == (
        'curl -H "Authorization: Bearer $TASKBELL_API_KEY" https://taskbell.example/v1/events/evt_1'
    )


@pytest.mark.parametrize(
    ("raw", "laid_out"),
    [
        (b'{"a":[1]}', '{\n  "a": [\n    1\n  ]\n}'),
        (b"<html>", None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b"", None),
    ],
)
def test_a_body_is_laid_out_when_it_is_json(raw: bytes, laid_out: str | None) -> None:
    body = body_of(raw)

    assert body.laid_out == laid_out
    assert body.size == len(raw)


def test_what_cannot_be_seen_is_written_out() -> None:
    body = body_of(json.dumps(HOSTILE, ensure_ascii=False).encode())

    assert body.laid_out is not None
    assert all(text.replace("\n", "").isprintable() for text in (body.text, body.laid_out))
    assert "\\u202egpj.exe" in body.text
    assert "元境 😀" in body.text


def test_a_large_body_is_cut() -> None:
    body = body_of(b"a" * (SHOWN + 1))

    assert (len(body.text), body.cut, body.size) == (SHOWN, True, SHOWN + 1)
    assert not body_of(b"a" * SHOWN).cut
