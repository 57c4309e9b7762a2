"""Browser windows, each with a profile of its own, and what they met with."""

from __future__ import annotations

from typing import Literal

from playwright.async_api import Browser, BrowserContext, Page

from tests.browser.watch import Watch
from tests.patience import PATIENCE_SECONDS

Language = Literal["en", "zh"]
Theme = Literal["light", "dark"]

_LOCALES = {"en": "en-GB", "zh": "zh-CN"}
"""For whatever a page is waited for."""


class Windows:
    """Opens windows and keeps them until close()."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._opened: list[tuple[BrowserContext, Watch]] = []

    async def open(
        self,
        origin: str,
        *,
        language: Language = "en",
        theme: Theme = "light",
        javascript: bool = True,
        size: tuple[int, int] = (1280, 800),
    ) -> Page:
        """An empty window for the pages of one server. origin: http://host:port."""
        width, height = size
        context = await self._browser.new_context(
            base_url=origin,
            locale=_LOCALES[language],
            color_scheme=theme,
            java_script_enabled=javascript,
            viewport={"width": width, "height": height},
            reduced_motion="reduce",
        )
        context.set_default_timeout(PATIENCE_SECONDS * 1000)
        self._opened.append((context, Watch(context, origin)))
        return await context.new_page()

    def watch(self, page: Page) -> Watch:
        """What is noted of a window."""
        return next(watch for context, watch in self._opened if context is page.context)

    async def close(self) -> list[str]:
        """Close them all; what troubles they had."""
        troubles = []
        for context, watch in self._opened:
            await context.close()
            troubles += watch.troubles
        self._opened.clear()
        return troubles
