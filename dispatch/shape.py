"""Shapes: a JMESPath expression that makes a subscription's body out of the event's.

JMESPath has no loops, but a short expression can still double a list, or a text, with each of its
parts. So every step is counted, and every result measured, while it runs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.visitor import TreeInterpreter

from dispatch.sink import CannotRender
from store.text import json_bytes

LONGEST = 2_000
"""Characters of an expression."""

LARGEST = 256 * 1024
"""Bytes of what is shaped, and of what comes of it."""

_MOST_STEPS = 20_000
_MOST_ELEMENTS = 2_000
_DEEPEST = 32


class BadShapeError(CannotRender):
    """An expression that cannot be read, or that made nothing to send; the message says why."""


def check(expression: str, sample: Any) -> None:
    """Raise BadShapeError unless the expression can be read and makes a body out of a sample event."""
    shaped(expression, sample)


def shaped(expression: str, event: Any) -> bytes:
    """The JSON that an expression makes out of an event's. Raises BadShapeError.

    >>> shaped("{text: join(' ', ['done:', data.task.id])}", {"data": {"task": {"id": "task_1"}}})
    b'{"text":"done: task_1"}'
    """
    tree = _read(expression)
    try:
        made = _Bounded().visit(tree, event)
        _measure(made)
    except (JMESPathError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = str(error) if isinstance(error, BadShapeError) else type(error).__name__
        raise BadShapeError(f"the shape fails on an event: {reason}") from None
    if made is None:
        raise BadShapeError("the shape makes nothing of an event")
    return json_bytes(made)


@lru_cache(maxsize=1_000)
def _read(expression: str) -> Any:
    if len(expression) > LONGEST:
        raise BadShapeError(f"the shape has over {LONGEST} characters")
    try:
        return jmespath.compile(expression).parsed
    except (JMESPathError, ValueError, RecursionError) as error:
        raise BadShapeError(f"the shape is no JMESPath expression: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]


class _Bounded(TreeInterpreter):
    """An evaluation that ends soon."""

    def __init__(self) -> None:
        super().__init__()
        self._steps = 0

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise BadShapeError(f"it takes more than {_MOST_STEPS} steps")
        result = super().visit(node, *args, **kwargs)
        if isinstance(result, list | dict) and len(result) > _MOST_ELEMENTS:
            raise BadShapeError(f"a list has over {_MOST_ELEMENTS} elements")
        if isinstance(result, str) and len(result) > LARGEST:
            raise BadShapeError(f"a text has over {LARGEST} characters")
        return result


def _measure(made: Any) -> None:
    """Raise BadShapeError for what would become too much JSON: a value may be in it many times."""
    left, waiting = LARGEST, [(made, 0)]
    while waiting:
        value, depth = waiting.pop()
        left -= 2 + (len(value) if isinstance(value, str) else 0)
        if left < 0 or depth > _DEEPEST:
            raise BadShapeError(f"the body is over {LARGEST} bytes, or nested over {_DEEPEST} deep")
        if isinstance(value, dict):
            left -= sum(len(key) for key in value)
            waiting += [(one, depth + 1) for one in value.values()]
        elif isinstance(value, list):
            waiting += [(one, depth + 1) for one in value]
