"""What pages show by themselves after a while, without the while."""

from __future__ import annotations

import httpx
from playwright.async_api import Page

from tests.e2e.process import until
from tests.patience import PATIENCE_SECONDS

_SLOW_LOOK_MS = 10_000  # as in app.js


async def until_delivered(api: httpx.AsyncClient, delivery_id: str) -> None:
    async def is_delivered() -> bool:
        found = (await api.get(f"/v1/deliveries/{delivery_id}")).json()
        return bool(found["status"] == "delivered")

    await until(is_delivered, PATIENCE_SECONDS)


async def after_a_while(page: Page) -> None:
    """Let the page look again. page.clock.install() was called before."""
    await page.clock.fast_forward(_SLOW_LOOK_MS)
