"""Hostile calls of a live management API, custom headers among them, as rows of the corpus say."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import httpx
import pytest

from store.clock import ManualClock
from store.tables import subscriptions
from tests.app import ADMIN_KEY, SECURITY_HEADERS, Taskbell, good, problem
from tests.conftest import START
from tests.corpus.live import Server, answer, client, database_in, live
from tests.corpus.rows import (
    SLOWEST_SECONDS,
    Row,
    bodies,
    chosen,
    cpu_seconds,
    is_api,
    is_custom_header,
)
from tests.corpus.wire import wired

PLACES = {
    "/api/v1/subscribers": "/v1/subscriptions",
    "/api/v1/subscriptions": "/v1/subscriptions",
    "/api/v1/keys": "/v1/api-keys",
    "/api/v1/replay": "/v1/subscriptions/{SUB}/replay",
    "/api/v1/": "/v1/",
    "/dash": "/docs",
}
"""What the corpus calls our pages; the first that fits."""

HOOK = "http://93.184.216.34/hook"
HUSH = {"Authorization": "Bearer hush"}
WORD = r"[^\s\"'{}:,\[\]]{4,}"
OUR_WORDS = {"task.succeeded", "video", "admin"}


@dataclass(frozen=True, slots=True)
class Scene:
    """A Taskbell, a subscriber of it on this machine, and what stands for names in braces."""

    taskbell: Taskbell
    hook: Server
    names: Mapping[str, str]


@pytest.fixture(scope="module")
async def scene(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    url = database_in(tmp_path_factory.mktemp("api"), sqlite_template)
    with wired() as wire:
        wire.know({"*": ["93.184.216.34"]})
        async with Server().serving() as hook, live(url, ManualClock(START)) as taskbell:
            wire.leads["93.184.216.34", 80] = hook.end
            hook.script = answer(b"HTTP/1.1 500 x\r\ncontent-length: 13\r\n\r\nINTERNAL-BODY")
            plain, hushed = await taskbell.subscribe(HOOK), await taskbell.subscribe(headers=HUSH)
            names = {
                "KEY": ADMIN_KEY,
                "KEY_PREFIX": ADMIN_KEY[:8],
                "SUB": plain["id"],
                "SUB_WITH_AUTH_HEADER": hushed["id"],
            }
            yield Scene(taskbell, hook, names)


@pytest.mark.parametrize("row", chosen(is_api))
async def test_a_hostile_call_gets_its_verdict(
    row: Row, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    before = await scene.taskbell.rows(subscriptions)

    for _ in range(row.get("burst", 1)):
        reply, seconds = await call(row, scene)
        assert seconds < SLOWEST_SECONDS
        assert_verdict(row, reply)

    if row["expected"].get("stored") is False:
        assert await scene.taskbell.rows(subscriptions) == before
    assert not [record for record in caplog.records if record.exc_info]


def assert_verdict(row: Row, reply: httpx.Response) -> None:
    expected = row["expected"]
    assert reply.status_code in expected.get("status", [200]), reply.text[:300]
    for name, value in SECURITY_HEADERS.items():
        if name != "content-security-policy" or row["path"] != "/dash":  # a page has its own
            assert reply.headers[name] == value
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert expected.get("body_lacks", "\0") not in reply.text
    if reply.status_code >= 400:
        detail = problem(reply, reply.status_code)
        words = set(re.findall(WORD, detail)) - OUR_WORDS
        assert not words & {word for text in texts(row) for word in re.findall(WORD, text)}
    elif "rows_max" in expected:
        assert len(reply.json()["data"]) <= expected["rows_max"]


async def call(row: Row, scene: Scene) -> tuple[httpx.Response, float]:
    """Send a row's request from an address of its own; the answer, and the CPU seconds it took."""
    value = wish(row, scene.names)
    content = bodies(row)[0] if value is None else json.dumps(value).encode()
    number = int(row["id"][1:])  # for who guesses keys is slowed down by address
    address = f"198.18.{number // 250}.{number % 250}"
    async with client(scene.taskbell.app, address=address) as caller:
        start = cpu_seconds()
        reply = await caller.request(
            row.get("method", "GET"),
            place(row["path"], scene.names),
            headers=headers(row, scene.names),
            content=content or None,
        )
        return reply, cpu_seconds() - start


def headers(row: Row, names: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """A row's headers, and a good key unless it brings one, goes without or guesses."""
    given = [(name, braced(value, names)) for name, value in row.get("headers", ())]
    if "burst" in row:
        given.append(("Authorization", "Bearer a-wrong-key"))
    elif row.get("headers") != [] and "Authorization" not in dict(given):
        given.append(("Authorization", f"Bearer {ADMIN_KEY}"))
    return [(name.encode(), value.encode()) for name, value in given]


def place(path: str, names: Mapping[str, str]) -> str:
    """The page of ours, with its query as it is."""
    said, mark, query = braced(path, names).partition("?")
    theirs = next((theirs for theirs in PLACES if said.startswith(theirs)), "")
    ours = braced(PLACES.get(theirs, ""), names)
    return quote(ours + said.removeprefix(theirs), safe="/%~.:-_") + mark + query


def wish(row: Row, names: Mapping[str, str]) -> Any:
    """What a row sends; a subscription of the corpus is ours with other names."""
    value = row.get("value")
    if "value_gen" in row:
        number, _, name = row["value_gen"]["event_types"].partition(" x ")
        value = {**row["value_gen"], "event_types": [name] * int(number)}
    if isinstance(value, dict) and "event_types" in value:
        return {"url": HOOK, "types": value["event_types"]}
    if isinstance(value, dict) and "from" in value:
        return {"since": value["from"], "until": value["to"]}
    return value


def braced(text: str, names: Mapping[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda match: names[match[1]], text)


def texts(row: Row) -> list[str]:
    """Every text that a row's sender chose, but for what could be the name of a field."""
    query = parse_qsl(row["path"].partition("?")[2], keep_blank_values=True)
    asked = [text for name, value in query for text in [*odd(name), value]]
    return [*asked, *within(row.get("value")), row.get("body", "")]


def within(value: Any) -> list[str]:
    if isinstance(value, dict):
        pairs = value.items()
        return [text for name, each in pairs for text in [*odd(name), *within(each)]]
    if isinstance(value, list):
        return [text for each in value for text in within(each)]
    return [value] if isinstance(value, str) else []


def odd(name: str) -> list[str]:
    return [] if re.fullmatch(r"[\w.\[\]-]{0,60}", name, re.ASCII) else [name]


@pytest.mark.parametrize("row", chosen(is_custom_header))
async def test_a_hostile_header_is_refused_when_it_is_saved(row: Row, scene: Scene) -> None:
    wanted = {
        "url": HOOK,
        "allow_duplicate": True,
        "active": False,
        "headers": {row["name"]: row["value"]},
    }

    start = cpu_seconds()
    reply = await scene.taskbell.api.post("/v1/subscriptions", content=json.dumps(wanted))

    assert cpu_seconds() - start < SLOWEST_SECONDS
    assert reply.status_code in row["expected"]["status"]
    if reply.status_code == 422:
        detail = problem(reply, 422)
        hidden = [row["value"]] if re.fullmatch(r"[\w-]{1,64}", row["name"]) else [row["name"]]
        assert not [text for text in hidden if len(text) > 3 and text in detail]
        return
    made = good(reply, 201)
    assert made["headers"] == {row["name"]: "•••"}
    scene.hook.requests.clear()
    good(await scene.taskbell.api.post(f"/v1/subscriptions/{made['id']}/test"))
    [sent] = scene.hook.requests
    assert f"\r\n{row['name'].lower()}: {row['value']}\r\n".encode() in sent


async def test_a_query_of_thousands_of_parameters_is_refused_at_once(scene: Scene) -> None:
    query = "&".join(f"{number:x}" for number in range(12_000))  # what fits into a request's head

    start = cpu_seconds()
    reply = await scene.taskbell.api.get(f"/v1/events?{query}")

    assert problem(reply, 422).startswith("query parameter '0' is not known here; ")
    assert len(reply.content) < 1_000
    assert cpu_seconds() - start < SLOWEST_SECONDS
