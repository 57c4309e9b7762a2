"""Reading what providers say: what is taken, and what is taken for nothing."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from receiver.provider import ProviderError
from receiver.reading import (
    MAX_OUTPUTS,
    ask_once_more,
    bounded,
    kind_of_url,
    outputs_of,
    read_code,
    read_failure,
    read_id,
    read_object,
    read_text,
    read_urls,
    read_word,
    segment,
    status_of,
)
from store.events import Failure, Kind, Output, Status, Task, TaskUpdate

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
TASK = Task(
    id="task_1",
    provider="minimax",
    provider_task_id="1",
    created_at=NOW,
    updated_at=NOW,
    deadline_at=NOW + timedelta(hours=2),
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("pred_abc-1.2:3", "pred_abc-1.2:3"),
        ("a" * 128, "a" * 128),
        (0, "0"),
        (115334141465231360, "115334141465231360"),  # beyond 2^53
        (10**100, None),
        pytest.param(10**5000, None, id="more digits than str() would write"),
        (-1, None),
        (True, None),
        (1.0, None),
        ("", None),
        ("a" * 129, None),
        ("a/b", None),
        ("a\n", None),
        ("é", None),
        (".", None),
        ("..", None),
        (["1"], None),
        (None, None),
    ],
)
def test_an_id_is_a_short_plain_text_or_an_integer(value: Any, expected: str | None) -> None:
    assert read_id(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1026, "1026"),
        (-1, "-1"),
        ("content policy", "content policy"),
        ("x" * 100, "x" * 63 + "…"),
        (False, None),
        ("", None),
        ("a\nb", None),  # codes are logged
        (1.5, None),
        ({}, None),
    ],
)
def test_a_code_is_a_short_printable_text_or_an_integer(value: Any, expected: str | None) -> None:
    assert read_code(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Success", "Success"),
        ("x" * 64, "x" * 64),
        ("x" * 65, None),
        ("", None),
        ("  ", None),
        (1, None),
        (None, None),
    ],
)
def test_a_status_word_is_a_short_text(value: Any, expected: str | None) -> None:
    assert read_word(value) == expected


@pytest.mark.parametrize("value", [None, [], "{}", 1, True])
def test_what_is_no_object_reads_as_an_empty_one(value: Any) -> None:
    assert read_object(value) == {}


@pytest.mark.parametrize("value", ["", None, 1, ["a"], {}])
def test_what_is_no_text_reads_as_none(value: Any) -> None:
    assert read_text(value) is None


@pytest.mark.parametrize("word", ["done", "DONE", " Done "])
def test_status_words_match_in_any_casing(word: str) -> None:
    assert status_of(word, {"done": Status.SUCCEEDED}) is Status.SUCCEEDED


def test_an_unknown_status_word_is_processing() -> None:
    assert status_of("donе", {"done": Status.SUCCEEDED}) is Status.PROCESSING  # a Cyrillic е


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        ("boom", 7, Failure("7", "boom")),
        ({"code": "E7", "message": "boom"}, None, Failure("E7", "boom")),
        ({"code": "E7", "message": "boom"}, "E8", Failure("E8", "boom")),
        (None, None, Failure("failed", "")),
        ([1], {}, Failure("failed", "")),
    ],
)
def test_a_failure_takes_its_code_from_the_nearest_place(
    error: Any, code: Any, expected: Failure
) -> None:
    assert read_failure(error, code, "FAILED ") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://a/1", ["https://a/1"]),
        (["https://a/1", {"url": "https://a/2"}], ["https://a/1", "https://a/2"]),
        ([["https://a/1"]], ["https://a/1"]),
        ({"url": "https://a/1"}, ["https://a/1"]),
        (["https://a/1", "https://a/1"], ["https://a/1"]),
        (["", None, 1, {}, {"url": None}, {"link": "https://a/1"}], []),
        ([[[[["https://a/1"]]]]], []),  # too deep
        (None, []),
    ],
)
def test_urls_are_read_from_texts_objects_and_lists(value: Any, expected: list[str]) -> None:
    assert read_urls(value) == expected


def test_of_more_than_a_hundred_outputs_the_last_says_how_many_are_missing() -> None:
    urls = read_urls([f"https://a/{number}" for number in range(300)])

    outputs = bounded(outputs_of(urls, Kind.IMAGE))

    assert len(outputs) == MAX_OUTPUTS
    assert outputs[:99] == outputs_of(urls[:99], Kind.IMAGE)
    assert outputs[99].url is None
    assert (outputs[99].note or "").startswith("201 more outputs are not listed")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a/1.MP4", Kind.VIDEO),
        ("https://a/1.png?sign=a.b", Kind.IMAGE),
        ("https://a/1.mp3#t", Kind.AUDIO),
        ("https://a/file?path=/1/cover.jpeg", Kind.IMAGE),
        ("https://a/file?path=1.webm&x=1", Kind.VIDEO),
        ("https://a.png.example/1", None),
        ("https://a/1.mp4/2", None),
        ("https://a/model.glb", None),
        ("http://[", None),  # no URL at all
        ("", None),
    ],
)
def test_a_suffix_tells_the_kind(url: str, expected: Kind | None) -> None:
    assert kind_of_url(url) is expected


def test_an_output_without_a_suffix_is_of_the_tasks_kind() -> None:
    assert outputs_of(["https://a/1", "https://a/2.png"], Kind.VIDEO) == (
        Output(url="https://a/1", kind=Kind.VIDEO),
        Output(url="https://a/2.png", kind=Kind.IMAGE),
    )


@pytest.mark.parametrize(
    ("task_id", "expected"),
    [("pred_1:2", "pred_1%3A2"), ("a/../b", "a%2F..%2Fb"), ("a%2fb", "a%252fb"), ("é", "%C3%A9")],
)
def test_a_segment_stays_one_segment(task_id: str, expected: str) -> None:
    assert segment(task_id) == expected


@pytest.mark.parametrize("task_id", ["", ".", "..", "..."])
def test_a_segment_that_would_climb_is_refused_for_good(task_id: str) -> None:
    with pytest.raises(ProviderError) as caught:
        segment(task_id)

    assert caught.value.permanent


BARE = TaskUpdate(status=Status.SUCCEEDED, provider_status="done")


@pytest.mark.parametrize(
    ("update", "task", "expected"),
    [
        pytest.param(BARE, TASK, Status.PROCESSING, id="the first bare success is held"),
        pytest.param(
            BARE, replace(TASK, provider_status="DONE"), Status.SUCCEEDED, id="the second is not"
        ),
        pytest.param(
            BARE, replace(TASK, status=Status.TIMED_OUT), Status.SUCCEEDED, id="after a time-out"
        ),
        pytest.param(
            replace(BARE, outputs=(Output(url="https://a/1"),)),
            TASK,
            Status.SUCCEEDED,
            id="with an output",
        ),
        pytest.param(replace(BARE, status=Status.FAILED), TASK, Status.FAILED, id="a failure"),
    ],
)
def test_a_success_without_outputs_is_believed_the_second_time(
    update: TaskUpdate, task: Task, expected: Status
) -> None:
    assert ask_once_more(update, task).status is expected
