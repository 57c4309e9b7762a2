"""Custom bots of Feishu and Lark, which differ in their host alone: a card, and its signature.

Sources, read 2026-11-21: open.feishu.cn, client-docs/bot-v3/add-custom-bot (limits, codes,
signature); open.feishu.cn, feishu-cards/card-json-v2-structure.
"""

from __future__ import annotations

import base64
import hmac
import re
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
    wait_of,
)
from dispatch.message import Link, Message, Tone, message_of
from dispatch.plain import fitted, fitted_lines
from dispatch.refusals import Codes, judge_refusal
from dispatch.service import Service
from dispatch.sink import Answer, Event, Outcome, Request, Target

PATH = r"/open-apis/bot/v2/hook/[\w-]+"
RATE_PER_SECOND = 1.6  # 100 a minute, 5 a second

_TITLE, _TEXT, _BUTTON = 200, 3000, 100  # of our own: the body may have 20 KB
_COLOURS = {Tone.GOOD: "green", Tone.BAD: "red", Tone.CALM: "blue"}
_CODES = Codes(
    gone=frozenset({19001, 19007}),
    limited=frozenset({11232, 11233, 99991400}),
    wait=timedelta(minutes=1),  # no time is told; the limit counts minutes
    others={
        19021: "signature or clock does not match: set service_secret to the bot's secret",
        19022: "the bot does not allow our IP address",
        19024: "the bot wants a keyword that the message does not have",
    },
)


class FeishuBot:
    """A card of plain texts only, where nothing foreign can mention or format.

    Pictures by URL are not taken (they need an app's upload), nor are videos: both get buttons.
    """

    def __init__(self, name: str, service: Service) -> None:
        self.name = name
        self.service = service

    def render(self, event: Event, target: Target, now: datetime) -> Request:
        card = _card(message_of(event, target.language))
        body: dict[str, Any] = {"msg_type": "interactive", "card": card}
        if target.service_secret is not None:
            timestamp = int(now.timestamp())
            body = {
                "timestamp": str(timestamp),
                "sign": signature(target.service_secret, timestamp),
                **body,
            }
        return json_request(target, target.url, body)

    def judge(self, answer: Answer, now: datetime) -> Outcome:
        body = said(answer)
        code = code_of(body, "code", "StatusCode")  # the latter on old bots
        if code is None:
            return judge_wordless(answer, now)
        words = str(body.get("msg") or body.get("StatusMessage") or "")
        if code == 0:
            return delivered() if answer.status == 200 else judge_http(answer, now)
        asked = wait_asked(answer, now) or _reset(answer)
        return judge_refusal(code, words, _CODES, asked)


def _reset(answer: Answer) -> timedelta | None:
    """Return in how many seconds the limit of Feishu's gateway begins anew, if it says so."""
    seconds = answer.headers.get("x-ogw-ratelimit-reset", "")
    return wait_of(int(seconds)) if re.fullmatch("[0-9]{1,6}", seconds) else None


def signature(secret: str, timestamp: int) -> str:
    """HMAC-SHA256 of nothing, under the time (unix seconds) and the secret as key.

    >>> signature("demo", 1599360473)
    'l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8='
    """
    key = f"{timestamp}\n{secret}".encode()
    return base64.b64encode(hmac.digest(key, b"", "sha256")).decode()


def _card(message: Message) -> dict[str, Any]:
    elements = [
        _div(fitted_lines(message.lines, _TEXT)),
        *([_div(fitted_lines(message.listed(), _TEXT))] if message.facts else []),
        *(_button(link) for link in message.links),
        _div(message.footer),
    ]
    return {
        "schema": "2.0",
        "config": {"update_multi": True},
        "header": {
            "template": _COLOURS[message.tone],
            "title": _plain(fitted(message.title, _TITLE, str)),
        },
        "body": {"elements": elements},
    }


def _button(link: Link) -> dict[str, Any]:
    return {
        "tag": "button",
        "type": "primary",
        "text": _plain(fitted(link.text, _BUTTON, str)),
        "behaviors": [{"type": "open_url", "default_url": link.url}],
    }


def _div(text: str) -> dict[str, Any]:
    return {"tag": "div", "text": _plain(text)}


def _plain(text: str) -> dict[str, str]:
    return {"tag": "plain_text", "content": text}
