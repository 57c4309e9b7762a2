"""Discord webhooks, with one embed.

Sources, read 2026-11-21: github.com/discord/discord-api-docs at c98d64bc, resources/webhook.mdx,
resources/message.mdx, topics/rate-limits.mdx, topics/opcodes-and-status-codes.md.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from dispatch.answers import judge_http
from dispatch.chat import (
    delivered,
    doubted,
    failed,
    json_request,
    refused,
    said,
    unproven,
    wait_asked,
    wait_of,
    with_query,
)
from dispatch.message import Message, Tone, message_of
from dispatch.plain import fitted, fitted_lines, units
from dispatch.refusals import says_limited
from dispatch.service import Service
from dispatch.sink import Answer, Event, Outcome, Request, Sink, Target
from store.events import rfc3339

# an embed's texts hold 6000 characters together: 256 + 2200 + 10 x (80 + 260) + 140 at the most
_TITLE, _LINES, _LINKS, _FACT_NAME, _FACT, _FOOTER = 256, 1000, 1200, 80, 260, 140
_CONTENT = 2000
_COLOURS = {Tone.GOOD: 0x57F287, Tone.BAD: 0xED4245, Tone.CALM: 0x5865F2}
_UNKNOWN_WEBHOOK, _INVALID_TOKEN = 10015, 50027
_GONE = re.compile(r"unknown webhook|invalid webhook token|webhook .*(?:deleted|not found)", re.I)
_CUT_OFF = re.compile(rb"\berror code: 1015\b")  # Cloudflare's, before Discord is asked
_CUT_OFF_WAIT = timedelta(minutes=5)
_MARKUP = str.maketrans({letter: f"\\{letter}" for letter in "\\*_~`|<>#[]()@:-"})


class Discord:
    """A video's bare address stands in the message, where Discord plays it; pictures in the embed."""

    name = "discord"
    service = Service(
        title="Discord",
        form="https://discord.com/api/webhooks/<id>/<token>",
        hosts=("discord.com", "discordapp.com", "ptb.discord.com", "canary.discord.com"),
        path=r"/api/(?:v\d+/)?webhooks/\d+/[\w-]+/?",
        rate_per_second=0.5,  # 30 a minute; what its headers allow may be more
    )

    def render(self, event: Event, target: Target, now: datetime) -> Request:
        message = message_of(event, target.language)
        # without wait, "a message that is not saved does not return an error"
        url = with_query(target.url, {"wait": "true"})
        return json_request(target, url, _body(message, event))

    def judge(self, answer: Answer, now: datetime) -> Outcome:
        body = said(answer)
        code, words = body.get("code"), body.get("message")
        if 200 <= answer.status < 300:
            return delivered() if body.get("id") else unproven(answer)
        words = str(words or "")
        asked = wait_of(body.get("retry_after")) or wait_asked(answer, now)
        if _CUT_OFF.search(answer.body):
            return failed(1015, "", asked or _CUT_OFF_WAIT, "rate limit")
        if answer.status == 429 or says_limited(words):
            return failed(answer.status, words, asked, "rate limit")
        if code in (_UNKNOWN_WEBHOOK, _INVALID_TOKEN):
            gone = _GONE.search(words)
            return refused(answer.status, words, "gone") if gone else doubted(answer.status, words)
        return judge_http(answer, now, words)


def _body(message: Message, event: Event) -> dict[str, Any]:
    embed: dict[str, Any] = {
        "title": fitted(message.title, _TITLE, _escape),
        "description": _description(message),
        "color": _COLOURS[message.tone],
        "fields": [
            {
                "name": fitted(fact.label, _FACT_NAME, _escape),
                "value": fitted(fact.value, _FACT, _escape),
                "inline": True,
            }
            for fact in message.facts
        ],
        "footer": {"text": fitted(message.footer, _FOOTER, str)},  # has no markup
        "timestamp": rfc3339(event.time),
    }
    if message.links:
        embed["url"] = message.links[0].url
    if message.preview is not None:
        embed["image"] = {"url": message.preview}
    body: dict[str, Any] = {"embeds": [embed], "allowed_mentions": {"parse": []}}
    video = message.link_to("video")
    if video is not None and len(video.url) <= _CONTENT:
        body["content"] = video.url
    return body


def _description(message: Message) -> str:
    """What there is to say, and the links whole: the first one is the title's, too."""
    links, left = [], _LINKS
    for each in message.links:
        line = f"[{_escape(each.text)}](<{each.url}>)"
        left -= units(line + "\n")
        if left >= 0:
            links.append(line)
    return "\n".join([fitted_lines(message.lines, _LINES - 1, _escape), *links])


def _escape(text: str) -> str:
    return text.translate(_MARKUP)


SINK: Sink = Discord()
