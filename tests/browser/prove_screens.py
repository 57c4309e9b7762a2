"""Every screen: in both languages and themes, at any width, for everybody's eyes and hands."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect

from receiver.pages.session import LASTS
from store.keys import Scope
from tests.app import AWAY
from tests.browser.axe import WHOLE, cut_off, faults, grave_findings, sticks_out, unfit
from tests.browser.screens import LISTS, OPEN_SCREENS, SCREENS
from tests.browser.site import Site, serving
from tests.browser.visits import Visits
from tests.browser.windows import Windows
from tests.conftest import START
from tests.seed.scene import KEYS, Scene

_NOTHING = Scene(START, {}, {}, {}, {})
_FIRST_KEY = {"API_KEY": KEYS[Scope.ADMIN]}  # for stores without any


@pytest.fixture
async def empty(sqlite_url: str) -> AsyncIterator[Site]:
    async with serving(sqlite_url, _NOTHING, _FIRST_KEY) as served:
        yield served


@pytest.fixture
async def away() -> AsyncIterator[Site]:
    """Its store cannot be reached."""
    async with serving(AWAY, _NOTHING, _FIRST_KEY) as served:
        yield served


@pytest.mark.parametrize("group", SCREENS)
async def test_the_screens_are_for_everybody(visit: Visits, group: str) -> None:
    page = await visit("/")

    found = [
        f"{name}: {fault}"
        for name, where in SCREENS[group].items()
        for fault in await _faults(page, where(visit.site.scene))
    ]

    assert found == []


async def test_so_is_what_comes_before_signing_in(visit: Visits) -> None:
    page = await visit("/login", key=None)

    found = [fault for path in OPEN_SCREENS.values() for fault in await _faults(page, path)]

    assert found == []


async def test_so_are_pages_that_are_not_there(visit: Visits) -> None:
    page = await visit("/")
    visit.watch(page).expect("console error: .* 404")

    found = await _faults(page, "/nowhere")
    found += await _faults(page, "/tasks/task_00000000000000000000000000")

    assert found == []


async def test_so_are_the_screens_of_an_empty_instance(empty: Site, windows: Windows) -> None:
    page = await Visits(empty, windows)("/")

    found = [fault for path in LISTS for fault in await _faults(page, path)]

    assert found == []


async def test_so_is_the_page_that_tells_that_the_store_is_away(
    away: Site, windows: Windows
) -> None:
    page = await Visits(away, windows)("/login", key=None)
    windows.watch(page).expect("503")

    await page.get_by_label("API key").fill(KEYS[Scope.WRITE])  # a session is a row: none is made
    await page.keyboard.press("Enter")

    await expect(page.get_by_role("main")).to_contain_text("503")
    assert await grave_findings(page) == []


async def test_who_was_signed_in_too_long_signs_in_again_and_goes_on(visit: Visits) -> None:
    page = await visit("/subscriptions/new")
    visit.site.clock.advance(seconds=LASTS.total_seconds())

    await page.reload()
    await page.get_by_label("API key").fill(KEYS[Scope.WRITE])
    await page.keyboard.press("Enter")

    await expect(page).to_have_url(f"{visit.site.url}/subscriptions/new")


async def test_the_api_s_page_is_for_everybody(visit: Visits) -> None:
    page = await visit("/docs", key=None)

    assert await faults(page) == []


async def _faults(page: Page, path: str) -> list[str]:
    """Of a page in English and in light, then in Chinese and in dark and on a phone."""
    await page.set_viewport_size(WHOLE)
    await page.emulate_media(color_scheme="light")
    await page.goto(path)
    found = await grave_findings(page) + await unfit(page)
    await page.emulate_media(color_scheme="dark")
    await page.goto(f"{path}{'&' if '?' in path else '?'}lang=zh")
    assert await page.locator("html").get_attribute("lang") == "zh-Hans"
    return found + await sticks_out(page) + await cut_off(page) + await grave_findings(page)
