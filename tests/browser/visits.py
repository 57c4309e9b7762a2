"""A person's visits: signed in with an API key of some scope, at a page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from playwright.async_api import BrowserContext, Page

from store.keys import Scope
from tests.browser.site import Site
from tests.browser.watch import Watch
from tests.browser.windows import Windows
from tests.seed.scene import KEYS

_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Visits:
    site: Site
    windows: Windows

    async def __call__(self, path: str, *, key: Scope | None = Scope.ADMIN, **window: Any) -> Page:
        """A new window at a page. key: who looks; None: nobody who signed in."""
        page = await self.windows.open(self.site.url, **window)
        if key is not None:
            await _sign_in(page.context, KEYS[key])
        await page.goto(path)
        return page

    def watch(self, page: Page) -> Watch:
        return self.windows.watch(page)


async def _sign_in(context: BrowserContext, key: str) -> None:
    """What the form on the page does, without waiting for pages; test_login.py uses the form."""
    found = _TOKEN.search(await (await context.request.get("/login")).text())
    assert found
    answer = await context.request.post(
        "/login", form={"form_token": found[1], "key": key}, max_redirects=0
    )
    assert answer.status == 303, await answer.text()
