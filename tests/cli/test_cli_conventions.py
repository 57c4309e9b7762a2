"""What holds for every command there is: an example, --json on lists, completion, NO_COLOR."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from deploy.cli import build_app
from deploy.settings import process_environment
from dispatch.sink import sinks
from receiver.provider import providers
from store.events import EVENT_TYPES, FAMILIES, Status
from tests.e2e.process import TASKBELL
from tests.patience import PATIENCE_SECONDS

APP = build_app()


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command and group with the words that lead to it."""
    if path:
        yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(APP)))


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_help_has_an_example_of_the_command(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(APP, [*path, "--help"], prog_name="taskbell")

    assert (result.exit_code, result.stderr) == (0, "")
    _, *examples = re.split("Examples?: ", result.stdout)
    assert f"taskbell {' '.join(path)}" in " ".join("".join(examples).split())


def test_everything_that_lists_has_json() -> None:
    lists = {path for path, command in COMMANDS.items() if "--limit" in options(command)}
    told = {(name,) for name in ("track", "watch", "subscribe", "replay", "verify", "doctor")}

    assert {("tasks",), ("events",), ("keys", "list")} <= lists
    for path in lists | told:
        assert "--json" in options(COMMANDS[path]), path


def completed(*words: str) -> list[str]:
    """What bash offers for the last word."""
    environ = {
        "_TASKBELL_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["taskbell", *words]),
        "COMP_CWORD": str(len(words)),
    }
    result = CliRunner().invoke(APP, [], env=environ, prog_name="taskbell")
    return result.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["do"], ["doctor"]),
        (["keys", "r"], ["revoke", "rotate"]),
        (["track", "mini"], ["minimax"]),
        (["callback-url", "atl"], ["atlascloud"]),
        (["tasks", "--provider", "open"], ["opencomputing"]),
        (["tasks", "--status", "suc"], ["succeeded"]),
        (["deliveries", "--status", "d"], ["delivered", "dead"]),
        (["replay", "--status", "de"], ["delivered", "dead"]),
        (["events", "--type", "task.f"], ["task.failed"]),
        (["subscribe", "--type", "del"], ["delivery.*", "delivery.dead"]),
        (["subscribe", "--format", "di"], ["dingtalk", "discord"]),
        (["subscribe", "--language", "z"], ["zh"]),
        (["keys", "create", "--scope", "a"], ["admin"]),
    ],
    ids=" ".join,
)
def test_the_shell_completes_commands_and_values(words: list[str], offered: list[str]) -> None:
    assert completed(*words) == offered


@pytest.mark.parametrize(
    ("words", "all_there_is"),
    [
        (["track"], providers()),
        (["subscribe", "--format"], sinks()),
        (["events", "--type"], [*FAMILIES, *EVENT_TYPES]),
        (["tasks", "--status"], list(Status)),
    ],
)
def test_every_value_there_is_is_offered(words: list[str], all_there_is: Sequence[str]) -> None:
    assert sorted(completed(*words, "")) == sorted(all_there_is)


def on_terminal(folder: Path, *arguments: str, **environ: str) -> str:
    """What a command writes to a terminal of its own."""
    control, terminal = pty.openpty()
    base = {"PATH": process_environment()["PATH"], "TERM": "xterm-256color", "PYTHONUTF8": "1"}
    process = subprocess.Popen(
        [TASKBELL, *arguments], cwd=folder, env={**base, **environ},
        stdin=terminal, stdout=terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    written = b""
    while True:
        try:
            written += os.read(control, 65536)
        except OSError:  # the other end is closed
            break
    process.wait(PATIENCE_SECONDS)
    os.close(control)
    return written.decode()


COLOUR = re.compile("\x1b\\[[0-9;]*3[0-9]")


def test_help_has_colours_on_a_terminal_and_none_with_no_color(tmp_path: Path) -> None:
    assert COLOUR.search(on_terminal(tmp_path, "--help"))
    assert not COLOUR.search(on_terminal(tmp_path, "--help", NO_COLOR="1"))
