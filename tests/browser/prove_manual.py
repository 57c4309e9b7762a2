"""/docs: the API's page, for everybody's eyes and hands."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.async_api import ViewportSize

from tests.browser.axe import cut_off, grave_findings, sticks_out
from tests.browser.visits import Visits

_PHONE = ViewportSize(width=320, height=568)


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_api_s_page_is_for_everybody(
    visit: Visits, theme: Literal["light", "dark"]
) -> None:
    page = await visit("/docs", key=None, theme=theme)

    assert await grave_findings(page) == []
    await page.set_viewport_size(_PHONE)
    assert await sticks_out(page) + await cut_off(page) == []
