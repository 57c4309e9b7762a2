"""What a message says, in each language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest

from dispatch.message import Fact, Tone, message_of
from dispatch.plain import LONGEST_LINK, cut, fitted_lines, link, octets, one_line, units
from dispatch.sink import Event
from dispatch.texts import CATALOGUES
from receiver.provider import providers
from tests.dispatch.chat_events import (
    DEAD,
    DISABLED,
    DOWN_PROVIDER,
    PICTURE,
    RECOVERED,
    VIDEO,
    about,
    event,
    failure,
)


def test_a_finished_video_reads_from_top_to_bottom() -> None:
    message = message_of(about(), "en")

    assert message.tone is Tone.GOOD
    assert message.title == "✅ Video ready"
    assert message.lines == (
        "MiniMax finished it in 1 min 20 s.",
        "Open video: link valid until 2026-11-21 11:55 UTC",
    )
    assert message.facts == (
        Fact("Provider", "MiniMax"),
        Fact("Model", "MiniMax-Hailuo-2.3"),
        Fact("Took", "1 min 20 s"),
        Fact("cost_usd", "0.28"),
        Fact("seconds", "6"),
        Fact("customer", "42"),
    )
    assert [(each.text, each.url) for each in message.links] == [("Open video", VIDEO["url"])]
    assert message.footer == "Taskbell · task_01kb3x0e5x · at the provider: 176843862716480"


def test_the_same_in_chinese() -> None:
    message = message_of(about(), "zh")

    assert message.title == "✅ 视频已生成"
    assert message.lines == (
        "MiniMax 已完成，用时 1 分 20 秒。",
        "打开视频：链接有效期至 2026-11-21 11:55（UTC）",
    )
    assert message.listed()[0] == "服务商：MiniMax"


@pytest.mark.parametrize(
    ("what", "title", "line"),
    [
        (
            about("task.queued", finished_at=None),
            "Video queued",
            "It waits for its turn at MiniMax.",
        ),
        (about("task.processing", finished_at=None), "in the making", "MiniMax is working on it."),
        (failure("1", "x"), "Video failed", "MiniMax gave up after 1 min 20 s."),
        (about("task.canceled"), "Video canceled", "It was canceled and will not be made."),
        (about("task.timed_out", finished_at=None), "Video overdue", "not finish it in time"),
        (about(late=True), "Video ready", "It came after its deadline."),
        (about(kind=None), "Generation ready", "MiniMax finished it"),
        (about(provider="nextone"), "Video ready", "nextone finished it"),
        (about(metadata={"taskbell_test": True}), "🧪 Test: ✅ Video ready", "a test message"),
        (about(outputs=[]), "Video ready", "The provider gave no link."),
        (DISABLED, "Subscription switched off", "sub_1 gets no more events: answered 404"),
        (DEAD, "Delivery given up", "task.failed (evt_1) did not reach subscription sub_1 in 10"),
        (event("task.succeeded", None), "Generation ready", "Event evt_01kb"),
    ],
)
def test_how_it_ended_is_said_in_plain_words(what: Any, title: str, line: str) -> None:
    message = message_of(what, "en")

    assert title in message.title
    assert line in "\n".join(message.lines)


@pytest.mark.parametrize(
    ("code", "words", "line"),
    [
        ("1026", "video description contains sensitive content", "content check refused it"),
        ("1008", "insufficient balance", "too little balance"),
        ("429", "Rate limit exceeded", "too busy"),
        ("2013", "invalid params, first_frame_image", "did not accept the input"),
        ("untracked", "tracking was stopped through the API", "told to stop watching"),
        ("9", "参数错误", "did not accept the input"),
    ],
)
def test_a_failure_is_explained_and_quoted(code: str, words: str, line: str) -> None:
    lines = message_of(failure(code, words), "en").lines

    assert line in lines[1]
    assert lines[2] == f"The provider says: {words} ({code})"


def test_a_failure_that_says_nothing_known_is_quoted_alone() -> None:
    assert message_of(failure("E7", "flux"), "en").lines[1:] == ("The provider says: flux (E7)",)


def test_several_outputs_are_numbered_and_the_rest_is_counted() -> None:
    message = message_of(about(outputs=[PICTURE] * 5, kind="image"), "en")

    assert [each.text for each in message.links] == ["Open image 1", "Open image 2", "Open image 3"]
    assert message.lines[-1] == "2 more results: look at task task_01kb3x0e5x."
    assert message.preview == PICTURE["url"]


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "https://" + "a" * LONGEST_LINK,
        "https://user:pass@cdn.example/x",
        "https://[::1",
        "https:///x",
        "元境",
        7,
    ],
)
def test_a_link_that_cannot_be_shown_is_said_to_be_there(url: Any) -> None:
    message = message_of(about(outputs=[{"url": url, "kind": "video"}]), "en")

    assert message.links == ()
    assert message.lines[-1] == "A link cannot be shown here: look at task task_01kb3x0e5x."


def test_many_facts_are_cut_with_their_number() -> None:
    metadata = {f"key{number}": number for number in range(30)}

    facts = message_of(about(metadata=metadata), "en").facts

    assert len(facts) == 10
    assert facts[-1] == Fact("…", "26 more")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"data":[]}', b'{"data":{"task":[1]}}'])
def test_a_body_nobody_understands_makes_a_message_all_the_same(body: bytes) -> None:
    what = about()
    broken = type(what)(what.id, what.type, what.source, what.subject, what.time, body)

    assert message_of(broken, "en").lines == ("Event evt_01kb",)


def test_providers_have_their_own_names() -> None:
    for name, provider in providers().items():
        assert message_of(about(provider=name), "en").facts[0].value == provider.title


# The catalogues


def test_every_language_says_the_same_things() -> None:
    [first, *others] = CATALOGUES.values()

    for other in others:
        for each in fields(first):
            assert _slots(getattr(other, each.name)) == _slots(getattr(first, each.name)), each.name


def _slots(value: Any) -> Any:
    """Keys, and the names in braces."""
    if isinstance(value, Mapping):
        return {key: _slots(text) for key, text in value.items()}
    if isinstance(value, tuple):
        return [_slots(text) for text in value]
    return set(re.findall(r"{(\w+)}", value))


# Cutting


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("short", 5, "short"),
        ("longer", 5, "long…"),
        ("ab👩🏽‍🚀cd", 6, "ab…"),  # never half an astronaut
        ("ab😀😀", 5, "ab😀…"),
        ("e\u0301e\u0301e\u0301", 4, "e\u0301…"),
        ("👍🏽👍🏽", 7, "👍🏽…"),
        ("trailing   blanks", 10, "trailing…"),
    ],
)
def test_nothing_is_cut_inside_a_letter(text: str, most: int, expected: str) -> None:
    assert cut(text, most) == expected


def test_a_letter_made_to_annoy_is_cut_all_the_same() -> None:
    assert 90 < len(cut("z" + "\u0301" * 5000, 100)) <= 100


def test_lines_are_cut_with_a_mark() -> None:
    assert fitted_lines(["aaaa", "bbbb", "cccc"], 11) == "aaaa\nbbbb\n…"
    assert fitted_lines(["aaaa", "bbbb"], 9) == "aaaa\nbbbb"
    assert octets(fitted_lines(["元境元境", "元境"], 12, weigh=octets)) <= 12


def test_what_cannot_be_seen_is_taken_out() -> None:
    assert one_line("a\x00\r\nb\u202ec\u2066\u200bd\ufeff") == "a bcd"
    assert one_line("👩‍🚀") == "👩‍🚀"
    assert units("👩‍🚀") == 5


def test_a_signed_link_stays_as_it_is() -> None:
    signed = "https://cdn.example/a/b.mp4?Expires=1&Signature=a%2Bb~c_d-e&Key-Pair-Id=K"

    assert link(signed) == signed


@pytest.mark.parametrize(
    ("told", "language", "title", "lines"),
    [
        (
            DOWN_PROVIDER,
            "en",
            "🔴 MiniMax is down",
            (
                "Polls of MiniMax fail. Its tasks are polled on; endings come late.",
                "Why: MiniMax cannot answer now (503)",
            ),
        ),
        (
            DOWN_PROVIDER,
            "zh",
            "🔴 MiniMax 不可用",
            (
                "对 MiniMax 的查询持续失败。Taskbell 会继续查询，任务结果可能延迟。",
                "原因：MiniMax cannot answer now (503)",
            ),
        ),
        (
            RECOVERED,
            "en",
            "🟢 Acme Video is back",
            ("Acme Video answers again. It was down for 1 min 20 s.",),
        ),
        (
            RECOVERED,
            "zh",
            "🟢 Acme Video 已恢复",
            ("Acme Video 已恢复响应，中断时长 1 分 20 秒。",),
        ),
    ],
)
def test_a_provider_that_goes_down_and_comes_back_is_told(
    told: Event, language: str, title: str, lines: tuple[str, ...]
) -> None:
    message = message_of(told, language)

    assert (message.title, message.lines) == (title, lines)
