"""Evaluate a JMESPath expression within a budget of work.

JMESPath has no loops, but a few hundred characters can double a list with each part, join a text
two thousand times, or compare two values that hold each other's parts many times over. The library
bounds none of this, so the budget is spent *before* anything is copied, compared or repeated:
one account of bytes for the whole evaluation, in which every step and every element that is looked
at counts as some bytes as well.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jmespath import functions
from jmespath.exceptions import UnknownFunctionError
from jmespath.parser import Parser
from jmespath.visitor import Options, TreeInterpreter

BUDGET = 2 * 1024 * 1024
"""Bytes that one evaluation may copy or compare."""

STEP = 200
"""Bytes that one step of an evaluation counts as; a call counts as two steps more."""

LONGEST = 2_000
"""Characters of an expression."""

_MOST_NODES = 1_000
_DEEPEST_TREE = 100
_ELEMENT = 40
_MOST_ELEMENTS = 2_000
_LONGEST_TEXT = 256 * 1024
_DEEPEST_VALUE = 32
_MOST_BITS = 1_100  # of a number: writing one in decimal takes time with the square of its length
_LONGEST_NUMBER = 330  # the same in digits
_SORTS = 12  # comparisons of each element when 2,000 are sorted
_ESCAPED = 6  # characters that JSON may take for a byte of text: \u0000
# characters, of CPython's search of a text in another (fastsearch.h)
_SHORT = 2_500
_SHORT_SEARCHED = 100
_SHORT_STARTS = 30_000
_LAST_STARTS = 2_001


class TooMuchWorkError(ValueError):
    """The evaluation would go over a bound; the message names the bound."""


class Budget:
    """What is left of the work that one evaluation may do, in bytes."""

    def __init__(self) -> None:
        self._left = BUDGET

    def spend(self, amount: int) -> None:
        """Raise TooMuchWorkError when there is not that much left."""
        self._left -= amount
        if self._left < 0:
            raise TooMuchWorkError(
                f"it takes more work than a shape may: {BUDGET // 2**20} MiB copied or compared,"
                f" each step counting as {STEP} bytes; use fewer or shorter values"
            )

    def weigh(self, value: Any, per_byte: int = 1) -> int:
        """Spend what reading a whole value takes, and return the bytes of its texts.

        A value that an expression made may hold the same list many times, so it is walked no
        further than the budget goes.
        """
        texts, level = self._inside(value, per_byte)
        for _ in range(_DEEPEST_VALUE):
            if not level:
                return texts
            below: list[Any] = []
            for each in level:
                read, inner = self._inside(each, per_byte)
                texts += read
                below += inner
            level = below
        if level:
            raise TooMuchWorkError(f"a value is nested over {_DEEPEST_VALUE} deep")
        return texts

    def _inside(self, value: Any, per_byte: int) -> tuple[int, list[Any]]:
        """Spend for one value; the bytes of its texts, and the values in it."""
        if isinstance(value, str):
            read = width(value)
            self.spend(_ELEMENT + read * per_byte)
            return read, []
        if isinstance(value, list):
            self.spend(_ELEMENT * (len(value) + 1))
            return 0, value
        if isinstance(value, dict):
            self.spend(_ELEMENT * (len(value) + 1))
            read = sum(width(key) for key in value)
            self.spend(read * per_byte)
            return read, list(value.values())
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise TooMuchWorkError(f"a number has over {_LONGEST_NUMBER} digits")
        if isinstance(value, float) and not math.isfinite(value):
            raise TooMuchWorkError("a number is not finite")
        if value is not None and not isinstance(value, int | float):
            raise TooMuchWorkError("it puts an expression (&…) where a value is needed")
        self.spend(_ELEMENT if value is None else 2 * _ELEMENT)
        return 0, []


def width(text: str) -> int:
    """Return the most bytes that a text takes, without reading it."""
    return len(text) if text.isascii() else 4 * len(text)


def parse(expression: str) -> Any:
    """Return an expression's tree. Raises JMESPathError, ValueError or RecursionError."""
    if len(expression) > LONGEST:
        raise TooMuchWorkError(f"it has over {LONGEST} characters")
    tree: Any = Parser().parse(expression).parsed
    Parser.purge()  # the library would keep the last 512 trees, of any size
    _measure(tree)
    return tree


def _measure(tree: Mapping[str, Any]) -> None:
    level, nodes = [tree], 0
    for _ in range(_DEEPEST_TREE):
        nodes += len(level)
        if nodes > _MOST_NODES:
            raise TooMuchWorkError(f"it has over {_MOST_NODES} parts")
        level = [
            child for node in level for child in node["children"] if isinstance(child, Mapping)
        ]
        if not level:
            return
    raise TooMuchWorkError(f"its parts are nested over {_DEEPEST_TREE} deep")


def evaluated(tree: Mapping[str, Any], value: Any) -> Any:
    """Return what the expression makes of a value, weighed: writing it as JSON is bounded too.

    Raises TooMuchWorkError, and what the library raises for an expression that does not fit:
    JMESPathError, TypeError, ValueError, OverflowError, RecursionError.
    """
    budget = Budget()
    made = _Interpreter(budget).visit(tree, value)
    budget.weigh(made)
    return made


class _Interpreter(TreeInterpreter):
    """The library's, spending before it works."""

    def __init__(self, budget: Budget) -> None:
        super().__init__(Options(custom_functions=_Functions(budget)))
        self._budget = budget

    def visit(self, node: Any, value: Any) -> Any:
        self._budget.spend(STEP)
        result = getattr(self, f"visit_{node['type']}")(node, value)
        kind = type(result)
        if kind is str:
            if len(result) > _LONGEST_TEXT:
                raise TooMuchWorkError(f"a text has over {_LONGEST_TEXT} characters")
        elif (kind is list or kind is dict) and len(result) > _MOST_ELEMENTS:
            raise TooMuchWorkError(f"a list has over {_MOST_ELEMENTS} elements")
        return result

    def visit_comparator(self, node: Any, value: Any) -> Any:
        left, right = (self.visit(child, value) for child in node["children"])
        if type(left) is type(right):  # others are not read to be told apart
            self._budget.weigh(left)
            self._budget.weigh(right)
        name = node["value"]
        if name not in ("eq", "ne") and not (_ordered(left) and _ordered(right)):
            return None
        return self.COMPARATOR_FUNC[name](left, right)

    def visit_flatten(self, node: Any, value: Any) -> Any:
        base = self.visit(node["children"][0], value)
        if not isinstance(base, list):
            return None
        self._budget.spend(_ELEMENT * len(base))
        self._budget.spend(_ELEMENT * sum(len(e) for e in base if isinstance(e, list)))
        return [inner for e in base for inner in (e if isinstance(e, list) else (e,))]

    def visit_slice(self, node: Any, value: Any) -> Any:
        if isinstance(value, list):
            self._budget.spend(_ELEMENT * len(value))
        return super().visit_slice(node, value)


def _ordered(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


class _Functions(functions.Functions):
    """The library's functions, each paid for before it runs."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def call_function(self, function_name: str, resolved_args: Iterable[Any]) -> Any:
        args = list(resolved_args)
        if function_name not in PRICES:
            raise UnknownFunctionError(f"Unknown function: {function_name}()")
        self._budget.spend(2 * STEP)
        for each in args:
            if isinstance(each, list | dict):
                self._budget.spend(_ELEMENT * len(each))
        PRICES[function_name](self._budget, *args)
        return super().call_function(function_name, args)

    @functions.signature({"types": []})
    def _func_to_string(self, arg: Any) -> str:
        if isinstance(arg, str):
            return arg
        texts = self._budget.weigh(arg, _ESCAPED)
        written = json.dumps(arg, separators=(",", ":"))
        self._budget.spend(len(written) - texts * _ESCAPED)  # what it was, not what it might be
        return written

    @functions.signature({"types": []})
    def _func_to_number(self, arg: Any) -> Any:
        if isinstance(arg, bool) or not isinstance(arg, str | int | float):
            return None
        if isinstance(arg, str) and len(arg) > _LONGEST_NUMBER:
            return None
        for number in (int, float):
            with contextlib.suppress(ValueError):
                read = arg if isinstance(arg, int | float) else number(arg)
                return read if isinstance(read, int) or math.isfinite(read) else None
        return None


def _elements(_budget: Budget, *_args: Any) -> None:
    """The price of what looks at each element once: paid already."""


def _whole(budget: Budget, *args: Any) -> None:
    for each in args:
        budget.weigh(each)


def _texts(budget: Budget, *args: Any) -> None:
    for each in args:
        if isinstance(each, str):
            budget.spend(width(each))


def _sort(budget: Budget, values: Any) -> None:
    """An eighth for each comparison: texts are compared much faster than they are copied."""
    budget.spend(budget.weigh(values) * _SORTS // 8)


def _sort_by(budget: Budget, array: Any, by: Any) -> None:
    if isinstance(array, list) and hasattr(by, "expression"):
        _sort(budget, [by.visit(by.expression, each) for each in array])


def _join(budget: Budget, separator: Any, texts: Any) -> None:
    if not isinstance(separator, str) or not isinstance(texts, list):
        return  # the library refuses them
    if not all(isinstance(each, str) for each in texts):
        return
    characters = sum(map(len, texts)) + len(separator) * len(texts)
    plain = separator.isascii() and all(map(str.isascii, texts))
    budget.spend(characters if plain else 4 * characters)


def _contains(budget: Budget, subject: Any, search: Any) -> None:
    if not isinstance(subject, str) or not isinstance(search, str):
        budget.weigh(subject)
    else:
        spent = len(subject) * 4 + len(search) + _most_compared(len(subject), len(search)) // 16
        budget.spend(spent)


def _most_compared(length: int, searched: int) -> int:
    """Return how many pairs of characters CPython may compare, beyond a few for each character.

    It tries every start with every character of short texts, and the last 2,000 starts of any
    text; elsewhere its algorithm is linear.
    """
    starts = max(0, length - searched + 1)
    quadratic = _SHORT_STARTS if searched < _SHORT_SEARCHED else _LAST_STARTS
    return min(starts, quadratic if length >= _SHORT else starts) * searched


PRICES: Mapping[str, Callable[..., None]] = {
    **dict.fromkeys(("abs", "ceil", "floor", "length", "not_null", "to_array", "type"), _elements),
    **dict.fromkeys(("keys", "map", "merge", "values"), _elements),
    **dict.fromkeys(("max_by", "min_by", "sort_by"), _sort_by),
    **dict.fromkeys(("avg", "max", "min", "sum"), _whole),
    **dict.fromkeys(("ends_with", "reverse", "starts_with", "to_number"), _texts),
    "contains": _contains,
    "join": _join,
    "sort": _sort,
    "to_string": _elements,  # pays for itself
}
"""What each function costs besides the elements of its arguments; one without a price is unknown."""
