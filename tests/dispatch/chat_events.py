"""Events for chats, as they are stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from dispatch.sink import Event
from store.text import json_bytes

AT = datetime(2026, 11, 21, 2, 55, 3, 250000, tzinfo=UTC)
VIDEO = {
    "url": "https://cdn.example/v.mp4?sign=a%2Bb&x=1",
    "kind": "video",
    "file_id": None,
    "expires_at": "2026-11-21T11:55:03.250000Z",
}
PICTURE = {"url": "https://cdn.example/p.png", "kind": "image", "file_id": None, "expires_at": None}
TASK: dict[str, Any] = {
    "id": "task_01kb3x0e5x",
    "provider": "minimax",
    "provider_task_id": "176843862716480",
    "family": "v1",
    "kind": "video",
    "model": "MiniMax-Hailuo-2.3",
    "status": "succeeded",
    "progress": 1.0,
    "outputs": [VIDEO],
    "error": None,
    "usage": {"seconds": 6, "cost_usd": 0.28},
    "metadata": {"customer": "42"},
    "version": 2,
    "created_at": "2026-11-21T02:53:43.000000Z",
    "finished_at": "2026-11-21T02:55:03.250000Z",
}


def about(event_type: str = "task.succeeded", *, late: bool = False, **task: Any) -> Event:
    """An event about TASK with other values."""
    data = {"task": {**TASK, **task}, "previous_status": "processing", "late": late}
    return event(event_type, data)


def event(kind: str, data: Any) -> Event:
    body = json_bytes({"id": "evt_01kb", "type": kind, "timestamp": "…", "data": data})
    return Event("evt_01kb", kind, "/taskbell/minimax", "task_01kb3x0e5x", AT, body)


def failure(code: str, message: str) -> Event:
    return about("task.failed", outputs=[], error={"code": code, "message": message})


DISABLED = event(
    "subscription.disabled", {"subscription": {"id": "sub_1", "reason": "answered 404: no_service"}}
)
DEAD = event(
    "delivery.dead",
    {
        "delivery": {
            "id": "dlv_1",
            "event_id": "evt_1",
            "event_type": "task.failed",
            "subscription_id": "sub_1",
            "attempts": 10,
            "last_error": "answered 500",
        }
    },
)

DOWN_PROVIDER = event(
    "provider.down",
    {
        "provider": {
            "name": "minimax",
            "title": "MiniMax",
            "state": "down",
            "reason": {"code": "unavailable", "message": "MiniMax cannot answer now (503)"},
            "since": "2026-11-21T02:53:43.000000Z",
        },
        "previous": {"state": "ok", "reason": None, "since": "2026-11-20T02:53:43.000000Z"},
    },
)
RECOVERED = event(
    "provider.recovered",
    {
        "provider": {
            "name": "acme",
            "title": "Acme Video",
            "state": "ok",
            "reason": None,
            "since": "2026-11-21T02:55:03.000000Z",
        },
        "previous": {"state": "down", "reason": None, "since": "2026-11-21T02:53:43.000000Z"},
    },
)

HOSTILE = [
    "<!channel> <!here|x> <@U123> <https://evil.example|click>",
    "@everyone @here @durov <@123> <@&5> @all",
    "**b** _i_ ~~s~~ `c` [click](https://evil.example) ![](https://evil.example/x.png) # h\n> q",
    '<b>x</b><script>alert(1)</script> &lt;b&gt; &amp; <at user_id="all">all</at> <font color=red>',
    "a\x00b\x1b[31m\x07\r\n\t\x85\u2028\u2029c",
    "\u202egpj.exe\u202c \u2066x\u2069 \u200f",
    "w" * 100_000,
    "元" * 100_000,
    "👨‍👩‍👧‍👦" * 3000,
    "x" * 119 + "👩🏽‍🚀" * 3,
    "half \ud83d and \udc00 half",
    "\\" * 5000,
    '"' * 5000,
    "@" * 5000,
    "&" * 5000,
    "{provider} {0} %s {",
    "z" + "\u0301" * 5000,
    "🇩🇪" * 400,
    "",
    " ",
]


def dressed_in(text: str) -> Event:
    """A task that says a text wherever the outside may say something."""
    body = {
        "data": {
            "task": {
                **TASK,
                "provider_task_id": text,
                "model": text,
                "provider_status": text,
                "outputs": [VIDEO, PICTURE, {"url": text, "kind": text, "expires_at": text}] * 2,
                "error": {"code": text, "message": text},
                "usage": {text: 3, "cost": 1e300},
                "metadata": {text: text, "b": [text], "c": {text: text}, "d": text},
            },
            "late": True,
        }
    }
    raw = json.dumps(body).encode()  # in ASCII: halves of pairs as escapes
    return Event("evt_01kb", "task.failed", "/taskbell/minimax", "task_01kb3x0e5x", AT, raw)
