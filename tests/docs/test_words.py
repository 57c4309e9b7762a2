"""What pages say beside their commands: there is such a command, such an example, such a button."""

from __future__ import annotations

import re

import pytest

from deploy.cli import build_app
from dispatch.signing import new_secret, signed_headers
from receiver.pages.words import Words
from store.clock import system_clock
from tests.docs.pages import page, pages

VERIFYING = [
    "README.md",
    "deploy/docs/how-to/write-a-subscriber.md",
    "deploy/docs/zh-CN/README.md",
]
DASHBOARD = {
    "deploy/docs/tutorial.md": "en",
    "deploy/docs/how-to/find-out-what-is-wrong.md": "en",
    "deploy/docs/zh-CN/tutorial.md": "zh",
}
"""Pages that lead through the dashboard, and in which language: its words stand in bold."""


def test_every_command_that_a_page_names_exists() -> None:
    app = build_app()
    named = {
        each.name or getattr(each.callback, "__name__", "") for each in app.registered_commands
    }
    named |= {str(group.name) for group in app.registered_groups}
    there = {name.replace("_", "-") for name in named}

    for each in pages():
        used = set(re.findall(r"\./deploy/run ([a-z][a-z-]+)", each.text))
        assert used <= there, each.name


@pytest.mark.parametrize("name", VERIFYING)
def test_the_python_example_verifies_what_is_really_sent(name: str) -> None:
    secret = new_secret()
    body = b'{"type":"task.succeeded","data":{"task":{"outputs":[]}}}'
    now = int(system_clock().timestamp())  # the library looks at the real clock
    names = {
        "secret": secret,
        "request_body": body,
        "request_headers": signed_headers([secret], "evt_1", now, body),
    }

    [example] = page(name).blocks("python")
    exec(example.text, names)

    assert names["event"] == {"type": "task.succeeded", "data": {"task": {"outputs": []}}}


def test_the_page_on_dify_sends_what_the_trigger_of_the_example_wants() -> None:
    wanted = re.findall(r"--shape .+", page("deploy/examples/dify.md").text)

    assert re.findall(r"--shape .+", page("deploy/docs/how-to/dify.md").text) == wanted


@pytest.mark.parametrize(("name", "language"), DASHBOARD.items())
def test_the_dashboard_says_what_a_page_says_it_does(name: str, language: str) -> None:
    shown = set(Words(language).texts.values())
    text = page(name).text
    told = re.findall(r"\*\*(.+?)\*\*", text) + re.findall(r"^> (.+)$", text, re.MULTILINE)

    told = [each for each in told if each not in NOT_OF_THE_DASHBOARD]
    assert told
    assert [each for each in told if each not in shown] == []


NOT_OF_THE_DASHBOARD = {"another terminal", "另一个终端"}
