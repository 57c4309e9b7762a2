"""What the dashboard is for: who knows nothing of it finds out why a delivery failed, and repeats it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from deploy.demo import stage
from deploy.demo.clock import QuickClock
from deploy.demo.server import LocalServer
from deploy.demo.simulator import Simulator
from deploy.demo.stage import Stage
from deploy.demo.stay import Behind
from deploy.demo.subscriber import Subscriber
from store.clock import system_clock
from tests.browser.live import after_a_while, until_delivered
from tests.browser.windows import Windows

_PATIENCE_MS = 60_000


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Stage]:
    """As `taskbell demo --stay`, only faster: a subscriber is a step behind, so deliveries die."""
    clock = QuickClock(system_clock(), factor=10)
    crm = Subscriber("", clock=clock)
    simulator = Simulator(
        stage.PROVIDER_KEY, seed=7, clock=clock, monotonic=clock.elapsed, durations=(5.0, 20.0)
    )
    async with (
        stage.set_up(
            f"sqlite:///{tmp_path / 'demo.db'}",
            simulator,
            Subscriber("", clock=clock),
            clock=clock,
            environment={"TASKBELL_RETRY_SCHEDULE": "3,6"},
        ) as scene,
        LocalServer(Behind(crm.app)) as server,
    ):
        wish = {"url": f"{server.url}/hook", "description": "CRM, a step behind"}
        crm.secret = (await scene.api.post("/v1/subscriptions", json=wish)).json()["secret"]
        yield scene


async def test_who_knows_nothing_finds_out_why_a_delivery_failed_and_repeats_it(
    demo: Stage, windows: Windows
) -> None:
    page = await windows.open(demo.url)
    page.set_default_timeout(_PATIENCE_MS)
    await page.goto(demo.sign_in)
    await page.get_by_role("button", name="Open the dashboard").click()
    await expect(page.get_by_role("heading", name="No task yet")).to_be_visible()

    for job in [stage.ATLAS_IMAGE] * 12:
        await demo.submit(job)
    succeeded = page.locator("tbody").get_by_text("Succeeded").first
    await expect(succeeded).to_be_visible(timeout=_PATIENCE_MS)
    await page.get_by_role("link", name="Deliveries").click()
    await page.get_by_role("link", name="Dead letters").click()
    await page.locator("tbody a.row-link").first.click()
    await expect(page.get_by_role("region", name="Why it died")).to_contain_text("answered 503")
    await expect(page.get_by_text("the CRM has not been told yet").first).to_be_visible()
    await page.clock.install()
    await page.get_by_role("button", name="Retry now").click()
    await expect(page.get_by_role("status").first).to_contain_text("tried again now")
    await until_delivered(demo.api, page.url.rpartition("/")[2])
    await after_a_while(page)

    await expect(page.locator("h1 + p")).to_contain_text("Delivered")
