"""CloudEvents in structured mode: the whole event is the body, signed like any other.

Source: CloudEvents 1.0.2, JSON format and HTTP binding 3.2, read 2026-11-20.
"""

from __future__ import annotations

import json
from datetime import datetime

from dispatch.answers import judge_http
from dispatch.headers import with_custom
from dispatch.shape import shaped
from dispatch.signing import signed_headers
from dispatch.sink import Answer, Event, Outcome, Request, Sink, Target
from store.events import rfc3339


class CloudEvents:
    """One CloudEvent a request; `data` is the stored event's, or what a shape makes of the event."""

    name = "cloudevents"
    service = None

    def render(self, event: Event, target: Target, now: datetime) -> Request:
        body = _structured(event, target.shape)
        ours = {
            "content-type": "application/cloudevents+json",
            **signed_headers(target.secrets, event.id, int(now.timestamp()), body),
        }
        return Request(target.url, with_custom(ours, target.headers), body, method=target.method)

    def judge(self, answer: Answer, now: datetime) -> Outcome:
        return judge_http(answer, now)


def _structured(event: Event, shape: str | None) -> bytes:
    attributes = {
        "specversion": "1.0",
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "time": rfc3339(event.time),
        "datacontenttype": "application/json",
    }
    if event.subject:  # CloudEvents has no empty subject
        attributes["subject"] = event.subject
    stored = json.loads(event.body)
    data = stored["data"] if shape is None else json.loads(shaped(shape, stored))
    return json.dumps(attributes | {"data": data}, separators=(",", ":")).encode()


SINK: Sink = CloudEvents()
