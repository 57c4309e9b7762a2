"""Standard Webhooks with the stored body, or with what a shape makes of it, and CloudEvents headers in binary mode beside it."""

from __future__ import annotations

import json
from datetime import datetime

from dispatch.answers import judge_http
from dispatch.headers import with_custom
from dispatch.shape import shaped
from dispatch.signing import signed_headers
from dispatch.sink import Answer, Event, Outcome, Request, Sink, Target
from store.events import rfc3339


class Webhook:
    """The default format. Source of the ce- headers: CloudEvents 1.0.2, HTTP binding, 3.1."""

    name = "webhook"
    service = None

    def render(self, event: Event, target: Target, now: datetime) -> Request:
        body = event.body
        if target.shape is not None:
            body = shaped(target.shape, json.loads(body))
        ours = {
            "content-type": "application/json",
            **signed_headers(target.secrets, event.id, int(now.timestamp()), body),
            "ce-specversion": "1.0",
            "ce-id": event.id,
            "ce-type": event.type,
            "ce-source": event.source,
            "ce-time": rfc3339(event.time),
        }
        if event.subject:  # CloudEvents has no empty subject
            ours["ce-subject"] = event.subject
        return Request(target.url, with_custom(ours, target.headers), body, method=target.method)

    def judge(self, answer: Answer, now: datetime) -> Outcome:
        return judge_http(answer, now)


SINK: Sink = Webhook()
