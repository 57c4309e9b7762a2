"""Every screen: in both languages and themes, at any width, for everybody's eyes and hands."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, ViewportSize

from tests.browser.axe import cut_off, grave_findings, sticks_out
from tests.browser.screens import OPEN_SCREENS, SCREENS
from tests.browser.visits import Visits

_ZOOMED = ViewportSize(width=640, height=400)  # 1280 x 800 at 200 %
_PHONE = ViewportSize(width=320, height=568)


@pytest.mark.parametrize("name", SCREENS)
async def test_a_screen_is_for_everybody(visit: Visits, name: str) -> None:
    page = await visit(SCREENS[name](visit.site.scene))

    assert await _faults(page) == []


@pytest.mark.parametrize("path", OPEN_SCREENS.values(), ids=OPEN_SCREENS)
async def test_what_comes_before_signing_in_is_for_everybody_too(visit: Visits, path: str) -> None:
    page = await visit(path, key=None)

    assert await _faults(page) == []


@pytest.mark.parametrize("path", ["/nowhere", "/tasks/task_00000000000000000000000000"])
async def test_so_is_a_page_that_is_not_there(visit: Visits, path: str) -> None:
    page = await visit("/")
    visit.watch(page).expect("console error: .* 404")

    await page.goto(path)

    assert await _faults(page) == []


async def _faults(page: Page) -> list[str]:
    """Of a page that is open in English and in light, and in Chinese and dark then."""
    faults = await grave_findings(page)
    for size in (_ZOOMED, _PHONE):
        await page.set_viewport_size(size)
        faults += [f"at {size['width']}: {fault}" for fault in await _does_not_fit(page)]
    await page.emulate_media(color_scheme="dark")
    await page.goto(f"{page.url}{'&' if '?' in page.url else '?'}lang=zh")
    assert await page.locator("html").get_attribute("lang") == "zh-Hans"
    return faults + await _does_not_fit(page) + await grave_findings(page)


async def _does_not_fit(page: Page) -> list[str]:
    return await sticks_out(page) + await cut_off(page)
