"""The sieve: JSON of any size becomes small JSON with the same members."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from receiver.sieve import KEPT_BYTES, Sieve, completed
from store.text import CUT


def sifted(raw: bytes, pieces: int, limit: int = 1_000_000) -> bytes:
    sieve = Sieve(limit)
    for start in range(0, len(raw), pieces):
        sieve.feed(raw[start : start + pieces])
    return sieve.json()


@pytest.mark.parametrize("pieces", [1, 7, 65_536])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"a": ["x", 1, None, 1.5, True], "b": {}}, id="every type"),
        pytest.param({'quote " and \\': '\\\\" / \n é 元境 \ud800'}, id="escapes"),
        pytest.param(["\\" * 99, '"' * 99, "é" * 99], id="runs of escapes"),
        pytest.param("x" * (KEPT_BYTES - 1), id="just short enough"),
    ],
)
def test_what_is_short_enough_stays_as_it_is(value: Any, pieces: int) -> None:
    raw = json.dumps(value).encode()

    assert sifted(raw, pieces) == raw


@pytest.mark.parametrize("pieces", [61, 65_536])
@pytest.mark.parametrize(
    "part",
    [
        pytest.param("A", id="base64"),
        pytest.param("/", id="escaped slashes"),
        pytest.param('"', id="escaped quotes"),
        pytest.param("\\", id="backslashes"),
        pytest.param("元", id="three bytes a character"),
        pytest.param("😀", id="four bytes a character"),
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_long_string_is_cut_and_marked_and_what_follows_is_kept(
    part: str, ascii_only: bool, pieces: int
) -> None:
    long = part * 9_000
    body = {"outputs": [long], "status": "completed"}
    raw = json.dumps(body, ensure_ascii=ascii_only).replace("/", "\\/").encode()

    found = json.loads(sifted(raw, pieces))

    (cut,) = found["outputs"]
    assert found["status"] == "completed"
    assert cut.endswith(CUT)
    kept = cut.removesuffix(CUT).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert long.startswith(kept.rstrip("\ufffd"))
    assert len(raw) > KEPT_BYTES >= len(cut) - 1


def test_a_random_value_cut_off_anywhere_is_sound_json() -> None:
    dice = random.Random(0)
    for _ in range(100):
        raw = json.dumps({"a": _value(dice), "b": [_value(dice)]}).encode()
        broken = raw[: dice.randint(1, len(raw))]

        assert isinstance(json.loads(completed(broken)), dict)


def _value(dice: random.Random, depth: int = 0) -> Any:
    if depth > 3 or dice.random() < 0.4:
        return dice.choice([1, None, -1.5, 'x\\"y', "\\", "\u00e9\ud83d\ude00", ""])
    values = [_value(dice, depth + 1) for _ in range(dice.randint(0, 3))]
    if dice.random() < 0.5:
        return values
    return {str(number): value for number, value in enumerate(values)}


def test_more_than_the_limit_is_completed_and_no_more_is_read() -> None:
    raw = json.dumps({"status": "completed", "outputs": ["https://a/" + "x" * 90] * 900}).encode()
    sieve = Sieve(10_000)
    for start in range(0, len(raw), 1_000):
        sieve.feed(raw[start : start + 1_000])

    found = json.loads(sieve.json())

    assert sieve.full
    assert found["status"] == "completed"
    assert 90 < len(found["outputs"]) < 110


@pytest.mark.parametrize(
    ("begun", "whole"),
    [
        (b'{"a": 1, "b": tru', {"a": 1}),
        (b'{"a": 1, "b"', {"a": 1}),
        (b'{"a": 1, "b": ', {"a": 1}),
        (b'{"a": {"b": [1, 2', {"a": {"b": [1]}}),
        (b'{"a": [{"b": 1}, {"c": "xy', {"a": [{"b": 1}, {"c": f"xy{CUT}"}]}),
        (b'{"a": "x\\u00', {"a": f"x{CUT}"}),
        (b'{"a": "x\\', {"a": f"x{CUT}"}),
        (b'{"a": 1}', {"a": 1}),
        (b"{", {}),
    ],
)
def test_json_that_breaks_off_is_completed(begun: bytes, whole: Any) -> None:
    assert json.loads(completed(begun)) == whole


@pytest.mark.parametrize("raw", [b"", b"<html>", b"]]]", b'}{"a"', b'"abc'])
def test_what_is_no_object_is_left_for_the_parser_to_refuse(raw: bytes) -> None:
    completed(raw)
