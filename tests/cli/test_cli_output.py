import io
import json
import re
import sys
from typing import Any

import pytest
from rich.cells import cell_len

from deploy.cli import output
from deploy.cli.output import Column

COLUMNS = (
    Column("ID", lambda row: row["id"], whole=True),
    Column("STATUS", lambda row: row["status"], status=True),
    Column("NOTE", lambda row: row.get("note")),
    Column("MODEL", lambda row: row.get("model"), spare=True),
)

Row = dict[str, Any]


class Screen(io.StringIO):
    """A terminal as far as isatty tells."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def shown_on_screen(monkeypatch: pytest.MonkeyPatch, row: Row, **environment: str) -> str:
    """A list of that row on a terminal of 60 columns."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "60", **environment}.items():
        monkeypatch.setenv(name, value)
    screen = Screen()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", screen)
        output.rows_as_columns([row], COLUMNS)
    return screen.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("视频 🎬", "视频 🎬"),
        ("\x1b]0;owned\x07", "\ufffd]0;owned\ufffd"),  # sets the window's title
        ("\x9b2J", "\ufffd2J"),  # the same as ESC [, in one character
        ("a\u202egpj.exe", "a\ufffdgpj.exe"),  # turns the writing direction
        ("one\r\ntwo\u2028three", "one  two\ufffdthree"),
        ("\ud83d", "\ufffd"),
    ],
)
def test_foreign_text_cannot_steer_the_terminal(text: str, shown: str) -> None:
    assert output.plain(text) == shown


def test_columns_line_up_with_wide_letters_and_without_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows: list[Row] = [
        {"id": "task_1", "status": "failed", "note": "内容违规", "model": "a"},
        {"id": "task_22", "status": "succeeded", "note": None, "model": "b"},
    ]

    output.rows_as_columns(rows, COLUMNS)

    head, first, second = capsys.readouterr().out.splitlines()
    assert head == "ID       STATUS     NOTE      MODEL"
    assert first == "task_1   failed     内容违规  a"
    assert second == "task_22  succeeded  -         b"


def test_a_table_on_a_terminal_has_icons_and_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"id": "task_1", "status": "succeeded", "model": "m"}

    text = shown_on_screen(monkeypatch, row)

    assert "\x1b[32m✓ succeeded\x1b[0m" in text
    assert "MODEL" in text


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown_on_screen(monkeypatch, {"id": "task_1", "status": "succeeded"}, NO_COLOR="1")

    assert "✓ succeeded" in text
    assert "\x1b[32m" not in text


def test_foreign_text_in_a_table_is_neither_markup_nor_control(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    note = "[red]x[/red] \x1b[2J:smile:"

    text = shown_on_screen(monkeypatch, {"id": "1", "status": "queued", "note": note})

    assert "[red]x[/red] \ufffd[2J:smile:" in text
    assert "\x1b[2J" not in text


def test_a_narrow_terminal_loses_spare_columns_and_keeps_ids_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = {"id": "task_" + "7" * 26, "status": "dead", "note": "n" * 40, "model": "m" * 20}

    text = shown_on_screen(monkeypatch, row)

    assert "MODEL" not in text
    assert row["id"] in text
    assert text.count("n") == 40  # folded, not cut
    bare = re.sub("\x1b\\[[0-9;]*m", "", text)
    assert max(cell_len(line) for line in bare.splitlines()) <= 60


def test_json_lines_read_back_as_they_were_and_hold_no_controls(
    capsys: pytest.CaptureFixture[str],
) -> None:
    value = {"prompt": "元境\n\x1b[2J\x9b\u202e\ud83d"}

    output.json_line(value)

    line = capsys.readouterr().out
    assert line == '{"prompt": "元境\\n\\u001b[2J\\u009b\\u202e\\ud83d"}\n'
    assert json.loads(line) == value


def test_json_lines_stay_json_on_a_stdout_that_knows_only_ascii(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))

    output.json_line({"name": "元境é"})

    assert json.loads(raw.getvalue()) == {"name": "元境é"}


def test_a_dumb_terminal_gets_plain_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown_on_screen(monkeypatch, {"id": "1", "status": "failed"}, TERM="dumb")

    assert text == "ID  STATUS  NOTE  MODEL\n1   failed  -     -\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), ("soon", "soon"), (7, "7"), ("2026-11-21T02:55:03.9Z", "2026-11-21T02:55:03Z")],
)
def test_times_are_shown_also_when_they_are_none(value: object, shown: str) -> None:
    assert output.when(value, None) == shown
