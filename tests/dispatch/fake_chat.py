"""Chat services that hold messages against their own rules, and answer as the real ones do.

The rules are from the same pages as the sinks; their code is not the sinks'.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.server import LocalServer
from dispatch.sink import Request
from store.clock import Clock
from tests.patience import PATIENCE_SECONDS

SECRET = "the secret of a robot"

Answers = tuple[int, Mapping[str, str], Any]


class Refused(Exception):
    """A message breaks a rule of its service."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a service was sent. now: unix seconds."""

    path: str
    query: Mapping[str, str]
    raw: bytes
    now: float

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass(frozen=True, slots=True)
class Fake:
    """One service. hook: path and query of a webhook. answers: by what has happened.

    wait: what its answer "limited" asks for. Answers: taken, limited, revoked, malformed (also for
    a message that breaks a rule), and refused with a status that says 200.
    """

    hook: str
    rules: Callable[[Call], None]
    answers: Mapping[str, Answers]
    wait: timedelta | None

    def check(self, request: Request, now: float) -> None:
        """Raises Refused when the service would not take it."""
        parts = urlsplit(request.url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self._check(Call(parts.path, query, request.body, now))

    def _check(self, call: Call) -> None:
        for text in texts(call.body):
            need(not _FOUL.search(text), f"holds what must not be shown: {text!a}")
        self.rules(call)


_FOUL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def need(true: object, what: str) -> None:
    if not true:
        raise Refused(what)


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def sized(text: str, most: int, what: str, size: Callable[[str], int] = utf16) -> None:
    need(text.strip(), f"{what} is empty")
    need(size(text) <= most, f"{what} has {size(text)}, over {most}")


def octets(text: str) -> int:
    return len(text.encode())


def web(url: str, most: int = 3000) -> None:
    need(re.fullmatch(r"https?://[!-~]+", url) and len(url) <= most, f"no web address: {url!a}")


# Slack

_NOT_ESCAPED = re.compile(r"[<>]|&(?!(?:amp|lt|gt);)")


def slack(call: Call) -> None:
    body = call.body
    need(len(body["blocks"]) <= 50, "over 50 blocks")
    need(body["parse"] == "none" and body["link_names"] is False, "names become mentions")
    shown = [body["text"]]
    for block in body["blocks"]:
        shown += _SLACK_BLOCKS[block["type"]](block)
    for text in shown:
        sized(text, 3000, "text")
        need(not _NOT_ESCAPED.search(text), f"not escaped: {text!r}")
    need(sum(map(utf16, shown)) <= 13_000, "msg_blocks_too_long")


def _slack_text(element: Mapping[str, Any], most: int) -> str:
    need(element["type"] == "plain_text" and element["emoji"] is False, "text with markup")
    sized(element["text"], most, "text")
    return str(element["text"])


def _slack_section(block: Mapping[str, Any]) -> list[str]:
    if "text" in block:
        return [_slack_text(block["text"], 3000)]
    need(1 <= len(block["fields"]) <= 10, "fields")
    return [_slack_text(each, 2000) for each in block["fields"]]


def _slack_image(block: Mapping[str, Any]) -> list[str]:
    web(block["image_url"])
    sized(block["alt_text"], 2000, "alt_text")
    return [block["alt_text"]]


def _slack_actions(block: Mapping[str, Any]) -> list[str]:
    need(1 <= len(block["elements"]) <= 25, "buttons")
    for button in block["elements"]:
        web(button["url"])
    return [_slack_text(each["text"], 75) for each in block["elements"]]


_SLACK_BLOCKS: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "header": lambda block: [_slack_text(block["text"], 150)],
    "section": _slack_section,
    "image": _slack_image,
    "actions": _slack_actions,
    "context": lambda block: [_slack_text(each, 3000) for each in block["elements"]],
}


# Discord


def discord(call: Call) -> None:
    body = call.body
    need(call.query.get("wait") == "true", "without wait nobody tells whether it was saved")
    need(body["allowed_mentions"] == {"parse": []}, "mentions are allowed")
    if "content" in body:
        web(body["content"], 2000)
    [embed] = body["embeds"]
    need(len(embed["fields"]) <= 25, "over 25 fields")
    sized(embed["title"], 256, "title")
    sized(embed["description"], 4096, "description")
    for each in embed["fields"]:
        sized(each["name"], 256, "name")
        sized(each["value"], 1024, "value")
    sized(embed["footer"]["text"], 2048, "footer")
    parts = [embed["title"], embed["description"]]
    parts += [part for each in embed["fields"] for part in (each["name"], each["value"])]
    need(sum(map(utf16, [*parts, embed["footer"]["text"]])) <= 6000, "over 6000 together")
    for part in parts:
        _discord_markup(part)


def _discord_markup(text: str) -> None:
    link = r"\[(?:[^\]\\]|\\.)*\]\(<https?://[^<>\s]+>\)"
    for line in text.split("\n"):
        bare = re.sub(r"\\.", "", "" if re.fullmatch(link, line) else line)
        need(not re.search(r"[\\*_~`|<>#@\[\]]", bare), f"markup: {line!r}")


# Feishu, Lark


def feishu(call: Call) -> None:
    body = call.body
    need(len(call.raw) <= 20 * 1024, f"{len(call.raw)} bytes, over 20 KB")
    if "sign" in body:
        key = f"{body['timestamp']}\n{SECRET}".encode()
        sign = hmac.new(key, digestmod=hashlib.sha256).digest()
        need(base64.b64decode(body["sign"]) == sign, "sign match fail")
        need(abs(int(body["timestamp"]) - call.now) < 3600, "timestamp is not within one hour")
    need(body["msg_type"] == "interactive" and body["card"]["schema"] == "2.0", "no card")
    _feishu_text(body["card"]["header"]["title"])
    need(body["card"]["body"]["elements"], "an empty card")
    for element in body["card"]["body"]["elements"]:
        need(element["tag"] in ("div", "button"), element["tag"])
        _feishu_text(element["text"])
        for behavior in element.get("behaviors", []):
            web(behavior["default_url"])


def _feishu_text(element: Mapping[str, Any]) -> None:
    need(element["tag"] == "plain_text", "text with markup")
    sized(element["content"], 5000, "text")


# DingTalk


def dingtalk(call: Call) -> None:
    body = call.body
    need(len(call.raw) <= 20_000, f"message too long, exceed 20000 bytes: {len(call.raw)}")
    need("access_token" in call.query, "token is not exist")
    if "sign" in call.query:
        signed = f"{call.query['timestamp']}\n{SECRET}".encode()
        sign = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
        need(base64.b64decode(call.query["sign"]) == sign, "sign not match")
        need(abs(int(call.query["timestamp"]) / 1000 - call.now) < 3600, "timestamp is too old")
    need(body["msgtype"] in ("markdown", "actionCard"), body["msgtype"])
    need("at" not in body, "mentions somebody")
    card = body[body["msgtype"]]
    sized(card["title"], 1000, "title")
    sized(card["text"], 10_000, "text")
    heading, *lines = card["text"].split("\n\n")
    need(heading.startswith("### "), "no heading")
    if lines[0].startswith("![]("):
        picture = lines.pop(0)
        need(re.fullmatch(r"!\[\]\(https?://[^()\s]+\)", picture), picture)
    for line in (heading.removeprefix("### "), *lines):
        need(not re.search(r"[*\[\]<>`~]|^[#>]|\n", line.removeprefix("- ")), f"markup: {line!r}")
    if body["msgtype"] == "actionCard":
        buttons = card.get("btns") or [
            {"actionURL": card["singleURL"], "title": card["singleTitle"]}
        ]
        for button in buttons:
            web(button["actionURL"])


# WeCom


def wecom(call: Call) -> None:
    body = call.body
    need("key" in call.query, "invalid webhook url")
    for text in texts(body):
        need(not re.search("<@", text), f"mention: {text!r}")
    if body["msgtype"] == "text":
        need(set(body["text"]) == {"content"}, "mentions somebody")
        sized(body["text"]["content"], 2048, "content", octets)
        return
    need(body["msgtype"] == "news", body["msgtype"])
    [article] = body["news"]["articles"]
    sized(article["title"], 128, "title", octets)
    sized(article["description"], 512, "description", octets)
    web(article["url"])
    if "picurl" in article:
        web(article["picurl"])


# Telegram


class _Html(HTMLParser):
    """What a text in Telegram's HTML says, when only b and a are used."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        need(tag in ("a", "b"), f"can't parse entities: unsupported start tag {tag}")
        if tag == "a":
            [(name, url)] = attrs
            need(name == "href", "an attribute")
            web(url or "")
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        need(self._open and self._open.pop() == tag, f"can't parse entities: {tag}")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise Refused(f"a comment: {data!r}")

    def handle_decl(self, decl: str) -> None:
        raise Refused(f"a declaration: {decl!r}")

    def handle_pi(self, data: str) -> None:
        raise Refused(f"an instruction: {data!r}")


def telegram(call: Call) -> None:
    body = call.body
    method = call.path.rpartition("/")[2]
    need(call.path == f"/bot1:abc/{method}", f"no such method: {call.path}")
    need(body["chat_id"] == "-100", "chat not found")
    need(body["parse_mode"] == "HTML", "parse_mode")
    if method == "sendMessage":
        _telegram_text(body["text"], 4096)
        return
    need(method in ("sendVideo", "sendPhoto"), method)
    _telegram_text(body["caption"], 1024)
    web(body["video" if method == "sendVideo" else "photo"])


def _telegram_text(text: str, most: int) -> None:
    parser = _Html()
    parser.feed(text)
    parser.close()
    sized(parser.text, most, "text")
    need(not re.search(r"@\w", parser.text), f"mention: {parser.text!r}")


# Teams


def teams(call: Call) -> None:
    need(len(call.raw) <= 28 * 1024, f"{len(call.raw)} bytes, over 28 KB")
    need("sig" in call.query, "DirectApiAuthorizationRequired")
    [attachment] = call.body["attachments"]
    need(attachment["contentType"] == "application/vnd.microsoft.card.adaptive", "no card")
    card = attachment["content"]
    need(card["type"] == "AdaptiveCard" and "msteams" not in card, "no plain card")
    for element in card["body"]:
        if element["type"] == "Image":
            web(element["url"])
            continue
        need(element["type"] == "RichTextBlock", f"{element['type']} knows Markdown")
        for run in element["inlines"]:
            need(run["type"] == "TextRun", run["type"])
            need(run["text"].strip(), "an empty run")
    for action in card["actions"]:
        need(action["type"] == "Action.OpenUrl", action["type"])
        web(action["url"])


FAKES: Mapping[str, Fake] = {
    "slack": Fake(
        "/services/T0/B0/hush",
        slack,
        {
            "taken": (200, {}, "ok"),
            "limited": (429, {"retry-after": "7"}, "rate_limited"),
            "revoked": (404, {}, "no_service"),
            "malformed": (400, {}, "invalid_payload"),
            "refused with 200": (200, {}, "no_text"),
        },
        timedelta(seconds=7),
    ),
    "discord": Fake(
        "/api/webhooks/1/hush",
        discord,
        {
            "taken": (200, {}, {"id": "1300", "type": 0}),
            "limited": (
                429,
                {"retry-after": "7"},
                {"message": "You are being rate limited.", "retry_after": 6.5, "global": False},
            ),
            "revoked": (404, {}, {"message": "Unknown Webhook", "code": 10015}),
            "malformed": (400, {}, {"message": "Invalid Form Body", "code": 50035}),
            "refused with 200": (200, {}, {"message": "not saved"}),
        },
        timedelta(seconds=6.5),
    ),
    **{
        name: Fake(
            "/open-apis/bot/v2/hook/hush",
            feishu,
            {
                "taken": (200, {}, {"StatusCode": 0, "StatusMessage": "success", "code": 0}),
                "limited": (200, {}, {"code": 11232, "msg": "frequency limited psm[x]"}),
                "revoked": (200, {}, {"code": 19001, "msg": "param invalid: incoming webhook"}),
                "malformed": (400, {}, {"code": 9499, "msg": "Bad Request", "data": {}}),
                "refused with 200": (200, {}, {"code": 19024, "msg": "Key Words Not Found"}),
            },
            timedelta(minutes=1),
        )
        for name in ("feishu", "lark")
    },
    "dingtalk": Fake(
        "/robot/send?access_token=hush",
        dingtalk,
        {
            "taken": (200, {}, {"errcode": 0, "errmsg": "ok"}),
            "limited": (200, {}, {"errcode": 410100, "errmsg": "send too fast"}),
            "revoked": (200, {}, {"errcode": 300005, "errmsg": "token is not exist"}),
            "malformed": (200, {}, {"errcode": 40035, "errmsg": "缺少参数 json"}),
            "refused with 200": (200, {}, {"errcode": 310000, "errmsg": "keywords not in content"}),
        },
        timedelta(minutes=10),
    ),
    "wecom": Fake(
        "/cgi-bin/webhook/send?key=hush",
        wecom,
        {
            "taken": (200, {}, {"errcode": 0, "errmsg": "ok"}),
            "limited": (200, {}, {"errcode": 45009, "errmsg": "api freq out of limit"}),
            "revoked": (200, {}, {"errcode": 93000, "errmsg": "invalid webhook url"}),
            "malformed": (200, {}, {"errcode": 40008, "errmsg": "invalid message type"}),
            "refused with 200": (200, {}, {"errcode": 40058, "errmsg": "exceed max length"}),
        },
        timedelta(minutes=1),
    ),
    "telegram": Fake(
        "/bot1:abc/sendMessage?chat_id=-100",
        telegram,
        {
            "taken": (200, {}, {"ok": True, "result": {"message_id": 1}}),
            "limited": (
                429,
                {},
                {
                    "ok": False,
                    "error_code": 429,
                    "description": "Too Many Requests: retry after 35",
                    "parameters": {"retry_after": 35},
                },
            ),
            "revoked": (401, {}, {"ok": False, "error_code": 401, "description": "Unauthorized"}),
            "malformed": (
                400,
                {},
                {
                    "ok": False,
                    "error_code": 400,
                    "description": "Bad Request: can't parse entities",
                },
            ),
            "refused with 200": (
                200,
                {},
                {"ok": False, "error_code": 400, "description": "Bad Request: chat not found"},
            ),
        },
        timedelta(seconds=35),
    ),
    "teams": Fake(
        "/workflows/1/triggers/manual/paths/invoke?api-version=1&sig=hush",
        teams,
        {
            "taken": (202, {}, ""),
            "limited": (429, {"retry-after": "7"}, {"error": {"code": "WorkflowRunLimit"}}),
            "revoked": (404, {}, {"error": {"code": "WorkflowNotFound", "message": "gone"}}),
            "malformed": (400, {}, {"error": {"code": "TriggerInputSchemaMismatch"}}),
            "refused with 200": (200, {}, "Webhook delivery failed with error: HTTP error 429"),
        },
        timedelta(seconds=7),
    ),
}


@dataclass
class FakeChat:
    """A service on a real socket. script: what happens to the next messages; then they are taken."""

    fake: Fake
    clock: Clock
    url: str = ""
    calls: list[Call] = field(default_factory=list)
    script: deque[str | Answers] = field(default_factory=deque)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def wait_for(self, count: int) -> None:
        """Return once that many messages came."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._news:
            await self._news.wait_for(lambda: len(self.calls) >= count)

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[FakeChat]:
        app = Starlette(routes=[Route("/{path:path}", self._take, methods=["POST"])])
        async with LocalServer(app) as server:
            self.url = f"{server.url}{self.fake.hook}"
            yield self

    async def _take(self, request: HttpRequest) -> Response:
        now = self.clock().timestamp()
        call = Call(request.url.path, dict(request.query_params), await request.body(), now)
        async with self._news:
            self.calls.append(call)
            self._news.notify_all()
        scripted = self.script.popleft() if self.script else "taken"
        try:
            self.fake._check(call)
        except Refused:
            scripted = "malformed"
        status, headers, body = (
            self.fake.answers[scripted] if isinstance(scripted, str) else scripted
        )
        content = body if isinstance(body, str) else json.dumps(body)
        return Response(content, status, headers=dict(headers))
