from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy.cli import doctor, frame
from deploy.cli.checkup.finding import Finding, fail, ok
from tests.cli.test_cli_output import Screen
from tests.ports import free_port

PROVIDER_KEY = "sk-hush-hush-hush"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder, and the address of a server that is not there."""
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKBELL_URL", url)
    monkeypatch.setenv("TASKBELL_MINIMAX_BASE_URL", url)
    monkeypatch.setenv("MINIMAX_API_KEY", PROVIDER_KEY)
    return url


def run(*arguments: str) -> Result:
    app = frame.new_app()
    doctor.register(app)
    return CliRunner().invoke(app, ["doctor", *arguments], prog_name="taskbell")


def test_whatever_is_wrong_is_told_each_with_what_to_do(
    nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKBELL_PROT", "8000")

    result = run()

    assert (result.exit_code, result.stderr) == (1, "")
    heads = [line.split("  ")[:2] for line in result.stdout.splitlines() if line[:1] != " "]
    assert heads == [
        ["FAIL", "settings"],
        ["warn", "database"],
        ["ok", ""],  # disk
        ["ok", ""],  # network
        ["FAIL", "MiniMax key"],
        ["FAIL", "server"],
    ]
    assert result.stdout.count("→ ") == 4
    assert f"no Taskbell server at {nowhere}" in result.stdout
    assert PROVIDER_KEY not in result.output


def test_json_is_a_line_for_each_finding() -> None:
    result = run("--json")

    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert all(set(each) == {"check", "level", "text", "todo"} for each in found)
    assert {each["check"]: each["level"] for each in found}["settings"] == "ok"


def test_a_server_elsewhere_is_not_judged_by_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKBELL_URL", f"http://127.0.0.2:{free_port()}")

    lines = run().stdout.splitlines()

    assert lines[1].startswith("skip  database")
    assert "run this there" in lines[1]
    assert not any("key" in line[:24] for line in lines)


def test_a_dotenv_that_cannot_be_read_hides_nothing_else() -> None:
    Path(".env").write_bytes(b"\xff\xfe=1")

    result = run()

    lines = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (1, "")
    assert lines[0] == "FAIL  settings          .env cannot be read"
    assert lines[-2].endswith("cannot read .env: it is not UTF-8 text")
    assert any(line.startswith("FAIL  MiniMax key") for line in lines)


@pytest.mark.parametrize(
    "finding", [ok("disk", "x [bold]y"), fail("disk", "x [bold]y", "make \x1b[2J")]
)
def test_a_terminal_sees_marks_in_colour_and_words_as_they_are(
    finding: Finding, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}
    monkeypatch.setenv("TERM", "xterm-256color")
    for colour in ("yes", "no"):
        screen = Screen()
        with monkeypatch.context() as patched:
            patched.delenv("NO_COLOR", raising=False)
            if colour == "no":
                patched.setenv("NO_COLOR", "1")
            patched.setattr(sys, "stdout", screen)
            doctor._show(finding, as_json=False)
        seen[colour] = screen.getvalue()

    assert "\x1b[3" in seen["yes"]
    assert "\x1b" not in seen["no"].replace("\x1b[0m", "")
    assert seen["no"].startswith(f"{finding.level.value:4}  disk")
    assert "x [bold]y" in seen["no"]
