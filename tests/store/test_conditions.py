"""Filters: what they say about events, what they refuse, and that they always end."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.conditions import BadFilterError, TooMuchToReadError, parse

EVENT = {
    "id": "evt_1",
    "type": "task.succeeded",
    "timestamp": "2026-11-21T10:00:00Z",
    "data": {
        "task": {
            "model": "hailuo-02",
            "progress": 1.0,
            "confirmed": True,
            "error": None,
            "usage": {"cost": 1.5, "tokens": 12},
            "outputs": [{"kind": "video", "url": "https://a"}, {"kind": "image", "url": None}],
            "metadata": {"customer": "42", "tags": ["red", "blue"], "a.b": 1},
        },
        "late": False,
    },
}


@pytest.mark.parametrize(
    ("wish", "wanted"),
    [
        ({"data.task.model": "hailuo-02"}, True),
        ({"data.task.model": "other"}, False),
        ({"data.task.model": {"$eq": "hailuo-02"}, "type": "task.succeeded"}, True),
        ({"data.task.model": "hailuo-02", "type": "task.failed"}, False),
        ({"data.task.model": {"$in": ["a", "hailuo-02"]}}, True),
        ({"data.task.model": {"$nin": ["a", "hailuo-02"]}}, False),
        ({"data.task.model": {"$ne": "a"}}, True),
        ({"data.task.nothing": {"$ne": "a"}}, True),
        ({"data.task.nothing": None}, False),
        ({"data.task.error": None}, True),
        ({"data.task.error": {"$exists": True}}, True),
        ({"data.task.nothing": {"$exists": False}}, True),
        ({"data.task.usage.cost": {"$gt": 1, "$lte": 1.5}}, True),
        ({"data.task.usage.cost": {"$gt": 1.5}}, False),
        ({"data.task.usage.tokens": 12.0}, True),
        ({"timestamp": {"$gte": "2026-11-21", "$lt": "2026-11-22"}}, True),
        ({"data.task.metadata.customer": 42}, False),
        ({"data.task.metadata.customer": {"$gt": 1}}, False),
        ({"data.task.confirmed": 1}, False),
        ({"data.task.confirmed": {"$gte": 0}}, False),
        ({"data.task.confirmed": True}, True),
        ({"data.task.progress": True}, False),
        ({"data.task.outputs.kind": "image"}, True),
        ({"data.task.outputs.kind": {"$ne": "image"}}, False),
        ({"data.task.outputs.url": None}, True),
        ({"data.task.metadata.tags": "blue"}, True),
        ({"data.task.metadata.tags": {"$nin": ["green"]}}, True),
        ({"data.task": {"$exists": True}}, True),
        ({"data.task.model.deeper": {"$exists": True}}, False),
        ({"$or": [{"data.late": True}, {"type": "task.succeeded"}]}, True),
        ({"$and": [{"data.late": True}, {"type": "task.succeeded"}]}, False),
        ({"$not": {"data.late": True}}, True),
        ({"$not": {"$or": [{"data.late": False}, {"id": "x"}]}}, False),
    ],
)
def test_a_filter_wants_what_it_says(wish: dict[str, Any], wanted: bool) -> None:
    assert parse(wish)(EVENT) is wanted


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ("data.task.model", "filter: an object with at least one condition is needed"),
        ({}, "filter: an object with at least one condition is needed"),
        ({"task.model": "a"}, "filter: fields are written like data.task.model"),
        ({"data..model": "a"}, "filter: fields are written like data.task.model"),
        ({"data." + "a" * 200: 1}, "filter: fields are written like data.task.model"),
        ({"$where": "1"}, "filter: there are $and, $or and $not here, and fields"),
        ({"data.a": {"$regex": "(a+)+"}}, "data.a: there are $eq, $ne, $in"),
        ({"data.a": {"$eq": 1, "b": 2}}, "data.a: there are $eq, $ne, $in"),
        ({"data.a": {}}, "data.a: there are $eq, $ne, $in"),
        ({"data.a": [1]}, "data.a: a text, a number, true, false or null is needed"),
        ({"data.a": {"$in": []}}, "data.a: a list of one to 100 values is needed"),
        ({"data.a": {"$in": "abc"}}, "data.a: a list of one to 100 values is needed"),
        ({"data.a": {"$in": [[1]]}}, "data.a: texts, numbers, true, false or null are needed"),
        ({"data.a": {"$in": [0] * 101}}, "data.a: a list of one to 100 values is needed"),
        ({"data.a": {"$gt": None}}, "data.a: a number or a text is needed"),
        ({"data.a": {"$lt": True}}, "data.a: a number or a text is needed"),
        ({"data.a": {"$exists": 1}}, "data.a: true or false is needed"),
        ({"$or": {"data.a": 1}}, "filter.$or: a list with at least one object is needed"),
        ({"$and": []}, "filter.$and: a list with at least one object is needed"),
        ({"$or": [{"b": 1}]}, "filter.$or: fields are written like data.task.model"),
        ({"data.a": "x" * 5_000}, "the filter has 5013 bytes, at most 4096 are read"),
        ({"data.a": {1, 2}}, "the filter is not JSON"),
        ({"$and": [{f"data.a{n}": n} for n in range(65)]}, "more than 64 conditions"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(wish: object, reason: str) -> None:
    with pytest.raises(BadFilterError, match=f"^{re.escape(reason)}"):
        parse(wish)


def test_nesting_has_an_end() -> None:
    wish: dict[str, Any] = {"data.late": True}
    for _ in range(7):
        wish = {"$not": wish}

    with pytest.raises(BadFilterError, match="nested more than 6 deep"):
        parse(wish)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(-5, 5), st.text(max_size=3)
)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=12,
)
paths = st.lists(st.sampled_from("abc"), max_size=3).map(lambda parts: ".".join(["data", *parts]))


@given(documents, paths, scalars)
def test_a_test_and_its_opposite_never_agree(document: Any, path: str, value: Any) -> None:
    event = {"data": document}

    assert parse({path: value})(event) != parse({path: {"$ne": value}})(event)
    assert parse({path: {"$in": [value]}})(event) == parse({path: {"$eq": value}})(event)
    assert parse({path: {"$in": [value]}})(event) != parse({path: {"$nin": [value]}})(event)
    assert parse({path: {"$exists": True}})(event) != parse({path: {"$exists": False}})(event)


@given(documents, paths, st.lists(scalars, min_size=2, max_size=4))
def test_or_is_what_and_is_of_the_opposites(document: Any, path: str, values: list[Any]) -> None:
    event = {"data": document}
    either = parse({"$or": [{path: value} for value in values]})
    neither = parse({"$and": [{path: {"$ne": value}} for value in values]})

    assert either(event) != neither(event)
    assert either(event) == parse({path: {"$in": values}})(event)


@given(documents, paths, st.one_of(st.integers(-5, 5), st.text(max_size=3)))
def test_what_is_ordered_is_below_equal_or_above(document: Any, path: str, value: Any) -> None:
    event = {"data": document}
    at_least = parse({path: {"$gte": value}})(event)
    above_or_same = parse({"$or": [{path: {"$gt": value}}, {path: value}]})(event)

    assert at_least == above_or_same


@given(st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_whatever_is_given_is_read_or_refused(wish: Any) -> None:
    try:
        condition = parse(wish)
    except BadFilterError:
        return
    assert condition(EVENT) in (True, False)


ELEMENT: Any = {"a": {"a": {"a": 1}}}
DEEP: Any = 1
for _ in range(400):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("data.a.a.a", [ELEMENT] * 5_000),
        ("data", [[[1] * 200] * 200] * 5),
        ("data.a", {"a": [[1] * 200] * 200}),
        ("data" + ".a" * 90, [{"a": DEEP}] * 200),
        ("data", DEEP),
    ],
    ids=["objects", "lists of lists", "lists below a field", "a long path", "deep"],
)
@pytest.mark.parametrize("test", ["$gt", "$eq", "$exists"])
def test_no_filter_takes_over_50_ms_for_an_event(path: str, data: Any, test: str) -> None:
    given: Any = {"$gt": 5, "$eq": "x", "$exists": True}[test]
    condition = parse({"$or": [{f"{path}.b{n}": {test: given}} for n in range(18)]})
    took = []

    for _ in range(3):
        began = time.thread_time()
        with contextlib.suppress(TooMuchToReadError):
            assert condition({"data": data}) is False
        took.append(time.thread_time() - began)

    assert min(took) <= 0.05


def test_a_filter_that_would_read_too_much_says_so() -> None:
    condition = parse({"data.a": 1})

    with pytest.raises(TooMuchToReadError, match="its filter reads over 30000 values"):
        condition({"data": {"a": [[0] * 200] * 200}})


def test_a_filter_reads_all_outputs_of_a_large_task() -> None:
    tests = [{"data.task.outputs.url": f"https://a/{n}"} for n in range(64)]
    event = {"data": {"task": {"outputs": [{"url": "https://b"}] * 200}}}

    assert parse({"$or": tests})(event) is False
