"""Conditions on events, as a subscription's `filter` states them. Pure: no I/O, no clock.

    {"data.task.model": {"$in": ["a", "b"]}, "data.task.metadata.customer": "42"}

All of it must hold. There is nothing in the language to loop or to backtrack with, but an event may
hold long lists of lists, and each test reads all of one: so the values that are read are counted.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from store.text import json_bytes

LONGEST = 4_096
"""Bytes of JSON."""

MOST_TESTS = 64
MOST_VALUES = 100
DEEPEST = 6
LONGEST_PATH = 200
MOST_READ = 30_000
"""Values of one event that one filter may read, in all its conditions together."""

Condition = Callable[[Mapping[str, Any]], bool]
"""Whether an event, as its body says it, is wanted. May raise TooMuchToReadError."""

_ROOTS = ("id", "type", "timestamp", "data")
_MISSING = object()


class BadFilterError(ValueError):
    """The filter cannot be read; the message says where and why, and repeats no value."""


def parse(wish: object) -> Condition:
    """The condition that a filter states. Raises BadFilterError.

    >>> dear = parse({"data.task.usage.cost": {"$gt": 1}})
    >>> dear({"data": {"task": {"usage": {"cost": 1.5}}}}), dear({"data": {}})
    (True, False)
    """
    try:
        length = len(json_bytes(wish))
    except (TypeError, ValueError, RecursionError):
        raise BadFilterError("the filter is not JSON") from None
    if length > LONGEST:
        raise BadFilterError(f"the filter has {length} bytes, at most {LONGEST} are read")
    holds = _Reader().every(wish, "filter", 0)
    return lambda event: holds(event, _Read())


class TooMuchToReadError(Exception):
    """The event holds more values at the filter's paths than a filter may read."""


class _Read:
    """How many values of an event may still be read."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MOST_READ

    def count(self, values: int) -> None:
        self.left -= values
        if self.left < 0:
            raise TooMuchToReadError(f"its filter reads over {MOST_READ} values of the event")


_Test = Callable[[Mapping[str, Any], _Read], bool]


class _Reader:
    """Reads one filter, counting what it finds."""

    def __init__(self) -> None:
        self._tests = 0

    def every(self, wish: object, where: str, depth: int) -> _Test:
        if depth > DEEPEST:
            raise BadFilterError(f"{where}: nested more than {DEEPEST} deep")
        if not isinstance(wish, dict) or not wish:
            raise BadFilterError(f"{where}: an object with at least one condition is needed")
        return _all([self._one(key, value, where, depth) for key, value in wish.items()])

    def _one(self, key: str, value: object, where: str, depth: int) -> _Test:
        if key == "$not":
            return _negated(self.every(value, f"{where}.$not", depth + 1))
        if key in ("$and", "$or"):
            joined = self._several(value, f"{where}.{key}", depth + 1)
            return _all(joined) if key == "$and" else _any(joined)
        path = _path(key, where)
        return _all([self._test(path, name, given) for name, given in _tests(key, value)])

    def _several(self, wishes: object, where: str, depth: int) -> list[_Test]:
        if not isinstance(wishes, list) or not wishes:
            raise BadFilterError(f"{where}: a list with at least one object is needed")
        return [self.every(wish, where, depth) for wish in wishes]

    def _test(self, path: tuple[str, ...], name: str, given: Any) -> _Test:
        self._tests += 1
        if self._tests > MOST_TESTS:
            raise BadFilterError(f"more than {MOST_TESTS} conditions")
        return _TESTS[name](path, ".".join(path), given)


def _path(key: str, where: str) -> tuple[str, ...]:
    if key.startswith("$"):
        raise BadFilterError(f"{where}: there are $and, $or and $not here, and fields")
    path = tuple(key.split("."))
    if path[0] not in _ROOTS or not all(path) or len(key) > LONGEST_PATH:
        raise BadFilterError(f"{where}: fields are written like data.task.model")
    return path


def _tests(key: str, value: object) -> list[tuple[str, Any]]:
    """A field's tests: what stands there is an object of $ words, or a value to equal."""
    if not isinstance(value, dict):
        return [("$eq", value)]
    if not value or not value.keys() <= _TESTS.keys():
        raise BadFilterError(f"{key}: there are {', '.join(_TESTS)}")
    return list(value.items())


def _all(conditions: Sequence[_Test]) -> _Test:
    if len(conditions) == 1:
        return conditions[0]
    return lambda event, read: all(condition(event, read) for condition in conditions)


def _any(conditions: Sequence[_Test]) -> _Test:
    return lambda event, read: any(condition(event, read) for condition in conditions)


def _negated(condition: _Test) -> _Test:
    return lambda event, read: not condition(event, read)


def _equal(negate: bool, path: tuple[str, ...], key: str, given: Any) -> _Test:
    if isinstance(given, dict | list):
        raise BadFilterError(f"{key}: a text, a number, true, false or null is needed")
    return _among(negate, path, key, [given])


def _among(negate: bool, path: tuple[str, ...], key: str, given: Any) -> _Test:
    if not isinstance(given, list) or not 0 < len(given) <= MOST_VALUES:
        raise BadFilterError(f"{key}: a list of one to {MOST_VALUES} values is needed")
    if any(isinstance(one, dict | list) for one in given):
        raise BadFilterError(f"{key}: texts, numbers, true, false or null are needed")
    wanted = {_kind(one) for one in given}

    def found(event: Mapping[str, Any], read: _Read) -> bool:
        return negate != any(_kind(value) in wanted for value in _values(event, path, read))

    return found


def _ordered(
    compare: Callable[[Any, Any], bool], path: tuple[str, ...], key: str, given: Any
) -> _Test:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise BadFilterError(f"{key}: a number or a text is needed")
    kind = str if isinstance(given, str) else (int, float)

    def holds(event: Mapping[str, Any], read: _Read) -> bool:
        return any(
            isinstance(value, kind) and not isinstance(value, bool) and compare(value, given)
            for value in _values(event, path, read)
        )

    return holds


def _exists(path: tuple[str, ...], key: str, given: Any) -> _Test:
    if not isinstance(given, bool):
        raise BadFilterError(f"{key}: true or false is needed")
    return lambda event, read: given == (next(_values(event, path, read), _MISSING) is not _MISSING)


_TESTS: dict[str, Callable[[tuple[str, ...], str, Any], _Test]] = {
    "$eq": partial(_equal, False),
    "$ne": partial(_equal, True),
    "$in": partial(_among, False),
    "$nin": partial(_among, True),
    "$gt": partial(_ordered, operator.gt),
    "$gte": partial(_ordered, operator.ge),
    "$lt": partial(_ordered, operator.lt),
    "$lte": partial(_ordered, operator.le),
    "$exists": _exists,
}


def _kind(value: Any) -> Any:
    """What equals what: 1 is 1.0, but not true. None for what can equal nothing here."""
    match value:
        case bool():
            return ("bool", value)
        case int() | float():
            return ("number", value)
        case str() | None:
            return value if value is not None else ("null",)
        case _:
            return None


def _values(event: Any, path: Sequence[str], read: _Read) -> Iterator[Any]:
    """What stands at a path. Of a list, each element: one that fits will do."""
    end = len(path)
    waiting = [(event, 0)]
    while waiting:
        value, at = waiting.pop()
        if isinstance(value, list):
            read.count(len(value))
            waiting += [(element, at) for element in reversed(value)]
            if at == end:
                yield value
        elif at == end:
            yield value
        elif isinstance(value, Mapping) and path[at] in value:
            read.count(1)
            waiting.append((value[path[at]], at + 1))
