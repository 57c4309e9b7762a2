"""Why a task has brought nothing, in words of both languages."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from dispatch.reasons import cause_of
from receiver.failures import Code
from receiver.provider import ProviderError, providers
from receiver.trouble import explained, in_words, no_key, trouble_of
from store.events import Failure, Status, TaskUpdate

MINIMAX, YUANJING = providers()["minimax"], providers()["opencomputing"]
SAID = "GET api.minimaxi.com: 503"
HAN = re.compile("[\u4e00-\u9fff]")


@pytest.mark.parametrize("code", [each for each in Code if each is not Code.UNKNOWN_WORD])
def test_every_code_of_ours_has_words_in_both_languages(code: Code) -> None:
    trouble = trouble_of(MINIMAX, ProviderError(SAID, code=code))

    assert trouble.code == code
    assert trouble.message.endswith(f" ({SAID})")
    assert explained(trouble, MINIMAX, "en") == ""  # its message says it
    assert HAN.search(explained(trouble, MINIMAX, "zh"))


@pytest.mark.parametrize("name", providers())
def test_every_code_of_a_provider_has_words_in_both_languages(name: str) -> None:
    for code, words in providers()[name].codes.items():
        failure = Failure(code, "what it said")
        assert explained(failure, providers()[name], "en") == words.english
        assert HAN.search(explained(failure, providers()[name], "zh"))
        assert "{" not in words.english + words.chinese


@pytest.mark.parametrize("code", ["1002", "1004", "1008", "1026", "1027", "1033", "2013", "2049"])
def test_what_minimax_documents_is_there(code: str) -> None:
    assert code in MINIMAX.codes


def test_a_code_that_nobody_knows_is_told_as_it_came() -> None:
    trouble = trouble_of(MINIMAX, ProviderError("MiniMax: base_resp 9999", code="9999"))

    assert trouble == Failure("9999", "MiniMax: base_resp 9999")
    assert explained(trouble, MINIMAX, "zh") == explained(trouble, None, "zh") == ""


def test_without_a_key_the_setting_is_named_and_what_pushes_can_still_do() -> None:
    assert no_key(MINIMAX).message == (
        "the server has no API key for MiniMax: set MINIMAX_API_KEY where Taskbell runs, and restart"
        " it; until then only a push can bring news"
    )
    assert "push" not in no_key(YUANJING).message
    assert "MINIMAX_API_KEY" in explained(no_key(MINIMAX), MINIMAX, "zh")
    assert "推送" not in explained(no_key(YUANJING), YUANJING, "zh")


@pytest.mark.parametrize("code", [Code.UNKNOWN_WORD, "not_polled", "parked"])
def test_what_is_said_elsewhere_has_chinese_words_too(code: str) -> None:
    failure = Failure(code, "an English sentence")

    assert explained(failure, MINIMAX, "en") == ""
    assert HAN.search(explained(failure, MINIMAX, "zh"))


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("1027", "", MINIMAX.codes["1027"].english),
        ("1027", "output new_sensitive", "output new_sensitive"),
        ("4711", "", ""),
    ],
)
def test_an_error_without_a_message_gets_the_words_of_its_code(
    code: str, message: str, expected: str
) -> None:
    update = TaskUpdate(Status.FAILED, "Fail", error=Failure(code, message))

    assert in_words(MINIMAX, update) == replace(update, error=Failure(code, expected))
    assert in_words(MINIMAX, replace(update, error=None)).error is None


@pytest.mark.parametrize("code", ["1002", "1008", "1026", "1027"])
def test_chats_find_the_cause_of_a_code_in_its_words(code: str) -> None:
    assert cause_of(code, MINIMAX.codes[code].english) is not None
