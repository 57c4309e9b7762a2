"""The screen of subscriptions: what it shows, what it does, and what it keeps to itself."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.server import LocalServer
from receiver.pages.words import LANGUAGES
from store.claims import Claim, claim
from store.clock import ManualClock
from store.deliveries import Attempt, Finished, finish
from store.tables import subscriptions
from tests.app import Taskbell, good, minimax, running
from tests.pages import Browser, Document, signed_in

HOSTILE = '"><script>alert(1)</script><b>'
SECRET_PATH = "https://93.184.216.34/hooks/catch/8237423/hush-hush-1234"
LOOPBACK = {"ALLOW_NETWORKS": "127.0.0.0/8"}
SLACK = "https://hooks.slack.com/services/T00000000/B00000000/hushhushhushhushhushhush"


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock, LOOPBACK) as taskbell:
        yield taskbell


@pytest.fixture
async def admin(taskbell: Taskbell) -> Browser:
    return await signed_in(taskbell)


async def with_key(taskbell: Taskbell, scope: str) -> Browser:
    wish = {"name": scope, "scope": scope}
    made = good(await taskbell.api.post("/v1/api-keys", json=wish), 201)
    return await signed_in(taskbell, made["key"])


async def attempted(taskbell: Taskbell, *, delivered: bool, retry: timedelta | None = None) -> None:
    """One attempt at each delivery that is due."""
    store = taskbell.service.store
    taken = await store.write(claim, Claim("test", 10, timedelta(minutes=1)))
    for delivery in taken.deliveries:
        attempt = Attempt(delivery.event_time, timedelta(seconds=0.25), "x", 200)
        await store.write(finish, Finished(delivery, attempt, delivered, retry_in=retry))


async def actions(taskbell: Taskbell) -> list[str]:
    """What the audit has, newest first."""
    return [entry["action"] for entry in await taskbell.data("/v1/audit")]


def page_of(made: dict[str, Any]) -> str:
    return f"/subscriptions/{made['id']}"


# The list


async def test_every_state_of_the_list_can_be_shown(taskbell: Taskbell) -> None:
    person = await with_key(taskbell, "read")
    empty = [await person.see(f"/subscriptions?lang={language}") for language in LANGUAGES]
    await taskbell.subscribe(types=["task.failed"], filter={"data.task.model": "m"})
    one = [await person.see(f"/subscriptions?lang={language}") for language in LANGUAGES]
    none = [await person.see(f"/subscriptions?lang={each}&state=paused&q=x") for each in LANGUAGES]

    assert all("./deploy/run subscribe" in page for page in empty)
    assert all("https://93.184.216.34/hook" in page for page in one)
    for page in none:
        assert Document(page).all("a", href="/subscriptions?q=x")
        assert Document(page).all("a", href="/subscriptions?state=paused")


async def test_a_row_tells_how_the_day_went(taskbell: Taskbell, admin: Browser) -> None:
    await taskbell.subscribe(description="CRM")
    await taskbell.push(minimax())
    await attempted(taskbell, delivered=False, retry=timedelta(minutes=5))

    page = Document(await admin.see("/subscriptions"))

    assert "webhook · CRM Failing first failed now Every event about tasks" in page.text
    assert "0 delivered, 1 failed" in page.text
    assert "1 next in 5 min" in page.text
    assert page.all("svg", aria_label="Last 24 hours: 0 attempts delivered, 1 failed", role="img")


async def test_the_list_goes_on_where_it_ended(
    taskbell: Taskbell, admin: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.pages.subscriptions.LIMIT", 2)
    made = [await taskbell.subscribe(f"https://93.184.216.34/{number}") for number in range(3)]

    first = await admin.see("/subscriptions")
    older = re.search(r'href="(/subscriptions\?before=[^"]+)"', first)
    assert older is not None
    second = await admin.see(older[1])

    assert [page_of(each) in first for each in made] == [False, True, True]
    assert [f'href="{page_of(each)}"' in second for each in made] == [True, False, False]


# What is secret, and what is foreign


async def test_no_page_shows_a_url_that_is_a_secret(taskbell: Taskbell, admin: Browser) -> None:
    made = [
        await taskbell.subscribe(SECRET_PATH + "?token=hush", headers={"X-Key": "hush-header"}),
        await taskbell.subscribe(SLACK, format="slack"),
    ]

    pages = [await admin.see("/subscriptions")]
    for each in made:
        pages += [await admin.see(page_of(each)), await admin.see(f"{page_of(each)}/delete")]

    assert all("hush" not in page for page in pages)
    assert "https://93.184.216.34/…1234?…" in pages[0]
    assert "X-Key: •••" in Document(pages[1]).text


async def test_foreign_text_stays_text(taskbell: Taskbell, admin: Browser) -> None:
    made = await taskbell.subscribe(description=HOSTILE, metadata={HOSTILE: HOSTILE})
    await taskbell.push(minimax(), taskbell.path(metadata={HOSTILE: HOSTILE}))
    await taskbell.write(subscriptions.update().values(disabled_reason=HOSTILE))

    one = page_of(made)
    for path in ("/subscriptions", one, f"{one}/delete", f"{one}/rotate-secret"):
        page = await admin.see(path)
        assert "<script>alert" not in page
        assert HOSTILE in Document(page).text


# One of them


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"active": False},
        {"active": False, "disabled_reason": "410 Gone"},
        {"format": "from the future", "types": ["a.new.type"], "shape": "data"},
    ],
    ids=["active", "paused", "disabled", "newer"],
)
async def test_every_kind_of_subscription_has_its_page(
    taskbell: Taskbell, admin: Browser, values: dict[str, Any]
) -> None:
    made = await taskbell.subscribe(types=["task.*"])
    if values:
        await taskbell.write(subscriptions.update().values(values))

    for language in LANGUAGES:
        page = await admin.see(f"{page_of(made)}?lang={language}")
        assert made["id"] in page
        assert made["secret"] not in page


async def test_the_preview_is_made_of_the_newest_event_that_fits(
    taskbell: Taskbell, admin: Browser
) -> None:
    made = await taskbell.subscribe(shape="{told: data.task.provider_task_id}")
    await taskbell.push(minimax("4711"))

    page = await admin.see(page_of(made))

    assert '{ "told": "4711" }' in Document(page).text
    assert "webhook-signature: v1,•••" in page


async def test_without_such_an_event_a_sample_is_shown(taskbell: Taskbell, admin: Browser) -> None:
    made = await taskbell.subscribe(format="slack", url=SLACK, language="zh")

    page = Document(await admin.see(page_of(made)))

    assert "Made from a sample" in page.text
    assert "MiniMax-Hailuo-2.3" in page.text


async def test_a_shape_that_fails_on_a_real_event_says_why(
    taskbell: Taskbell, admin: Browser
) -> None:
    made = await taskbell.subscribe(shape="data.task.metadata.taskbell_test")
    await taskbell.push(minimax())

    page = Document(await admin.see(page_of(made)))

    assert "Nothing can be made of this event: the shape makes nothing of an event" in page.text


# What one does


async def test_pause_and_resume(taskbell: Taskbell, admin: Browser) -> None:
    made = await taskbell.subscribe()

    paused = await admin.press(page_of(made), f"{page_of(made)}/pause")
    while_paused = Document(await admin.see(page_of(made)))
    await taskbell.push(minimax())
    waiting = Document(await admin.see(page_of(made)))
    await admin.press(page_of(made), f"{page_of(made)}/resume")
    resumed = Document(await admin.see(page_of(made)))

    assert (paused.status_code, paused.headers["location"]) == (303, page_of(made))
    assert "Paused. What it wants is kept" in while_paused.text
    assert "1 delivery is kept, and sent when it is resumed." in waiting.text
    assert "The first of them expires" in waiting.text
    assert "It gets events again: what was kept goes out first" in resumed.text
    assert (await actions(taskbell))[:2] == ["subscription.resumed", "subscription.paused"]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_what_waits_can_be_skipped(taskbell: Taskbell, admin: Browser, language: str) -> None:
    made = await taskbell.subscribe(active=False)
    await taskbell.push(minimax())
    await admin.press(page_of(made), f"{page_of(made)}/resume", backlog="skip")
    resumed = Document(await admin.see(f"{page_of(made)}?lang={language}"))

    [delivery] = await taskbell.data("/v1/deliveries")
    assert (delivery["status"], delivery["last_error"]) == ("canceled", "skipped")
    assert ("canceled" if language == "en" else "已取消") in resumed.text


async def test_a_new_secret_is_shown_once_and_only_in_the_answer(
    taskbell: Taskbell, admin: Browser
) -> None:
    made = await taskbell.subscribe()
    path = f"{page_of(made)}/rotate-secret"

    answer = await admin.press(path, path)
    again = await admin.see(path)

    [secret] = set(re.findall(r"whsec_[A-Za-z0-9+/=]+", answer.text.replace("&#43;", "+")))
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert secret != made["secret"]
    assert secret not in str(answer.headers) + again + await admin.see(page_of(made))
    assert "whsec_" not in again
    assert (await actions(taskbell))[0] == "subscription.secret_rotated"


async def test_deleting_asks_first_and_tells_what_is_lost(
    taskbell: Taskbell, admin: Browser
) -> None:
    made = await taskbell.subscribe()
    await taskbell.push(minimax())
    path = f"{page_of(made)}/delete"

    question = Document(await admin.see(path))
    assert await taskbell.data("/v1/subscriptions")
    answer = await admin.press(path, path)

    assert "1 delivery waits, and will be canceled." in question.text
    assert answer.headers["location"] == "/subscriptions"
    assert await taskbell.data("/v1/subscriptions") == []
    await admin.see(page_of(made), 404)


async def test_subscribing(taskbell: Taskbell, admin: Browser) -> None:
    answer = await admin.press(
        "/subscriptions/new",
        "/subscriptions/new",
        url="https://93.184.216.34/new",
        format="webhook",
        language="zh",
        description="",
        service_secret="",
        **{"type:task.failed": "on", "type:delivery.dead": "on"},
    )

    [made] = await taskbell.data("/v1/subscriptions")
    assert answer.status_code == 200
    assert "whsec_" in answer.text
    assert (made["url"], made["language"]) == ("https://93.184.216.34/new", "zh")
    assert made["types"] == ["task.failed", "delivery.dead"]
    assert made["description"] is None


async def test_a_chat_has_no_secret_to_copy(taskbell: Taskbell, admin: Browser) -> None:
    answer = await admin.press(
        "/subscriptions/new", "/subscriptions/new", url=SLACK, format="slack"
    )

    [made] = await taskbell.data("/v1/subscriptions")
    assert (answer.status_code, answer.headers["location"]) == (303, page_of(made))


async def test_what_cannot_be_made_is_said_and_the_form_kept(
    taskbell: Taskbell, admin: Browser
) -> None:
    answer = await admin.press(
        "/subscriptions/new",
        "/subscriptions/new",
        url=f"http://10.0.0.1/{HOSTILE}",
        format="slack",
        description="kept",
        service_secret="hush",
        **{"type:task.failed": "on"},
    )

    page = Document(answer.text)
    assert answer.status_code == 422
    assert "Nothing was made: field 'url': the host is not a public address" in page.text
    assert page.all("input", name="description", value="kept")
    assert page.all("input", name="url", value=f"http://10.0.0.1/{HOSTILE}")
    assert page.all("option", value="slack", selected=None)  # type: ignore[arg-type]
    assert "hush" not in answer.text
    assert await taskbell.data("/v1/subscriptions") == []


# The test


async def tried(person: Browser, made: dict[str, Any]) -> httpx.Response:
    return await person.press(page_of(made), f"{page_of(made)}/test")


@pytest.mark.parametrize(("owner", "status"), [("first", 429), (None, 503)])
async def test_when_too_many_are_under_way_the_page_says_so(
    taskbell: Taskbell, admin: Browser, owner: str | None, status: int
) -> None:
    made = await taskbell.subscribe()
    strangers = taskbell.service.rooms.strangers

    with contextlib.ExitStack() as held:
        for _ in range(4 if owner else strangers.most):
            held.enter_context(strangers.one(owner))
        answer = await tried(admin, made)

    assert answer.status_code == status
    assert "Taskbell is busy" in answer.text
    assert "wrong keys" not in answer.text
    assert "event store" not in answer.text


async def test_a_test_says_what_came_back(taskbell: Taskbell, admin: Browser) -> None:
    async def hook(_request: Request) -> Response:
        return Response(json.dumps({"why": HOSTILE}) + "." * 5_000, 503)

    app = Starlette(routes=[Route("/hook", hook, methods=["POST"])])
    async with LocalServer(app) as server:
        made = await taskbell.subscribe(f"{server.url}/hook")
        to_admin = await tried(admin, made)
        to_writer = await tried(await with_key(taskbell, "write"), made)

    page = Document(to_admin.text)
    assert "The test failed HTTP status 503" in page.text
    assert "Reason answered 503" in page.text
    assert '{"why": ' in page.text
    assert "<script>alert" not in to_admin.text
    assert page.text.count(".") < 2_100
    assert "why" not in Document(to_writer.text).text
    assert "Answers are shown to admin keys." in to_writer.text


@pytest.mark.parametrize("status", [400, 401])
async def test_a_refused_test_leads_to_the_command_that_compares_signatures(
    taskbell: Taskbell, admin: Browser, status: int
) -> None:
    async def hook(_request: Request) -> Response:
        return Response(status_code=status)

    async with LocalServer(Starlette(routes=[Route("/hook", hook, methods=["POST"])])) as server:
        made = await taskbell.subscribe(f"{server.url}/hook")
        page = Document((await tried(admin, made)).text)

    assert "What it means" in page.text
    assert "taskbell verify" in page.text


async def test_a_page_behind_a_form_that_is_loaded_again_leads_back(
    taskbell: Taskbell, admin: Browser
) -> None:
    made = await taskbell.subscribe()

    answer = await admin.client.get(f"{page_of(made)}/test")

    assert (answer.status_code, answer.headers["location"]) == (303, page_of(made))


# Who may


async def test_who_may_only_read_finds_no_button_and_cannot_press_it(taskbell: Taskbell) -> None:
    made = await taskbell.subscribe()
    person = await with_key(taskbell, "read")

    listed, shown = await person.see("/subscriptions"), await person.see(page_of(made))
    asked = [
        await person.client.get(f"{page_of(made)}/{what}") for what in ("delete", "rotate-secret")
    ]
    blank = await person.client.get("/subscriptions/new")
    pressed = [
        await person.press("/subscriptions", path)
        for path in (
            *(f"{page_of(made)}/{what}" for what in ("pause", "resume", "test", "delete")),
            f"{page_of(made)}/rotate-secret",
            "/subscriptions/new",
        )
    ]

    for page in (listed, shown):
        forms = {form.attributes["action"] for form in Document(page).all("form")}
        assert forms <= {"/subscriptions", "/settings", "/logout"}
        assert "/subscriptions/new" not in page
        assert "/delete" not in page
    assert {answer.status_code for answer in [*asked, blank, *pressed]} == {403}
    assert (await taskbell.data("/v1/subscriptions"))[0]["active"] is True


async def test_a_form_without_its_token_is_refused(taskbell: Taskbell, admin: Browser) -> None:
    made = await taskbell.subscribe()

    answer = await admin.post(f"{page_of(made)}/delete", form_token="not ours")

    assert answer.status_code == 403
    assert await taskbell.data("/v1/subscriptions")
