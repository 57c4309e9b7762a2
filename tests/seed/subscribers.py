"""Who is subscribed in the scene, and how each of them answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from dispatch.signing import new_secret
from dispatch.sink import Answer
from receiver.api.destination import masked
from store.subscriptions import NewSubscription
from store.text import clean
from store.vault import Vault
from tests.seed import hostile

BROKEN_FOR = timedelta(hours=3)
"""How long ago the CRM stopped taking anything."""

Said = Answer | str
"""What came back, or why nothing did."""


@dataclass(frozen=True, slots=True)
class Subscriber:
    """name: what tests call it by. answers: how long before the scene's end, and which attempt."""

    name: str
    wish: NewSubscription
    answers: Callable[[timedelta, int], Said]


def subscribers(vault: Vault) -> list[Subscriber]:
    def wish(url: str, format_name: str = "webhook", **values: object) -> NewSubscription:
        secret = vault.lock(new_secret())
        return NewSubscription(url=url, format=format_name, secret_locked=secret, **values)  # type: ignore[arg-type]

    def chat(url: str, format_name: str, **values: object) -> NewSubscription:
        return wish(masked(url), format_name, url_locked=vault.lock(url), **values)

    ends = ("task.succeeded", "task.failed", "task.canceled")
    return [
        Subscriber(
            "pipeline",
            wish("https://app.example.com/hooks/taskbell", description="Video pipeline"),
            _well,
        ),
        Subscriber(
            "billing",
            wish(
                "https://billing.example.com/events",
                "cloudevents",
                description="Billing: what ended",
                types=ends,
                rate_per_second=20.0,
            ),
            _busy_now_and_then,
        ),
        Subscriber(
            "crm",
            wish(
                "https://crm.example.net/inbox?source=taskbell",
                description="The old CRM",
                headers_locked=vault.lock({"x-api-key": "never shown"}),
                header_names=("x-api-key",),
                max_in_flight=4,
            ),
            _broken,
        ),
        Subscriber(
            "lake",
            wish(
                "https://lake.example.org/ingest",
                description="数据湖：开始和结束",
                types=("task.processing", *ends),
            ),
            _well,
        ),
        Subscriber(
            "slack",
            chat(
                "https://hooks.slack.com/services/T00000000/B00000000/never-shown-anywhere",
                "slack",
                description="#video-team",
                types=("task.succeeded", "task.failed"),
                rate_per_second=1.0,
            ),
            lambda _ago, _attempt: _answer(200, b"ok"),
        ),
        Subscriber(
            "feishu",
            chat(
                "https://open.feishu.cn/open-apis/bot/v2/hook/never-shown-anywhere",
                "feishu",
                description="值班群：失败的任务",
                types=("task.failed", "delivery.dead", "subscription.disabled"),
                language="zh",
            ),
            lambda _ago, _attempt: _answer(200, b'{"code":0,"msg":"success"}'),
        ),
        Subscriber(
            "gone",
            wish(
                "https://sandbox.partner.example/hook",
                description="Partner's sandbox",
                types=("task.failed",),
            ),
            lambda _ago, _attempt: _answer(410, b"no longer here"),
        ),
        Subscriber(
            "former",
            wish("https://former.example/hook", description="Deleted at the end", types=ends),
            lambda ago, _attempt: _answer(204) if ago > BROKEN_FOR / 6 else "connection refused",
        ),
        Subscriber(
            "paused",
            wish("https://import.example.com/", description="Nightly import", active=False),
            _well,
        ),
        Subscriber(
            "hostile",
            wish(
                "https://shop.example/a?q=%3Cscript%3E&next=javascript:alert(1)",
                description=clean(hostile.TEXT),
                filter={"data.task.metadata.customer": hostile.SCRIPT},
                shape=r"{text: '<script>alert(\'hostile\')</script>', id: id}",
            ),
            lambda _ago, attempt: _answer(400 if attempt == 1 else 200, hostile.TEXT.encode()),
        ),
    ]


def _answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status, {"content-type": "text/plain", **headers}, body, 0.0)


def _well(_ago: timedelta, _attempt: int) -> Said:
    return _answer(204)


def _busy_now_and_then(ago: timedelta, attempt: int) -> Said:
    if attempt == 1 and int(ago.total_seconds()) % 5 == 0:
        return _answer(503, b"busy, come back", **{"retry-after": "30"})
    return _answer(202, b'{"accepted":true}')


def _broken(ago: timedelta, attempt: int) -> Said:
    if ago > BROKEN_FOR:
        return _answer(200, b"thanks")
    if attempt == 2:
        return "timed out after 15 s"
    if attempt == 3:
        return _answer(302, b"", location="https://crm.example.net/login")
    return _answer(500, b'{"error": "inbox: no space left on device", "trace": "b41f07c2"}')
