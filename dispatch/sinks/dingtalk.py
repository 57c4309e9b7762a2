"""DingTalk (钉钉) custom robots: an action card, and its signature.

Sources, read 2026-11-21: open.dingtalk.com, orgapp/custom-robots-send-group-messages and
orgapp/customize-robot-security-settings; error codes as collected in breath57/dingtalk-skills,
references/api.md, for want of an official page.
"""

from __future__ import annotations

import base64
import hmac
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
    with_query,
)
from dispatch.message import Message, message_of
from dispatch.plain import fitted, fitted_lines
from dispatch.refusals import Codes, judge_refusal
from dispatch.service import Service
from dispatch.sink import Answer, Event, Outcome, Request, Sink, Target

_TITLE, _TEXT, _PICTURE, _BUTTON = (
    200,
    3000,
    2000,
    100,
)  # of our own: the body may have 20,000 bytes
_CODES = Codes(
    # token (three codes), group dissolved, robot stopped
    gone=frozenset({300001, 300005, 400101, 400013, 400102}),
    limited=frozenset({130101, 410100, 302033, 90030}),
    wait=timedelta(minutes=10),  # who sends over 20 a minute is shut out for ten
    others={310000: "the robot's security settings: keyword, signature or IP address"},
)
# no page tells of a way to escape DingTalk's Markdown: these look like it, and are not
_MARKUP = str.maketrans("#*[]<>`~", "＃＊［］＜＞｀～")
_PARENTHESES = str.maketrans({"(": "%28", ")": "%29"})


class DingTalk:
    """Markdown, with a picture by URL and a button for each link; videos are not shown."""

    name = "dingtalk"
    service = Service(
        title="DingTalk",
        form="https://oapi.dingtalk.com/robot/send?access_token=…",
        hosts=("oapi.dingtalk.com",),
        path=r"/robot/send/?",
        query=("access_token",),
        rate_per_second=0.33,  # 20 a minute
        signs=True,
    )

    def render(self, event: Event, target: Target, now: datetime) -> Request:
        url = target.url
        if target.service_secret is not None:
            milliseconds = int(now.timestamp() * 1000)
            sign = signature(target.service_secret, milliseconds)
            url = with_query(url, {"timestamp": str(milliseconds), "sign": sign})
        return json_request(target, url, _body(message_of(event, target.language)))

    def judge(self, answer: Answer, now: datetime) -> Outcome:
        body = said(answer)
        code, words = code_of(body, "errcode"), str(body.get("errmsg") or "")
        if code is None:
            return judge_wordless(answer, now)
        if code == 0:
            return delivered() if answer.status == 200 else judge_http(answer, now)
        return judge_refusal(code, words, _CODES, wait_asked(answer, now))


def signature(secret: str, milliseconds: int) -> str:
    """HMAC-SHA256 of the time and the secret, under the secret; not yet percent-encoded.

    Feishu's is the other way round.

    >>> signature("SECdemo", 1599360473000)
    'tGWkA5eQOQNCNPDgphtxIoNLO+/gD8Lcb705KQoRzeY='
    """
    signed = f"{milliseconds}\n{secret}".encode()
    return base64.b64encode(hmac.digest(secret.encode(), signed, "sha256")).decode()


def _body(message: Message) -> dict[str, Any]:
    title = fitted(message.title, _TITLE, _escape)
    text = _text(title, message)
    buttons = [
        {"title": fitted(link.text, _BUTTON, _escape), "actionURL": link.url}
        for link in message.links
    ]
    if not buttons:
        return {"msgtype": "markdown", "markdown": {"title": title, "text": text}}
    card: dict[str, Any] = {"title": title, "text": text}
    if len(buttons) == 1:
        card |= {"singleTitle": buttons[0]["title"], "singleURL": buttons[0]["actionURL"]}
    else:
        card |= {"btnOrientation": "0", "btns": buttons}
    return {"msgtype": "actionCard", "actionCard": card}


def _text(title: str, message: Message) -> str:
    paragraphs = [f"### {title}"]
    picture = (message.preview or "").translate(_PARENTHESES)  # one would end it
    if picture and len(picture) <= _PICTURE:
        paragraphs.append(f"![]({picture})")
    lines = [*message.lines, *(f"- {fact}" for fact in message.listed())]
    text = fitted_lines(lines, _TEXT, _escape)
    # robots that want a keyword find "Taskbell" at the end of every message
    return "\n\n".join([*paragraphs, text.replace("\n", "\n\n"), _escape(message.footer)])


def _escape(text: str) -> str:
    return text.translate(_MARKUP)


SINK: Sink = DingTalk()
