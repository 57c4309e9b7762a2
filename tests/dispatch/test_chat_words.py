"""One code has several meanings: each service's words decide, and are kept."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from dispatch.sink import Answer, Result, sinks
from tests.dispatch.chat_events import AT

MINUTE, TEN = timedelta(minutes=1), timedelta(minutes=10)
GONE, AGAIN, DOUBT = "gone", "again", "doubt"


def _numbered(code: str, words: str) -> Any:
    def body(number: int, said: str) -> dict[str, Any]:
        return {code: number, words: said}

    return body


CODED = {
    "feishu": _numbered("code", "msg"),
    "lark": _numbered("code", "msg"),
    "dingtalk": _numbered("errcode", "errmsg"),
    "wecom": _numbered("errcode", "errmsg"),
}
# service, HTTP status, code, words, what it is, the wait
NUMBERED = [
    ("feishu", 400, 9499, "too many request", AGAIN, MINUTE),
    ("lark", 400, 9499, "too many request", AGAIN, MINUTE),
    ("feishu", 400, 9499, "Too Many Requests, please slow down", AGAIN, MINUTE),
    ("feishu", 400, 9499, "请求过于频繁", AGAIN, MINUTE),
    ("feishu", 400, 9499, "Bad Request", AGAIN, None),
    ("feishu", 200, 11232, "frequency limited psm[x]", AGAIN, MINUTE),
    ("feishu", 200, 11232, "", AGAIN, MINUTE),
    ("feishu", 200, 99991400, "request trigger frequency limit", AGAIN, MINUTE),
    ("feishu", 200, 19001, "param invalid: incoming webhook access token invalid", GONE, None),
    ("lark", 200, 19001, "access token not found", GONE, None),
    ("feishu", 200, 19001, "param invalid: msg_type need", AGAIN, None),
    ("feishu", 200, 19001, "too many request", AGAIN, MINUTE),
    ("feishu", 200, 19001, "", DOUBT, None),
    ("feishu", 200, 19001, "internal error", DOUBT, None),
    ("feishu", 200, 19002, "params error, msg_type need", AGAIN, None),
    ("feishu", 200, 19021, "sign match fail or timestamp is not within one hour", AGAIN, None),
    ("feishu", 200, 19022, "Ip Not Allowed", AGAIN, None),
    ("feishu", 200, 19024, "Key Words Not Found", AGAIN, None),
    ("dingtalk", 200, 300001, "message param text is null", AGAIN, None),
    ("dingtalk", 200, 300001, "param error: title is required", AGAIN, None),
    ("dingtalk", 200, 300001, "消息内容为空", AGAIN, None),
    ("dingtalk", 200, 300001, "机器人消息内容无效", AGAIN, None),
    ("dingtalk", 200, 300001, "token is not exist", GONE, None),
    ("dingtalk", 200, 300001, "", DOUBT, None),
    ("dingtalk", 200, 300005, "token is not exist", GONE, None),
    ("dingtalk", 200, 300005, "send too fast, exceed 20 times per minute", AGAIN, TEN),
    ("dingtalk", 200, 400101, "access_token不存在", GONE, None),
    ("dingtalk", 200, 400101, "session is expired", GONE, None),
    ("dingtalk", 200, 400102, "机器人已停用", DOUBT, None),
    ("dingtalk", 200, 400013, "群已被解散", DOUBT, None),
    ("dingtalk", 200, 400013, "unknown error", DOUBT, None),
    ("feishu", 200, 19007, "Bot Not Enabled", DOUBT, None),
    ("dingtalk", 200, 40014, "不合法的access_token", GONE, None),
    ("dingtalk", 200, 40035, "缺少参数 json", AGAIN, None),
    ("dingtalk", 200, 310000, "keywords not in content", AGAIN, None),
    ("dingtalk", 200, 310000, "sign not match, more: access_token invalid", AGAIN, None),
    ("dingtalk", 200, 410100, "发送速度太快而限流", AGAIN, TEN),
    ("dingtalk", 200, 130101, "", AGAIN, TEN),
    ("dingtalk", 200, -1, "系统繁忙", AGAIN, None),
    ("wecom", 200, 93000, "invalid webhook url, hint: [1], from ip: 10.0.0.1", GONE, None),
    ("wecom", 200, 93000, "机器人已被移除", DOUBT, None),
    ("wecom", 200, 93000, "invalid message content", AGAIN, None),
    ("wecom", 200, 93000, "", DOUBT, None),
    ("wecom", 200, 45009, "api freq out of limit", AGAIN, MINUTE),
    ("wecom", 200, 45033, "api concurrent out of limit", AGAIN, MINUTE),
    ("wecom", 200, 45002, "content size out of limit", AGAIN, None),
    ("wecom", 200, 40058, "exceed max length of text.content", AGAIN, None),
    ("wecom", 200, 40058, "消息长度超过限制", AGAIN, None),
    ("dingtalk", 200, 460101, "message too long, exceeds limit of 20000 bytes", AGAIN, None),
    ("dingtalk", 200, 88, "当前机器人每分钟发送次数超过限制", AGAIN, TEN),
    ("wecom", 200, -1, "system busy", AGAIN, None),
]


def judged(name: str, status: int, body: Any, headers: dict[str, str] | None = None) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return sinks()[name].judge(Answer(status, headers or {}, raw, 0.1), AT)


@pytest.mark.parametrize(("name", "status", "code", "words", "what", "wait"), NUMBERED)
def test_words_decide_what_a_number_means(
    name: str, status: int, code: int, words: str, what: str, wait: timedelta | None
) -> None:
    outcome = judged(name, status, CODED[name](code, words))

    assert outcome.result is (Result.REFUSED if what == GONE else Result.RETRY)
    assert outcome.doubt == (f"answered {code}" if what == DOUBT else None)
    assert outcome.retry_after == wait
    assert outcome.reason.startswith(f"answered {code}")
    assert words in outcome.reason


LONG = {"retry-after": "90"}
WORDED = [
    # service, status, body, headers, what it is, the wait
    ("slack", 404, b"no_service", {}, GONE, None),
    ("slack", 403, b"invalid_token", {}, GONE, None),
    ("slack", 403, b"action_prohibited", {}, AGAIN, None),
    ("slack", 400, b"invalid_payload", {}, AGAIN, None),
    ("slack", 404, b"<html>Not Found</html>", {}, AGAIN, None),
    ("slack", 429, b"rate_limited", LONG, AGAIN, timedelta(seconds=90)),
    ("slack", 503, b"no_team", {}, AGAIN, None),
    ("discord", 404, {"code": 10015, "message": "Unknown Webhook"}, {}, GONE, None),
    ("discord", 401, {"code": 50027, "message": "Invalid Webhook Token"}, {}, GONE, None),
    ("discord", 404, {"code": 10015, "message": ""}, {}, DOUBT, None),
    ("discord", 404, {"code": 10003, "message": "Unknown Channel"}, {}, AGAIN, None),
    ("discord", 400, {"code": 220001, "message": "must have a thread_name"}, {}, AGAIN, None),
    ("discord", 401, {"code": 0, "message": "401: Unauthorized"}, {}, AGAIN, None),
    ("discord", 429, b"error code: 1015", {}, AGAIN, timedelta(minutes=5)),
    ("discord", 403, b"error code: 1015", {}, AGAIN, timedelta(minutes=5)),
    (
        "discord",
        404,
        {"code": 10015, "message": "You are being rate limited.", "retry_after": 3},
        {},
        AGAIN,
        timedelta(seconds=3),
    ),
    ("telegram", 401, {"error_code": 401, "description": "Unauthorized"}, {}, GONE, None),
    ("telegram", 401, {"error_code": 401, "description": ""}, {}, DOUBT, None),
    ("telegram", 404, {"error_code": 404, "description": "Not Found"}, {}, GONE, None),
    ("telegram", 404, {"error_code": 404, "description": "Not Found: method"}, {}, AGAIN, None),
    (
        "telegram",
        403,
        {"error_code": 403, "description": "Forbidden: bot can't initiate conversation"},
        {},
        AGAIN,
        None,
    ),
    (
        "telegram",
        429,
        {"error_code": 429, "description": "Too Many Requests: retry after 35"},
        {},
        AGAIN,
        timedelta(seconds=35),
    ),
    (
        "telegram",
        400,
        {"error_code": 400, "description": "Too Many Requests: retry after 7"},
        {},
        AGAIN,
        timedelta(seconds=7),
    ),
    ("teams", 404, {"error": {"code": "WorkflowNotFound", "message": "gone"}}, {}, GONE, None),
    ("teams", 404, {"error": {"code": "WorkflowNotFound"}}, {}, GONE, None),
    ("teams", 404, {"error": {"code": "WorkflowNotFound", "message": "try"}}, {}, DOUBT, None),
    (
        "teams",
        404,
        {"error": {"code": "WorkflowNotFound", "message": "Rate limit is exceeded"}},
        {},
        AGAIN,
        None,
    ),
    (
        "teams",
        401,
        {"error": {"code": "DirectApiRequestHasMoreThanOneAuthorization", "message": "two"}},
        {},
        AGAIN,
        None,
    ),
    (
        "teams",
        400,
        {"error": {"code": "WorkflowTriggerIsNotEnabled", "message": "state 'Disabled'"}},
        {},
        AGAIN,
        None,
    ),
]


@pytest.mark.parametrize(("name", "status", "body", "headers", "what", "wait"), WORDED)
def test_words_decide_what_a_status_means(
    name: str,
    status: int,
    body: Any,
    headers: dict[str, str],
    what: str,
    wait: timedelta | None,
) -> None:
    outcome = judged(
        name, status, {"ok": False, **body} if isinstance(body, dict) else body, headers
    )

    assert outcome.result is (Result.REFUSED if what == GONE else Result.RETRY)
    assert bool(outcome.doubt) is (what == DOUBT)
    assert outcome.retry_after == wait


def test_feishus_gateway_tells_when_its_limit_begins_anew() -> None:
    headers = {"x-ogw-ratelimit-reset": "42"}

    outcome = judged("feishu", 400, {"code": 9499, "msg": "too many request"}, headers)

    assert outcome.retry_after == timedelta(seconds=42)


def test_the_words_of_a_long_answer_leave_room_for_the_verdict() -> None:
    outcome = judged("dingtalk", 200, {"errcode": 300001, "errmsg": "token is not exist " * 40})

    assert len(outcome.reason) <= 200
    assert outcome.reason.endswith("… (gone)")
