"""The picture of the state machine is the one that the store goes by."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import product

import pytest

from store.events import Status, Task, Verdict, judge
from tests.docs.pages import page

START = "[*]"
PAGE = page("deploy/docs/explanation/state-machine.md")
[PICTURE] = (block.text for block in PAGE.blocks("mermaid"))


def drawn() -> set[tuple[str, str]]:
    """The picture's arrows; one to a group leads to each of its states."""
    groups = {
        name: re.findall(r"\w+", inside)
        for name, inside in re.findall(r"state (\w+) \{(.*?)\}", PICTURE, re.DOTALL)
    }
    arrows = re.findall(r"^ *(\[\*\]|\w+) --> (\w+)(?:: \w+)?$", PICTURE, re.MULTILINE)
    return {
        (before, after)
        for first, last in arrows
        for before, after in product(groups.get(first, [first]), groups.get(last, [last]))
    }


def test_the_picture_has_every_step_and_no_other() -> None:
    steps = {
        (before.value, after.value)
        for before, after in product(Status, Status)
        if judge(task(before), after) is Verdict.RECORDED
    }
    first_steps = {(START, status.value) for status in Status}

    assert drawn() == steps | first_steps


@pytest.mark.parametrize("status", Status)
def test_a_task_without_an_event_may_begin_anywhere(status: Status) -> None:
    assert judge(task(Status.QUEUED, version=0), status) is Verdict.RECORDED


def test_the_page_explains_every_verdict() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.text, re.MULTILINE)

    assert rows == [verdict.value for verdict in Verdict]


def task(status: Status, *, version: int = 1) -> Task:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Task("task_1", "minimax", "1", now, now, now, status=status, version=version)
