from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy.cli import frame, verify
from deploy.cli.frame import Surroundings
from dispatch.signing import signed_headers
from store.clock import ManualClock

NOW = datetime.fromtimestamp(1790000000, UTC)
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
BODY = b'{"id":"evt_1"}'
HEADERS = signed_headers([SECRET], "evt_1", 1790000000, BODY)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs, with a body and headers to look at."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TASKBELL_WEBHOOK_SECRET", raising=False)
    Path("body.json").write_bytes(BODY)
    lines = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    Path("headers.txt").write_text(f"POST /hook HTTP/1.1\r\nHost: a.test:80\r\n{lines}\r\n")
    return tmp_path


def run(*arguments: str, stdin: bytes | str = "", interactive: bool = False) -> Result:
    app = frame.new_app()
    verify.register(app)
    around = Surroundings(clock=ManualClock(NOW), interactive=lambda: interactive)
    return CliRunner().invoke(
        app, ["verify", *arguments], obj=around, prog_name="taskbell", input=stdin
    )


def test_a_match_is_exit_code_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKBELL_WEBHOOK_SECRET", SECRET)

    result = run("body.json", "--headers", "headers.txt")

    assert (result.exit_code, result.stderr) == (0, "the signature matches\n")
    assert result.stdout.splitlines() == [
        "ok    secret     whsec_ and a key in base64",
        "ok    headers    all three webhook-… headers are there",
        "ok    timestamp  0 s ago",
        "ok    signature  matches id, timestamp and body",
    ]


def test_the_body_may_come_on_stdin_and_headers_one_by_one() -> None:
    Path("secret.txt").write_text(SECRET + "\n")
    options = [text for name in HEADERS for text in ("--header", f"{name}: {HEADERS[name]}")]

    result = run(*options, "--secret-file", "secret.txt", stdin=BODY + b"\n")

    assert result.exit_code == 1
    assert "FAIL  body       was changed after it was signed" in result.stdout
    assert SECRET not in result.output


def test_json_is_a_line_for_each_finding_and_headers_may_be_json() -> None:
    Path("secret.txt").write_text(SECRET)
    Path("headers.json").write_text(json.dumps(HEADERS))

    result = run(
        "body.json", "--headers", "headers.json", "--secret-file", "secret.txt",
        "--at", "2026-09-21T16:13:20+02:00", "--json",
    )  # fmt: skip

    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["ok"] for each in found] == [True] * 4
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_secret_in_dotenv_is_found() -> None:
    Path(".env").write_text(f"TASKBELL_WEBHOOK_SECRET='{SECRET}'\n")

    assert run("body.json", "--headers", "headers.txt").exit_code == 0


def test_whoever_sits_there_is_asked_for_the_secret_and_does_not_see_it() -> None:
    result = run("body.json", "--headers", "headers.txt", stdin=SECRET + "\n", interactive=True)

    assert result.exit_code == 0
    assert SECRET not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["body.json"], "no secret to check with: set TASKBELL_WEBHOOK_SECRET or --secret-file"),
        (["none.json", "--secret-file", "headers.txt"], "cannot read none.json: No such file"),
        (["body.json", "--secret-file", "none"], "cannot read none: No such file"),
        (["body.json", "--headers", "."], "cannot read .: Is a directory"),
        (["body.json", "--header", "webhook-id"], "--header number 1 is not 'Name: value'"),
        (
            ["body.json", "--secret-file", "headers.txt", "--at", "noon"],
            "--at 'noon' is not a time",
        ),
        (["body.json", "--secret-file", "empty.txt"], "empty.txt holds no secret"),
        (["body.json", "--headers", "list.json"], "list.json is JSON, but not an object"),
    ],
)
def test_wrong_use_is_exit_code_2_and_one_line(arguments: list[str], message: str) -> None:
    Path("empty.txt").write_text("\n")
    Path("list.json").write_text("[]")

    result = run(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"taskbell: {message}")
    assert result.stderr.count("\n") == 1
