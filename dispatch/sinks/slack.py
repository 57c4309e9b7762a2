"""Slack incoming webhooks, with Block Kit.

Sources, read 2026-11-21: docs.slack.dev, messaging/sending-messages-using-incoming-webhooks and
apis/web-api/rate-limits; reference/block-kit/blocks (limits as in slack_sdk 3.47's models);
api.slack.com/changelog/2016-05-17-changes-to-errors-for-incoming-webhooks.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from dispatch.answers import judge_http
from dispatch.chat import delivered, json_request, refused, unfit, unproven
from dispatch.message import Link, Message, Tone, message_of
from dispatch.plain import fitted, fitted_lines
from dispatch.service import Service
from dispatch.sink import Answer, Event, Outcome, Request, Sink, Target

_TITLE, _SECTION, _FIELD, _ALT_TEXT, _BUTTON, _FALLBACK = 150, 3000, 2000, 2000, 75, 3000
_GONE = frozenset(
    {
        "channel_is_archived",
        "channel_not_found",
        "invalid_token",
        "no_active_hooks",
        "no_service",
        "no_service_id",
        "no_team",
        "team_disabled",
        "token_revoked",
    }
)
# also what is said when Slack cannot fetch the picture
_UNFIT = ("invalid_blocks", "invalid_attachments")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Slack:
    """Blocks of plain text only: nothing foreign can mention or format.

    Shows pictures by URL, videos never: they get a button.
    """

    name = "slack"
    service = Service(
        title="Slack",
        form="https://hooks.slack.com/services/T…/B…/…",
        hosts=("hooks.slack.com", "hooks.slack-gov.com"),
        path=r"/services/\w+/\w+/\w+",
        rate_per_second=1.0,
    )

    def render(self, event: Event, target: Target, now: datetime) -> Request:
        message = message_of(event, target.language)
        plain = json_request(target, target.url, _body(message, pictured=False))
        if message.preview is None:
            return plain
        return json_request(target, target.url, _body(message, pictured=True), plain)

    def judge(self, answer: Answer, now: datetime) -> Outcome:
        word = _word(answer)
        if 200 <= answer.status < 300:
            return delivered() if answer.body.strip() == b"ok" else unproven(answer)
        if word in _GONE and answer.status not in (429, 503):
            return refused(answer.status, word)
        if answer.status == 400 and word.startswith(_UNFIT):
            return unfit(answer.status, word)
        return judge_http(answer, now, word)


def _word(answer: Answer) -> str:
    """The word that Slack's answers begin with; "" for somebody else's page."""
    found = re.match(rb"\s*([a-z]+(?:_[a-z]+)*)\b", answer.body)
    return found[1].decode()[:60] if found else ""


def _body(message: Message, *, pictured: bool) -> dict[str, Any]:
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _text(message.title, _TITLE)},
        {"type": "section", "text": _plain(fitted_lines(message.lines, _SECTION, _escape))},
    ]
    if message.facts:
        fields = [_text(f"{fact.label}\n{fact.value}", _FIELD) for fact in message.facts]
        blocks.append({"type": "section", "fields": fields})
    if pictured and message.preview is not None:
        alt = fitted(message.preview_text, _ALT_TEXT, _escape)
        blocks.append({"type": "image", "image_url": message.preview, "alt_text": alt})
    if message.links:
        buttons = [_button(link, message.tone) for link in message.links]
        blocks.append({"type": "actions", "elements": buttons})
    blocks.append({"type": "context", "elements": [_text(message.footer, _FIELD)]})
    fallback = fitted_lines([message.title, *message.lines], _FALLBACK, _escape)
    # the fallback shows in notifications: names and links in it stay letters
    quiet = {"parse": "none", "link_names": False, "unfurl_links": False, "unfurl_media": False}
    return {"text": fallback, "blocks": blocks, **quiet}


def _button(link: Link, tone: Tone) -> dict[str, Any]:
    button = {"type": "button", "text": _text(link.text, _BUTTON), "url": link.url}
    return button | ({"style": "primary"} if tone is Tone.GOOD else {})


def _text(text: str, most: int) -> dict[str, Any]:
    return _plain(fitted(text, most, _escape))


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _escape(text: str) -> str:
    return text.translate(_ENTITIES)


SINK: Sink = Slack()
