"""Hostile subscriber URLs: created, changed to, tried out, and delivered to by the live loops."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from store import subscriptions
from store.clock import ManualClock
from store.subscriptions import Edit
from tests.app import HOOK, Taskbell, good, minimax, problem
from tests.conftest import START
from tests.corpus.live import Server, answer, database_in, emptied, live, until
from tests.corpus.rows import SLOWEST_SECONDS, Row, chosen, cpu_seconds, is_url
from tests.corpus.wire import Wire, wired
from tests.dispatch.certificates import Authority

WORD = r"[^\s:/?#@\[\]\\,;']{4,}"
OUR_WORDS = {"http", "https", "user"}
SURROGATE = re.compile("[\ud800-\udfff]")  # no database keeps one
OPENED = "hook.good-example.net"


@dataclass(frozen=True, slots=True)
class Scene:
    """A Taskbell with one subscription, and the server its connections lead to."""

    taskbell: Taskbell
    clock: ManualClock
    wire: Wire
    hook: Server
    subscription: str

    async def create(self, url: object) -> httpx.Response:
        # in ASCII, half a pair of surrogates too; some are spellings of one URL
        wish = json.dumps({"url": url, "allow_duplicate": True, "active": False})
        return await self.taskbell.api.post("/v1/subscriptions", content=wish)

    async def change(self, url: object) -> httpx.Response:
        self.clock.advance(seconds=0.001)  # what was opened is remembered by the time of a change
        one = f"/v1/subscriptions/{self.subscription}"
        return await self.taskbell.api.patch(
            one, content=json.dumps({"url": url, "allow_duplicate": True})
        )

    async def point(self, url: str) -> None:
        """Have the subscription name a URL without anybody checking it."""
        self.clock.advance(seconds=0.001)
        edit = Edit(self.subscription, {"url": url})
        await self.taskbell.service.store.write(subscriptions.edit, edit)

    async def tried(self) -> dict[str, Any]:
        answer = await self.taskbell.api.post(f"/v1/subscriptions/{self.subscription}/test")
        trial: dict[str, Any] = good(answer)
        return trial

    async def attempted(self) -> dict[str, Any]:
        """Have something happen; the delivery after its first attempt."""
        await emptied(self.taskbell)
        good(await self.taskbell.push(minimax()))
        found: list[dict[str, Any]] = []

        async def over() -> bool:
            path = f"/v1/deliveries?subscription={self.subscription}"  # paused ones keep theirs
            found[:] = await self.taskbell.data(path)
            return (
                bool(found)
                and found[0]["status"] in ("pending", "delivered")
                and found[0]["attempt_count"] > 0
            )

        await until(over)
        return found[0]


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with wired() as made:
        yield made


@pytest.fixture(scope="module")
async def closed(
    wire: Wire, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """As it is installed."""
    url = database_in(tmp_path_factory.mktemp("closed"), sqlite_template)
    clock = ManualClock(START)
    async with Server().serving() as hook, live(url, clock) as taskbell:
        hook.script = answer(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        made = await taskbell.subscribe(HOOK)
        yield Scene(taskbell, clock, wire, hook, made["id"])


@pytest.fixture(scope="module")
async def opened(
    wire: Wire, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """With loopback opened by the operator, and a certificate for a server there."""
    folder = tmp_path_factory.mktemp("opened")
    authority = Authority(folder / "authority", OPENED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(authority.certificate))
        url, clock = database_in(folder, sqlite_template), ManualClock(START)
        async with (
            Server().serving(authority.server()) as hook,
            live(url, clock, ALLOW_NETWORKS="127.0.0.0/8") as taskbell,
        ):
            made = await taskbell.subscribe(HOOK)
            yield Scene(taskbell, clock, wire, hook, made["id"])


def blocked(row: Row) -> bool:
    return is_url(row) and row["expected"]["verdict"] == "blocked" and "response" not in row


def allowed(row: Row) -> bool:
    return is_url(row) and row["expected"]["verdict"] == "allowed" and "response" not in row


@pytest.mark.parametrize("row", chosen(blocked))
async def test_a_hostile_url_is_refused_and_never_connected_to(
    row: Row, closed: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    url, start = row["value"], cpu_seconds()
    names = row.get("dns", {})
    later = row["expected"]["reason"] == "dns" or rebinds(names)  # sound when it is saved

    closed.wire.know(names)
    created = await closed.create(url)
    closed.wire.know(names)
    changed = await closed.change(url)
    assert cpu_seconds() - start < SLOWEST_SECONDS
    if later:
        assert (created.status_code, changed.status_code) == (201, 200)
    else:
        for refusal in (created, changed):
            detail = problem(refusal, 422)
            assert detail.startswith("field 'url'")
            assert_not_repeated(url, detail)
    if row["expected"]["stage"] == "register":
        assert closed.wire.looked_up == []
    if isinstance(url, str) and not SURROGATE.search(url):
        await closed.point(url)
        trial, delivery = await closed.tried(), await closed.attempted()
        assert (trial["delivered"], trial["status_code"]) == (False, None)
        assert trial["reason"]
        assert (delivery["status"], delivery["last_error"]) == ("pending", trial["reason"])

    assert closed.wire.connected == []
    assert not [record for record in caplog.records if record.exc_info]


def rebinds(names: dict[str, Any]) -> bool:
    """Whether a name means something else at each look-up."""
    return any(isinstance(each, list) for answers in names.values() for each in answers)


def assert_not_repeated(value: object, said: str) -> None:
    """Nothing of a hostile value comes back, but a port, and words that we would say anyway."""
    words = re.findall(WORD, value) if isinstance(value, str) else []
    repeated = set(words) & set(re.findall(WORD, said)) - OUR_WORDS
    assert not [word for word in repeated if not re.fullmatch("[0-9]{1,5}", word)]


@pytest.mark.parametrize("row", chosen(allowed))
async def test_a_sound_url_is_connected_to_at_the_very_address_that_was_checked(
    row: Row, closed: Scene
) -> None:
    url, start = row["value"], cpu_seconds()
    parts = urlsplit(url)
    names = row.get("dns", {})
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    plain = parts.scheme == "http" and "[" not in parts.netloc  # as the server speaks
    ends = {(text, port) for answers in names.values() for text in answers}
    ends = ends or {(str(parts.hostname), port)}
    closed.wire.know(names)
    closed.wire.leads = dict.fromkeys(ends, closed.hook.end) if plain else {}

    good(await closed.create(url), 201)
    good(await closed.change(url))
    assert cpu_seconds() - start < SLOWEST_SECONDS
    trial, delivery = await closed.tried(), await closed.attempted()

    assert set(closed.wire.connected) == ends
    assert trial["delivered"] is plain, trial
    assert delivery["status"] == ("delivered" if plain else "pending")


@pytest.mark.parametrize("row", chosen(lambda row: is_url(row) and "response" in row))
async def test_a_hostile_redirect_is_a_failed_attempt_and_leads_nowhere(
    row: Row, opened: Scene
) -> None:
    fields = [f"{name}: {value}\r\n" for name, value in row["response"].get("headers", [])]
    head = f"HTTP/1.1 {row['response']['status']} x\r\n{''.join(fields)}content-length: 0\r\n\r\n"
    opened.hook.script = answer(head.encode())
    opened.wire.know(row["dns"])
    opened.wire.leads = {("127.0.0.1", 443): opened.hook.end}

    good(await opened.change(row["value"]))
    trial, delivery = await opened.tried(), await opened.attempted()

    assert (trial["delivered"], trial["status_code"]) == (False, row["response"]["status"])
    assert (delivery["status"], delivery["attempt_count"]) == ("pending", 1)
    assert set(opened.wire.connected) <= {("127.0.0.1", 443)}


async def test_a_connection_that_ends_elsewhere_gets_nothing(closed: Scene) -> None:
    closed.wire.know({"moved.example.com": ["93.184.216.34"]})
    closed.wire.leads = {("93.184.216.34", 8080): closed.hook.end}
    closed.hook.requests.clear()
    good(await closed.change("http://moved.example.com:8080/"))

    closed.wire.honest = True  # as when something on this machine took the connection over
    trial = await closed.tried()
    closed.wire.honest = False

    assert closed.wire.connected == [("93.184.216.34", 8080)]
    assert trial["reason"] == "address refused: the host is not a public address"
    assert closed.hook.requests == []
