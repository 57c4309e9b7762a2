"""What people do about subscriptions: make one, try it out, stop it for a while, end it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import expect
from starlette.responses import Response

from store.keys import Scope
from tests.app import HOOK
from tests.browser.axe import faults
from tests.browser.site import Site, serving
from tests.browser.visits import Visits
from tests.browser.ways import Way, every_way, press, with_and_without_script
from tests.browser.windows import Windows
from tests.databases import copy_sqlite
from tests.dispatch.hook import Hook
from tests.seed.scene import Scene

_LOOPBACK = {"ALLOW_NETWORKS": "127.0.0.0/8"}
_SECRET = re.compile("^whsec_.{20,}$")


def _page_of(visit: Visits, name: str) -> str:
    return f"/subscriptions/{visit.site.scene.subscriptions[name]}"


@every_way
async def test_a_subscription_is_paused_resumed_and_deleted_after_a_second_question(
    visit: Visits, way: Way
) -> None:
    path = _page_of(visit, "slack")
    page = await visit(path, key=Scope.WRITE, javascript=way != "no script")
    said, state = page.get_by_role("status").first, page.locator("h1 + p")

    await press(page.get_by_role("button", name="Pause"), way)
    await expect(state).to_contain_text("Paused")
    await press(page.get_by_role("button", name="Resume"), way)
    await expect(said).to_contain_text("gets events again")
    await expect(state).to_contain_text("Active")
    await press(page.get_by_role("link", name="Delete"), way)
    await press(page.get_by_role("link", name="Leave it"), way)
    await expect(page).to_have_url(visit.site.url + path)
    await press(page.get_by_role("link", name="Delete"), way)
    await press(page.get_by_role("button", name="Delete"), way)

    await expect(said).to_contain_text("Deleted")
    await expect(page.get_by_text("#video-team")).to_have_count(0)


async def test_a_secret_is_made_anew_and_shown_once(visit: Visits) -> None:
    path = _page_of(visit, "pipeline")
    page = await visit(path, key=Scope.WRITE)

    await press(page.get_by_role("link", name="Rotate the secret"), "keys")
    await press(page.get_by_role("button", name="Rotate the secret"), "keys")
    await expect(page.get_by_text(_SECRET)).to_be_visible()
    found = await faults(page)
    await page.goto(page.url)
    await expect(page.get_by_text(_SECRET)).to_have_count(0)
    await page.go_back()

    await expect(page.get_by_text(_SECRET)).to_have_count(0)
    assert found == []


@every_way
async def test_somebody_is_subscribed_after_a_first_try_that_fails(visit: Visits, way: Way) -> None:
    page = await visit("/subscriptions", key=Scope.WRITE, javascript=way != "no script")
    visit.watch(page).expect("422")

    await press(page.get_by_role("link", name="New subscription"), way)
    await page.get_by_role("textbox", name="URL").fill("http://10.0.0.1/hook")
    await page.get_by_label("Description").fill("Ours")
    await page.get_by_label("task.failed").check()
    await press(page.get_by_role("button", name="Subscribe"), way)
    await expect(page.get_by_role("alert")).to_contain_text("Nothing was made")
    found = await faults(page) if way == "mouse" else []
    await expect(page.get_by_label("Description")).to_have_value("Ours")
    await page.get_by_role("textbox", name="URL").fill(HOOK)
    await press(page.get_by_role("button", name="Subscribe"), way)
    await expect(page.get_by_text(_SECRET)).to_be_visible()
    await press(page.get_by_role("link", name="I have it"), way)

    await expect(page.get_by_role("main")).to_contain_text("Ours")
    assert found == []


@pytest.fixture
async def hook(seeded: tuple[Path, Scene], tmp_path: Path) -> AsyncIterator[tuple[Site, Hook]]:
    """The pipeline on a socket of this machine."""
    template, scene = seeded
    database_url = copy_sqlite(template, tmp_path / "scene.db")
    async with (
        serving(database_url, scene, _LOOPBACK) as site,
        Hook(site.clock).served() as served,
    ):
        await site.move("pipeline", served.url)
        yield site, served


@with_and_without_script
async def test_a_test_says_what_was_answered(
    hook: tuple[Site, Hook], windows: Windows, way: Way
) -> None:
    site, served = hook
    visit = Visits(site, windows)
    page = await visit(_page_of(visit, "pipeline"), javascript=way != "no script")
    served.answers.append(Response("out of paper", 503))

    await press(page.get_by_role("button", name="Send a test"), way)
    await expect(page.get_by_role("heading", level=1)).to_have_text("The test failed")
    await expect(page.get_by_role("main")).to_contain_text("out of paper")
    found = await faults(page) if way == "mouse" else []
    await press(page.get_by_role("button", name="Send it again"), way)

    await expect(page.get_by_role("heading", level=1)).to_have_text("The test arrived")
    assert found == []
