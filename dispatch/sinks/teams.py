"""Microsoft Teams, through a workflow "when a webhook request is received": an Adaptive Card.

Sources, read 2026-11-21: learn.microsoft.com, microsoftteams/platform/webhooks-and-connectors/
how-to/add-incoming-webhook (28 KB, 4 requests a second) and task-modules-and-cards/cards/
cards-format (no Markdown in a RichTextBlock). Connectors (webhook.office.com) ended in May 2026.
"""

from __future__ import annotations

import re
from datetime import datetime
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
)
from dispatch.message import Message, Tone, message_of
from dispatch.plain import fitted
from dispatch.refusals import says_limited
from dispatch.service import Service
from dispatch.sink import Answer, Event, Outcome, Request, Sink, Target

_LINE, _BUTTON = 800, 60  # of our own
_COLOURS = {Tone.GOOD: "Good", Tone.BAD: "Attention", Tone.CALM: "Default"}
_WORKFLOW = re.compile(r"workflow|signature|\bsig\b|shared access|authenticat|gone", re.IGNORECASE)
_GONE = frozenset({"WorkflowNotFound", "DirectApiAuthorizationRequired", "WorkflowVersionNotFound"})


class Teams:
    """Runs of plain text: nothing foreign can mention or format. Pictures by URL, videos never.

    A workflow answers 202 before it posts: a delivery is one that was accepted.
    """

    name = "teams"
    service = Service(
        title="Teams",
        form="https://….logic.azure.com/workflows/… or https://….api.powerplatform.com/…",
        hosts=(
            *(".logic.azure.com", ".logic.azure.us", ".logic.azure.cn"),
            *(".api.powerplatform.com", ".api.gov.powerplatform.microsoft.us"),
            ".api.high.powerplatform.microsoft.us",
        ),
        path=r"/.+",
        query=("sig",),
        former_hosts=(".webhook.office.com", "outlook.office.com", "outlook.office365.com"),
        any_json=True,
        rate_per_second=4.0,
    )

    def render(self, event: Event, target: Target, now: datetime) -> Request:
        card = _card(message_of(event, target.language))
        attachment = {
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": None,
            "content": card,
        }
        return json_request(target, target.url, {"type": "message", "attachments": [attachment]})

    def judge(self, answer: Answer, now: datetime) -> Outcome:
        error = said(answer).get("error")
        if error is None and answer.status in (200, 202):
            # older doors told of failures in the text of a 200
            return unproven(answer) if b"error" in answer.body.lower() else delivered()
        code, words = None, ""
        if isinstance(error, dict):
            code, words = error.get("code"), str(error.get("message") or "")
        if says_limited(f"{code} {words}"):
            return failed(code or answer.status, words, wait_asked(answer, now), "rate limit")
        if code in _GONE:
            certain = not words or _WORKFLOW.search(words)
            return refused(code, words) if certain else doubted(code, words)
        if 200 <= answer.status < 300:
            return failed(code or answer.status, words)
        return judge_http(answer, now, words)


def _card(message: Message) -> dict[str, Any]:
    title = _run(message.title) | {
        "size": "Large",
        "weight": "Bolder",
        "color": _COLOURS[message.tone],
    }
    body: list[dict[str, Any]] = [_line(title), *(_line(_run(line)) for line in message.lines)]
    if message.preview is not None:
        alt = message.preview_text
        body.append({"type": "Image", "url": message.preview, "altText": alt, "size": "Stretch"})
    for fact in message.facts:
        label = _run(f"{fact.label}{message.colon}") | {"weight": "Bolder"}
        body.append(_line(label, _run(fact.value)))
    body.append(_line(_run(message.footer) | {"isSubtle": True, "size": "Small"}))
    return {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.5",
        "body": body,
        "actions": [
            {
                "type": "Action.OpenUrl",
                "title": fitted(link.text, _BUTTON, str),
                "url": link.url,
            }
            for link in message.links
        ],
    }


def _line(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": list(runs)}


def _run(text: str) -> dict[str, Any]:
    return {"type": "TextRun", "text": fitted(text, _LINE, str)}


SINK: Sink = Teams()
