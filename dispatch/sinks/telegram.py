"""Telegram bots: the video or picture itself, or a message with links.

Sources, read 2026-11-21: core.telegram.org/bots/api (sendVideo, sendPhoto, sendMessage,
"Sending files", "HTML style", ResponseParameters) and core.telegram.org/bots/faq (limits). By
URL, Telegram fetches videos up to 20 MB and pictures up to 5 MB.
"""

from __future__ import annotations

import html
import re
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from dispatch.answers import judge_http
from dispatch.chat import (
    code_of,
    delivered,
    doubted,
    failed,
    json_request,
    judge_wordless,
    refused,
    said,
    unfit,
    wait_of,
)
from dispatch.message import Message, message_of
from dispatch.plain import fitted_lines, units
from dispatch.refusals import says_limited
from dispatch.service import Service
from dispatch.sink import Answer, Event, Outcome, Request, Sink, Target

_CAPTION, _MESSAGE = 1024, 4096
# Telegram fetches before it answers: who gave up waiting does not know whether it was posted
_TRIES_WITH_MEDIA = 2
_METHOD = re.compile(r"/(?:sendMessage|sendVideo|sendPhoto)?$", re.IGNORECASE)
_NOT_FETCHED = re.compile(
    r"http url content|wrong (?:type of the web page|file identifier|remote file)|file is too big"
    r"|wrong type of file|photo_invalid|image_process_failed|webpage_|media_empty",
    re.IGNORECASE,
)
_GONE = re.compile(r"bot was (?:blocked|kicked)|user is deactivated|not a member", re.IGNORECASE)
_UNAUTHORIZED = re.compile(r"unauthorized|token", re.IGNORECASE)
_RETRY_AFTER = re.compile(r"retry after (\d{1,6})\b", re.IGNORECASE | re.ASCII)
# an @ that nothing follows mentions nobody
_AT = str.maketrans({"@": "@\u2060"})


class Telegram:
    """HTML, where an address in a text stays one; a link to the output is always there."""

    name = "telegram"
    service = Service(
        title="Telegram",
        form="https://api.telegram.org/bot<token>/sendMessage?chat_id=…",
        hosts=("api.telegram.org",),
        path=r"/bot\d+:[\w-]+(?:/(?:sendMessage|sendVideo|sendPhoto)?)?",
        query=("chat_id",),
        rate_per_second=0.33,  # 20 a minute in a group; 1 a second in a chat of two
    )

    def render(self, event: Event, target: Target, now: datetime) -> Request:
        message = message_of(event, target.language)
        text = self._text(message, target)
        if event.attempt > _TRIES_WITH_MEDIA:
            return text
        video, picture = message.link_to("video"), message.link_to("image")
        if video is not None:
            shown = {"video": video.url, "supports_streaming": True}
            return self._captioned("sendVideo", shown, message, target, text)
        if picture is not None:
            return self._captioned("sendPhoto", {"photo": picture.url}, message, target, text)
        return text

    def _text(self, message: Message, target: Target) -> Request:
        url, asked = _method(target.url, "sendMessage")
        preview = {"is_disabled": not message.links}
        body = {"text": _html(message, _MESSAGE), "link_preview_options": preview}
        return json_request(target, url, {**asked, **body, "parse_mode": "HTML"})

    def _captioned(
        self, method: str, shown: dict[str, Any], message: Message, target: Target, text: Request
    ) -> Request:
        url, asked = _method(target.url, method)
        body = {**asked, **shown, "caption": _html(message, _CAPTION), "parse_mode": "HTML"}
        return json_request(target, url, body, text)

    def judge(self, answer: Answer, now: datetime) -> Outcome:
        body = said(answer)
        code, words = code_of(body, "error_code"), str(body.get("description") or "")
        if body.get("ok") is True:
            return delivered() if answer.status == 200 else judge_http(answer, now)
        if code is None:
            return judge_wordless(answer, now)
        return _judge_error(code, words, _object(body.get("parameters")))


def _judge_error(code: int, words: str, parameters: dict[str, Any]) -> Outcome:
    moved = parameters.get("migrate_to_chat_id")
    if isinstance(moved, int):
        return refused(code, words, f"the group is another chat now: use chat_id={moved}")
    if code in (420, 429) or says_limited(words):
        return failed(code, words, wait_of(parameters.get("retry_after")) or _told(words))
    if code == 401 or (code == 404 and words == "Not Found"):
        if code == 404 or _UNAUTHORIZED.search(words):
            return refused(code, words, "the bot's token is not valid any more")
        return doubted(code, words)
    if code == 403 and _GONE.search(words):
        return refused(code, words, "gone")
    if code in (400, 413) and _NOT_FETCHED.search(words):
        return unfit(code, words)
    return failed(code, words, wait_of(parameters.get("retry_after")))


def _told(words: str) -> timedelta | None:
    """Return the wait that stands in the words alone: "Too Many Requests: retry after 35"."""
    found = _RETRY_AFTER.search(words)
    return wait_of(int(found[1])) if found else None


def _method(url: str, method: str) -> tuple[str, dict[str, str]]:
    """Where a method is called, and the parameters (chat_id, message_thread_id …) of the URL."""
    parts = urlsplit(url)
    path = f"{_METHOD.sub('', parts.path)}/{method}"
    return urlunsplit(parts._replace(path=path, query="", fragment="")), dict(
        parse_qsl(parts.query)
    )


def _html(message: Message, most: int) -> str:
    """Whole lines, as many as there is room for: the links come before the details.

    Telegram counts without tags and addresses; what stands between the tags is all we count.
    """
    head = [message.title, *(link.text for link in message.links)]
    left = most - sum(units(_escape(line) + "\n") for line in head) - units("\n\n")
    details = [*message.lines, *message.listed(), message.footer]
    links = [
        f'<a href="{html.escape(link.url)}">{_escape(link.text)}</a>' for link in message.links
    ]
    title = f"<b>{_escape(message.title)}</b>"
    return "\n".join([title, *links, "", fitted_lines(details, left, _escape)])


def _escape(text: str) -> str:
    return html.escape(text).translate(_AT)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


SINK: Sink = Telegram()
