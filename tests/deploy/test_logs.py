from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.logs import ConsoleFormatter, JsonFormatter, set_up
from deploy.redaction import redacted
from tests.app import loggers_as_before

HOSTILE = "x\r\n2026-01-01 INFO forged\x1b[2J\x1b[31m\x00\u202egpj\u2028"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with loggers_as_before():
        yield


def record(message: str = "push", *args: Any, **fields: Any) -> logging.LogRecord:
    found = logging.LogRecord("taskbell.callbacks", logging.INFO, "x.py", 1, message, args, None)
    found.created = 1_767_268_800.25
    vars(found).update(fields)
    return found


def failed(message: str) -> logging.LogRecord:
    found = record("stumbled")
    try:
        raise ValueError(message)
    except ValueError:
        found.exc_info = sys.exc_info()
    return found


def as_json(entry: logging.LogRecord) -> dict[str, Any]:
    text = JsonFormatter().format(entry)
    assert "\n" not in text
    line: dict[str, Any] = json.loads(text)
    return line


def test_a_json_line_has_time_level_logger_message_and_fields() -> None:
    line = as_json(record("push of %d", 7, provider="minimax", task=None, seconds=0.5, final=True))

    assert line == {
        "time": "2026-01-01T12:00:00.250Z",
        "level": "info",
        "logger": "taskbell.callbacks",
        "message": "push of 7",
        "provider": "minimax",
        "task": None,
        "seconds": 0.5,
        "final": True,
    }


def test_a_console_line_is_short() -> None:
    line = ConsoleFormatter().format(record("push of %d", 7, provider="minimax", task=None))

    assert line == "12:00:00 INFO callbacks: push of 7 provider=minimax task=None"


def test_foreign_text_cannot_forge_a_line_or_steer_a_terminal() -> None:
    entry = record("word %s", HOSTILE, word=HOSTILE)

    line = as_json(entry)
    assert line["message"] == f"word {HOSTILE}"
    assert line["word"] == HOSTILE
    console = ConsoleFormatter().format(entry)
    assert console.isprintable()
    assert "forged" in console


def test_half_a_surrogate_pair_can_be_logged() -> None:
    entry = record("word \ud800", word="\ud800")

    assert as_json(entry)["word"] == "\ud800"
    assert "\ud800" not in ConsoleFormatter().format(entry)


def test_long_values_are_cut() -> None:
    entry = record("m" * 10_000, word="w" * 10_000)

    line = as_json(entry)
    assert len(line["message"]) == len(line["word"]) == 501
    assert len(ConsoleFormatter().format(entry)) < 1_100


def test_objects_are_told_as_text() -> None:
    assert as_json(record(ids=["a", 1]))["ids"] == "['a', 1]"


def test_an_exception_brings_its_trace() -> None:
    entry = failed(HOSTILE)

    assert "ValueError: x" in as_json(entry)["trace"]
    lines = ConsoleFormatter().format(entry).split("\n")
    assert lines[0] == "12:00:00 INFO callbacks: stumbled"
    assert lines[1].startswith("Traceback")
    assert all(line.isprintable() for line in lines)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "console", "pattern"),
    [
        (io.StringIO(), None, r"\{.*\}"),
        (Terminal(), None, r"\d\d:\d\d:\d\d INFO .*"),
        (io.StringIO(), True, r"\d\d:\d\d:\d\d INFO .*"),
        (Terminal(), False, r"\{.*\}"),
    ],
)
def test_people_get_short_lines_and_machines_json(
    stream: io.StringIO, console: bool | None, pattern: str
) -> None:
    set_up(stream, console=console)

    logging.getLogger("taskbell").info("hello")
    logging.getLogger("taskbell").debug("not this")

    assert re.fullmatch(pattern + "\n", stream.getvalue())


@pytest.mark.parametrize("name", ["httpx", "httpcore", "aiohttp.access", "uvicorn"])
def test_libraries_that_log_whole_urls_are_quiet(name: str) -> None:
    stream = io.StringIO()
    set_up(stream)

    logging.getLogger(name).info("POST /callbacks/minimax/token")
    assert stream.getvalue() == ""

    logging.getLogger(name).error("trouble")
    assert json.loads(stream.getvalue())["message"] == "trouble"


def test_errors_of_the_server_are_heard() -> None:
    stream = io.StringIO()
    set_up(stream)

    logging.getLogger("uvicorn.error").error("Exception in ASGI application")

    assert "Exception in ASGI" in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("key tb_0123abcd_" + "k" * 43 + " refused", "key tb_0123abcd_… refused"),
        ("secret whsec_MfKQ9r8G+/YqrTwjUPD8==.", "secret whsec_…."),
        ("Authorization: Bearer abc.def-1, x", "Authorization: Bearer …, x"),
        ("invalid api key sk-api-123456789", "invalid api key sk-…"),
        ("jwt eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2lnbg-_ no", "jwt eyJ… no"),
        ("/callbacks/minimax/eyJwcm92aWRlciI6Im1pbmltYXgi.x_y-z", "/callbacks/minimax/eyJ…"),
        ("/callbacks/minimax/cbt_" + "a2" * 80 + " failed", "/callbacks/minimax/cbt_… failed"),
        ("https://hooks.slack.com/services/T0/B0/xyz?a=b died", "https://hooks.slack.com/… died"),
        ("to https://h.example?key=1#x", "to https://h.example?…"),
        ("https://user:hush@h.example/x", "https://…@h.example/…"),
        ("postgresql://taskbell:hush@db:5432/taskbell", "postgresql://…@db:5432/taskbell"),
        ("locked gAAAAABnPz0_x-y==", "locked gAAAAA…"),
        # what is none stays
        ("at http://127.0.0.1:8000 and https://h.example/", None),
        ("sub_01kb3x0e5x of key_01kb3x0e5x: token cb_zzzzzzzzzz000000000000000z, cbt_ alone", None),
        ("a bearer: task-id sk-1 eyJ", None),
    ],
)
def test_what_looks_like_a_secret_is_left_out(text: str, left: str | None) -> None:
    assert redacted(text) == (text if left is None else left)


def test_a_secret_is_left_out_of_messages_fields_and_traces() -> None:
    secret = "tb_0123abcd_" + "k" * 43
    entries = [record("%s", secret), record(field=f"x {secret}"), failed(f"no {secret}")]

    for form in (JsonFormatter(), ConsoleFormatter()):
        for entry in entries:
            line = form.format(entry)
            assert "tb_0123abcd_" in line
            assert "kkk" not in line


def test_a_secret_at_the_cut_is_left_out_whole() -> None:
    line = as_json(record("x" * 480 + " tb_0123abcd_" + "k" * 43))

    assert "kk" not in line["message"]
