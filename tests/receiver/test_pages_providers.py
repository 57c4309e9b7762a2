"""The screen of providers."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from receiver.pages.words import LANGUAGES
from receiver.provider import providers
from store.clock import ManualClock
from store.durations import EDGES
from store.events import Failure
from store.provider_states import Note, State, note_states
from store.tables import durations
from tests.app import Taskbell, good, minimax, problem, running
from tests.pages import Browser, Document, signed_in

KEY = "the-key-of-minimax-0123456789"


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    settings = {"MINIMAX_API_KEY": KEY, "MINIMAX_BASE_URL": "https://api.minimax.example/base"}
    async with running(sqlite_url, clock, settings) as taskbell:
        yield taskbell


@pytest.fixture
async def person(taskbell: Taskbell) -> Browser:
    return await signed_in(taskbell)


async def test_every_provider_is_there_also_before_anything_happened(
    person: Browser,
) -> None:
    for language in LANGUAGES:
        page = Document(await person.see(f"/providers?lang={language}"))
        for provider in providers().values():
            assert page.all("section", aria_labelledby=provider.name)
            assert provider.title in page.text


async def test_a_key_is_told_of_and_never_shown(taskbell: Taskbell, person: Browser) -> None:
    before = await person.see("/providers")
    taskbell.service.lately.asked("minimax", "processing")
    accepted = await person.see("/providers")
    taskbell.service.lately.asked("minimax", "key_refused")
    refused = await person.see("/providers")

    assert "API key set, not used yet" in before
    assert "API key accepted" in accepted
    assert "API key refused" in refused
    assert KEY not in before + accepted + refused
    assert "api.minimax.example" in before
    assert "ATLASCLOUD_API_KEY=…" in before
    assert "MINIMAX_API_KEY" not in before


async def test_the_day_is_counted(sqlite_url: str, clock: ManualClock) -> None:
    async with running(sqlite_url, clock) as taskbell:
        await taskbell.push({"challenge": "abc"})
        await taskbell.push(minimax("1", "Processing"))
        await taskbell.push(minimax("1", "Processing"))
        clock.advance(minutes=3)
        await taskbell.push(minimax("2"))
        person = await signed_in(taskbell)

        page = Document(await person.see("/providers"))

    assert "Pushes taken 3 2 × brought news 1 × said nothing new" in page.text
    assert "Challenges answered 1 New tasks 2 Ended by push 1 Ended by poll 0" in page.text
    assert "Open now 1 Oldest open 3 min ago" in page.text
    assert "Challenges 1, usually" in page.text
    assert "of 3 s allowed" in page.text


async def test_what_a_provider_says_is_text(taskbell: Taskbell, person: Browser) -> None:
    word = "<script>alert(1)</script>"
    taskbell.service.words.note(providers()["minimax"], word)
    taskbell.service.lately.asked("minimax", word)
    await taskbell.track("1", model=word, expect_push=True)

    page = await person.see("/providers")

    assert "<script>alert" not in page
    assert word in Document(page).text


async def test_durations_are_drawn_and_told(
    taskbell: Taskbell, person: Browser, clock: ManualClock
) -> None:
    counts = [0.0] * (len(EDGES) - 1)
    counts[bisect(EDGES, 40) - 1] = 20.0
    key = {"provider": "minimax", "model": "Hailuo", "kind": "video"}
    await taskbell.write(durations.insert().values(**key, counts=counts, learned_at=clock()))

    page = Document(await person.see("/providers"))

    [drawing] = page.all("svg", class_="taking")
    assert drawing.attributes["aria-label"] == "Median 38 s, nine of ten within 39 s"
    assert "Hailuo Video" in page.text


async def test_a_process_that_does_not_ask_says_who_does(person: Browser) -> None:
    page = Document(await person.see("/providers"))

    assert "Another process asks (TASKBELL_ROLES)." in page.text


REASON = Failure("unavailable", "MiniMax cannot answer now (GET api.minimaxi.com: 503)")


async def noted(taskbell: Taskbell, to: State, reason: Failure | None = None) -> None:
    note = Note("minimax", "MiniMax", to, reason=reason, asked_ago=timedelta(0))
    await taskbell.service.store.write(note_states, note)
    taskbell.service.known_states._read_at = -math.inf


@pytest.mark.parametrize(
    ("language", "banner", "why"),
    [
        ("en", "MiniMax is down for 0 s:", "MiniMax cannot answer now (GET"),
        ("zh", "MiniMax 不可用 已持续 0 秒：", "MiniMax 暂时不可用"),
    ],
)
async def test_every_page_tells_which_provider_is_down_until_it_is_back(
    taskbell: Taskbell, person: Browser, language: str, banner: str, why: str
) -> None:
    await noted(taskbell, State.DOWN, REASON)
    for path in ("/", "/events", "/subscriptions", "/deliveries", "/providers"):
        page = await person.see(f"{path}?lang={language}")
        told = Document(page)
        assert len(told.all("p", class_="outage")) == 1
        assert f"{banner} " in told.text
        assert why in told.text
        assert 'href="/providers#minimax"' in page

    await noted(taskbell, State.OK)
    assert "outage" not in await person.see("/")


@pytest.mark.parametrize(
    ("state", "badge"),
    [
        (State.OK, "Working"),
        (State.DEGRADED, "Partly failing"),
        (State.DOWN, "Down"),
        (State.NO_KEY, "No API key"),
        (State.IDLE, "Idle"),
    ],
)
async def test_a_provider_shows_its_state(
    taskbell: Taskbell, person: Browser, state: State, badge: str
) -> None:
    await noted(taskbell, state, REASON if state is State.DOWN else None)

    text = Document(await person.see("/providers")).text

    _, _, of_minimax = text.partition(" MiniMax minimax ")
    assert of_minimax.startswith(badge)
    assert (REASON.message in of_minimax) is (state is State.DOWN)


async def test_a_callback_url_is_listed_without_itself_and_revoked(
    taskbell: Taskbell, person: Browser
) -> None:
    empty = Document(await person.see("/providers"))
    made = good(
        await taskbell.api.post(
            "/v1/callback-urls", json={"provider": "minimax", "metadata": {"customer": "<42>"}}
        ),
        201,
    )
    listed = await person.see("/providers")
    await person.press("/providers", f"/providers/callback-urls/{made['id']}/revoke")
    revoked = Document(await person.see("/providers"))

    assert "None works at the moment." in empty.text
    assert made["url"].rpartition("/")[2] not in listed
    assert f"{made['id']} MiniMax customer=<42>" in Document(listed).text
    assert "The callback URL is revoked." in revoked.text
    assert made["id"] not in revoked.text
    problem(await taskbell.push(minimax(), urlsplit(made["url"]).path), 404)


async def test_who_may_only_read_can_revoke_none(taskbell: Taskbell) -> None:
    await taskbell.api.post("/v1/callback-urls", json={"provider": "minimax"})
    made = await taskbell.api.post("/v1/api-keys", json={"name": "viewer", "scope": "read"})
    reader = await signed_in(taskbell, good(made, 201)["key"])

    assert "/revoke" not in await reader.see("/providers")
