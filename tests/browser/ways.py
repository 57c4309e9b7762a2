"""The ways in which people press things: each must do."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.async_api import Locator, Page, expect

Way = Literal["mouse", "keys", "no script"]

every_way = pytest.mark.parametrize("way", ["mouse", "keys", "no script"])
with_and_without_script = pytest.mark.parametrize("way", ["mouse", "no script"])

_TABS = 80
_HAS_FOCUS = "element => element === document.activeElement"


async def press(wanted: Locator, way: Way) -> None:
    """Click it, or walk to it with the Tab key and press Enter."""
    await expect(wanted).to_be_visible()
    if way != "keys":
        await wanted.click()
        return
    await _walk_to(wanted, wanted.page)
    await wanted.page.keyboard.press("Enter")


async def _walk_to(wanted: Locator, page: Page) -> None:
    for _ in range(_TABS):
        if await wanted.evaluate(_HAS_FOCUS):
            return
        await page.keyboard.press("Tab")
    pytest.fail(f"the Tab key does not reach {wanted}", pytrace=False)
