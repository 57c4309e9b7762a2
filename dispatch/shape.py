"""Shapes: a JMESPath expression that makes a subscription's body out of the event's.

An expression is foreign code that runs where deliveries are sent. dispatch/expression.py bounds
its work; what comes of it is bounded here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jmespath.exceptions import JMESPathError

from dispatch.expression import TooMuchWorkError, evaluated, parse
from dispatch.sink import CannotRender
from store.text import json_bytes

LARGEST = 256 * 1024
"""Bytes of the JSON that a shape makes."""


class BadShapeError(CannotRender):
    """An expression that cannot be read, or that made nothing to send; the message says why."""


def check(expression: str, sample: Any) -> None:
    """Raise BadShapeError unless the expression can be read and makes a body out of a sample event."""
    shaped(expression, sample)


def shaped(expression: str, event: Any) -> bytes:
    """The JSON that an expression makes out of an event's. Raises BadShapeError, nothing else.

    >>> shaped("{text: join(' ', ['done:', data.task.id])}", {"data": {"task": {"id": "task_1"}}})
    b'{"text":"done: task_1"}'
    """
    tree = _read(expression)
    try:
        made = evaluated(tree, event)
        body = json_bytes(made)
    except TooMuchWorkError as error:
        raise BadShapeError(f"the shape fails on an event: {error}") from None
    except (
        JMESPathError,
        TypeError,
        ValueError,
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
    ) as error:
        raise BadShapeError(f"the shape fails on an event: {type(error).__name__}") from None
    if made is None:
        raise BadShapeError("the shape makes nothing of an event")
    if len(body) > LARGEST:
        raise BadShapeError(
            f"the shape fails on an event: it makes {len(body)} bytes, at most {LARGEST} are sent"
        )
    return body


@lru_cache(maxsize=200)
def _read(expression: str) -> Any:
    try:
        return parse(expression)
    except TooMuchWorkError as error:
        raise BadShapeError(f"the shape cannot be used: {error}") from None
    except (JMESPathError, ValueError, RecursionError, MemoryError) as error:
        raise BadShapeError(f"the shape is no JMESPath expression: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:200]
