"""Text from outside, made fit for both databases."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.text import CUT, TEXT_LIMIT, clean, clean_json

anything = st.text(st.characters(categories=None) | st.sampled_from("\x00\ud800\udfff"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | anything,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(anything, inner, max_size=4),
    max_leaves=20,
)


@given(anything)
def test_clean_text_can_be_stored(text: str) -> None:
    cleaned = clean(text)

    assert "\x00" not in cleaned
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    assert len(cleaned) == len(text)
    assert clean(cleaned) == cleaned


def test_good_text_is_left_as_it_is() -> None:
    text = "长\U0001f600é\n\t\x01\u202e"

    assert clean(text) == text


def test_long_text_is_cut() -> None:
    long = clean("x" * 100_000)

    assert len(long) <= TEXT_LIMIT
    assert long.endswith("x… (83,648 more are cut)")
    assert clean("abcdef", 3) == "ab…"
    assert clean("x" * 300, 200).endswith("x… (132 more are cut)")


def test_a_text_that_was_cut_before_says_so() -> None:
    assert clean(f"abc{CUT}") == "abc… (the rest is cut)"
    assert clean(f"{'x' * 100_000}{CUT}").endswith("x… (the rest is cut)")


@given(json_values)
def test_a_clean_json_value_can_be_stored_and_read_back(value: Any) -> None:
    cleaned = clean_json(value)

    text = json.dumps(cleaned, ensure_ascii=False)
    assert "\x00" not in text
    assert json.loads(text.encode("utf-8")) == cleaned


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(None, None, id="null"),
        pytest.param({"a": [1, 2.5, True, None]}, {"a": [1, 2.5, True, None]}, id="as it was"),
        pytest.param({"a\x00": "b\x00"}, {"a\ufffd": "b\ufffd"}, id="keys and values"),
        pytest.param({1: "x"}, {"1": "x"}, id="a key that is no text"),
        pytest.param(("a", "b"), ["a", "b"], id="a tuple is a list"),
        pytest.param({"k" * 300: 1}, {f"{'k' * 224}… (76 more are cut)": 1}, id="a long key"),
    ],
)
def test_json_is_cleaned_throughout(value: Any, expected: Any) -> None:
    assert clean_json(value) == expected


def test_json_is_bounded_in_depth_and_width() -> None:
    deep: Any = "bottom"
    for _ in range(100):
        deep = [deep]

    assert "bottom" not in json.dumps(clean_json(deep))
    assert clean_json(list(range(10_000)))[199:] == [199, "9,800 more are left out"]
    wide = clean_json({str(n): n for n in range(10_000)})
    assert (len(wide), wide["…"]) == (201, "9,800 more are left out")
