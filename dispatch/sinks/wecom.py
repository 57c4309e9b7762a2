"""WeCom (企业微信) group robots: a news card with a link, or plain text without.

Source: developer.work.weixin.qq.com/document/path/91770 and /90313 (error codes), in a copy,
read 2026-11-21.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from dispatch.answers import judge_http
from dispatch.chat import (
    code_of,
    delivered,
    json_request,
    judge_wordless,
    said,
    wait_asked,
)
from dispatch.message import Message, message_of
from dispatch.plain import fitted, fitted_lines, octets
from dispatch.refusals import Codes, judge_refusal
from dispatch.service import Service
from dispatch.sink import Answer, Event, Outcome, Request, Sink, Target

_TITLE, _DESCRIPTION, _TEXT = 128, 512, 2048  # bytes
_CODES = Codes(
    # wrong key or robot removed, robot stopped, robot not in the group
    gone=frozenset({93000, 93004, 93008}),
    limited=frozenset({45009, 45033}),
    wait=timedelta(minutes=1),  # 20 a minute; no time is told
)
# <@userid> would mention
_MARKUP = str.maketrans("<>", "＜＞")


class WeCom:
    """Texts without any markup; a picture by URL is the card's cover, the first link its target."""

    name = "wecom"
    service = Service(
        title="WeCom",
        form="https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=…",
        hosts=("qyapi.weixin.qq.com",),
        path=r"/cgi-bin/webhook/send/?",
        query=("key",),
        rate_per_second=0.33,  # 20 a minute
    )

    def render(self, event: Event, target: Target, now: datetime) -> Request:
        return json_request(target, target.url, _body(message_of(event, target.language)))

    def judge(self, answer: Answer, now: datetime) -> Outcome:
        body = said(answer)
        code, words = code_of(body, "errcode"), str(body.get("errmsg") or "")
        if code is None:
            return judge_wordless(answer, now)
        if code == 0:
            return delivered() if answer.status == 200 else judge_http(answer, now)
        return judge_refusal(code, words, _CODES, wait_asked(answer, now))


def _body(message: Message) -> dict[str, Any]:
    lines = [*message.lines, *message.listed(), message.footer]
    if not message.links:
        content = fitted_lines([message.title, *lines], _TEXT, _escape, octets)
        return {"msgtype": "text", "text": {"content": content}}
    article = {
        "title": fitted(message.title, _TITLE, _escape, octets),
        "description": fitted_lines(lines, _DESCRIPTION, _escape, octets),
        "url": message.links[0].url,
    }
    if message.preview is not None:
        article["picurl"] = message.preview
    return {"msgtype": "news", "news": {"articles": [article]}}


def _escape(text: str) -> str:
    return text.translate(_MARKUP)


SINK: Sink = WeCom()
