"""Status words of the trade, and bodies that say two things at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from receiver.common_words import COMMON, common_status
from receiver.failures import Code
from receiver.provider import ProviderError, UnreadableBody, providers
from receiver.words import unknown_word
from store.events import Status, TaskUpdate
from tests.providers.conformance import NOW, StrangeAsker, task_of

ALL = sorted(providers())
ENDINGS = {
    Status.SUCCEEDED: ["SUCCESS", "succeeded", "COMPLETED", "Done", "finished", "已完成", "成功"],
    Status.FAILED: [
        *("FAILURE", "FAILED", "fail", "Errored", "TIMEOUT", "TIMED_OUT", "timed out", "Time-Out"),
        *("EXPIRED", "REJECTED", "ABORTED", "MODERATED", "Content Moderated", "失败", "超时"),
        *("TASK_STATUS_FAILED", "审核不通过"),
    ],
    Status.CANCELED: ["CANCELED", "CANCELLED", "cancelled", "Canceled", "已取消", "TERMINATED"],
}
CASES = [(word, status) for status, words in ENDINGS.items() for word in words]


def asked(name: str, body: Any, **known: Any) -> TaskUpdate:
    """What a provider's answer with this body comes to, when it is given twice."""
    provider = providers()[name]
    task = task_of(provider, {"provider_task_id": "t1", "family": "v1", **known}, NOW)
    return asyncio.run(provider.query(StrangeAsker(provider, [(200, body)], NOW), task, NOW))


def answer(name: str, word: str) -> Any:
    if name == "minimax":
        return {"task_id": "t1", "status": word, "base_resp": {"status_code": 0}}
    if name == "atlascloud":
        return {"data": {"id": "t1", "status": word, "outputs": ["https://a.example/1.png"]}}
    return {"status": word, "taskid": "s1", "video": "https://a.example/1.mp4"}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("word", "status"), CASES)
def test_a_word_that_ends_a_task_elsewhere_ends_it_here(
    name: str, word: str, status: Status
) -> None:
    update = asked(name, answer(name, word), provider_status=word)

    assert (update.status, update.provider_status) == (status, word)
    assert unknown_word(providers()[name], word) is None


@pytest.mark.parametrize("word", ["CANCELED", "EXPIRED", "FAILURE", "TIMEOUT"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_元境_passes_on_the_words_of_its_suppliers(word: str, wrapped: bool) -> None:
    body = {"status": word}

    update = asked("opencomputing", {"status": "ok", "data": body} if wrapped else body)

    assert update.status.final


@pytest.mark.parametrize("word", ["blocked", "Rejected", "terminated", "deleted", "ABORTED"])
def test_元境_is_not_heard_in_what_a_gateway_says_of_a_request(word: str) -> None:
    with pytest.raises(ProviderError) as caught:
        asked("opencomputing", {"status": word, "message": "by the firewall"})

    assert not caught.value.permanent
    assert asked("opencomputing", {"status": word, "taskid": "s1"}).status.final


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("word", ["brewing", "半成品", "ready-ish", "succeeded?"])
def test_a_word_that_nobody_knows_is_shown_and_is_trouble(name: str, word: str) -> None:
    update = asked(name, answer(name, word))
    trouble = unknown_word(providers()[name], update.provider_status)

    assert (update.status, update.provider_status) == (Status.PROCESSING, word)
    assert trouble is not None
    assert trouble.code == Code.UNKNOWN_WORD
    assert word in trouble.message


def test_the_common_words_are_written_as_they_are_looked_up() -> None:
    assert {common_status(word) for word in COMMON} == set(COMMON.values())
    assert all(common_status(word.upper()) is status for word, status in COMMON.items())


@pytest.mark.parametrize("name", ALL)
def test_common_words_and_a_providers_own_do_not_disagree_about_endings(name: str) -> None:
    for word in providers()[name].words:
        update = asked(name, answer(name, word), provider_status=word)
        common = common_status(word)
        assert common is None or common.final == update.status.final, word


V2 = {"id": "t1", "status": "succeeded", "content": {"url": "https://a.example/1.mp4"}}


@pytest.mark.parametrize(
    "push",
    [
        pytest.param({"task": V2, "task_id": "B", "status": "Processing"}, id="as it was seen"),
        pytest.param({"task": V2, "task_id": "B"}, id="two ids"),
        pytest.param({"task": V2, "task_id": "t1", "status": "Fail"}, id="two endings"),
        pytest.param({"task": V2, "task_id": "t1", "status": "Preparing"}, id="ended and not"),
        pytest.param({"task": [V2], "task_id": "B", "status": "Success"}, id="a list of tasks"),
        pytest.param({"task": "t1", "task_id": "B", "status": "Success"}, id="a task that is text"),
        pytest.param(
            {
                "task_id": "B",
                "status": "Success",
                "data": {"task_id": "C", "video_url": "https://x"},
            },
            id="an id inside data",
        ),
        pytest.param(
            {"task_id": "B", "status": "Success", "data": {"status": "Fail"}}, id="a status inside"
        ),
        pytest.param({"task": V2, "data": {"task_id": "C"}}, id="two envelopes"),
        pytest.param({"task": V2, "items": [{"id": "C"}]}, id="a task and a list"),
        pytest.param({"data": {"task": {**V2, "id": "C"}}, "task": V2}, id="deeper"),
        pytest.param({"task_id": "B", "taskId": "C", "status": "Success"}, id="two spellings"),
    ],
)
def test_a_push_of_minimax_that_contradicts_itself_is_refused(push: Any) -> None:
    with pytest.raises(UnreadableBody):
        providers()["minimax"].parse(push)


@pytest.mark.parametrize(
    "push",
    [
        pytest.param({"status": "ERROR", "payload": {"status": "completed"}}, id="ERROR beside it"),
        pytest.param({"status": "failed", "payload": {"status": "succeeded"}}, id="two endings"),
        pytest.param({"payload": {"status": "completed", "id": "C"}}, id="two ids"),
        pytest.param({"payload": {"status": "completed"}, "task_id": "C"}, id="two names"),
        pytest.param(
            {"payload": {"status": "processing"}, "status": "timeout"}, id="ended and not"
        ),
        pytest.param(
            {"payload": {"status": "completed"}, "data": {"id": "t1", "status": "failed"}},
            id="two envelopes",
        ),
    ],
)
def test_a_push_of_atlas_cloud_that_contradicts_itself_is_refused(push: Any) -> None:
    with pytest.raises(UnreadableBody):
        providers()["atlascloud"].parse({"session_id": "t1", **push})


@pytest.mark.parametrize(
    ("name", "body"),
    [
        (
            "minimax",
            {"task_id": "t1", "status": "Success", "task": {"id": "t1", "status": "failed"}},
        ),
        ("minimax", {"task_id": "t1", "status": "Success", "data": {"task_id": "t2"}}),
        ("atlascloud", {"id": "t2", "data": {"id": "t1", "status": "completed"}, "task_id": "t2"}),
        ("atlascloud", {"task_id": "t1", "status": "failed", "data": {"status": "completed"}}),
        ("opencomputing", {"status": "SUCCEEDED", "data": {"status": "FAILED"}}),
        ("opencomputing", {"status": "RUNNING", "data": {"status": "SUCCEEDED", "output": []}}),
    ],
)
def test_an_answer_that_contradicts_itself_moves_nothing(name: str, body: Any) -> None:
    with pytest.raises(ProviderError) as caught:
        asked(name, body)

    assert (caught.value.code, caught.value.permanent) == (Code.UNREADABLE, False)


@pytest.mark.parametrize(
    ("name", "push"),
    [
        ("minimax", {"status": "success", "task": V2}),  # the request's own word
        ("minimax", {"task": V2, "task_id": "t1", "status": "success"}),  # the same twice
        ("minimax", {"task_id": "B", "status": "Processing", "extra": {"id": "C"}}),
        ("atlascloud", {"session_id": "t1", "status": "OK", "payload": {"status": "timeout"}}),
        ("atlascloud", {"session_id": "t1", "status": "ERROR", "payload": {"status": "cancelled"}}),
    ],
)
def test_a_push_that_says_one_thing_in_two_places_is_read(name: str, push: Any) -> None:
    assert providers()[name].parse(push).provider_task_id in ("t1", "B")
