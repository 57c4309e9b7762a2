"""What people do about events and deliveries: find out, send again, and see it arrive."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.async_api import expect

from store.keys import Scope
from store.tables import deliveries
from tests.browser.live import after_a_while, until_delivered
from tests.browser.site import Site, serving
from tests.browser.visits import Visits
from tests.browser.ways import Way, every_way, press, with_and_without_script
from tests.browser.windows import Windows
from tests.conftest import START
from tests.databases import copy_sqlite
from tests.dispatch.hook import Hook
from tests.seed.scene import Scene

_SENDS = {"ROLES": "receive,dispatch", "ALLOW_NETWORKS": "127.0.0.0/8"}
_MUCH_LATER = START + timedelta(days=1)


@pytest.fixture
async def mended(seeded: tuple[Path, Scene], tmp_path: Path) -> AsyncIterator[tuple[Site, Hook]]:
    """The scene with somebody who sends, and the old CRM, which takes everything again."""
    template, scene = seeded
    database_url = copy_sqlite(template, tmp_path / "scene.db")
    async with (
        serving(database_url, scene, _SENDS) as site,
        Hook(site.clock).served() as hook,
    ):
        # who fails gets one at a time, and the one in flight would hold its place for ever here
        under_way = deliveries.update().where(deliveries.c.status == "in_flight")
        await site.taskbell.write(under_way.values(status="pending", due_at=_MUCH_LATER))
        await site.move("crm", hook.url)
        yield site, hook


@every_way
async def test_a_dead_delivery_is_understood_tried_again_and_seen_to_arrive(
    mended: tuple[Site, Hook], windows: Windows, way: Way
) -> None:
    site, hook = mended
    visit = Visits(site, windows)
    page = await visit("/deliveries", key=Scope.WRITE, javascript=way != "no script")
    await page.clock.install()
    dead = site.scene.deliveries["crm", "dead"]

    await press(page.get_by_role("link", name="Dead letters"), way)
    await press(page.locator(f"#{dead} a.row-link"), way)
    await expect(page.get_by_role("region", name="Why it died")).to_contain_text("answered 500")
    await press(page.get_by_role("button", name="Retry now"), way)
    await expect(page.get_by_role("status").first).to_contain_text("tried again now")
    await until_delivered(site.taskbell.api, dead)
    if way == "no script":
        await page.reload()
    else:
        await after_a_while(page)

    await expect(page.locator("h1 + p")).to_contain_text("Delivered")
    await expect(page.get_by_role("button", name="Retry now")).to_have_count(0)
    assert len(hook.taken) == 1


@with_and_without_script
async def test_dead_deliveries_are_counted_and_replayed_together(
    mended: tuple[Site, Hook], windows: Windows, way: Way
) -> None:
    site, hook = mended
    visit = Visits(site, windows)
    path = f"/deliveries?status=dead&subscription={site.scene.subscriptions['crm']}"
    page = await visit(path, key=Scope.WRITE, javascript=way != "no script")

    await press(page.get_by_role("link", name="Replay"), way)
    question = page.get_by_role("heading", level=1)
    await expect(question).to_have_text("Replay 19 dead deliveries?")
    await page.get_by_label("Of events recorded").select_option("1")
    if way == "no script":
        await page.get_by_role("button", name="Count").click()
    await expect(question).to_have_text("Nothing to replay")
    await page.go_back()
    await press(page.get_by_role("button", name="Replay them"), way)
    await expect(page.get_by_role("status").first).to_contain_text("on their way again")
    await hook.wait_for(19)
    await page.goto(path)

    await expect(page.get_by_text("dead deliveries wait")).to_have_count(0)


@every_way
async def test_an_event_is_replayed_to_all_and_to_one(visit: Visits, way: Way) -> None:
    scene = visit.site.scene
    path = f"/events/{scene.events['usual 3']}"
    page = await visit(path, key=Scope.WRITE, javascript=way != "no script")
    said = page.get_by_role("status").first
    again = page.get_by_role("button", name="Deliver it again")

    await press(page.locator("details.sure summary"), way)
    await press(again, way)
    await expect(said).to_contain_text("on its way again")
    await expect(page.get_by_role("row").filter(has_text="Waiting").nth(1)).to_be_visible()
    await press(page.locator("details.sure summary"), way)
    await page.get_by_label("To").select_option(scene.subscriptions["hostile"])
    await press(again, way)

    await expect(said).to_contain_text("on its way again")
    await expect(page).to_have_url(re.compile("/deliveries/dlv_"))
    await expect(page.locator("h1 + p")).to_contain_text("Waiting")


async def test_an_event_is_copied_as_curl(visit: Visits) -> None:
    event = visit.site.scene.events["usual 3"]
    page = await visit(f"/events/{event}", key=Scope.READ)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    command = page.get_by_role("region", name="As curl").locator(".command").first

    await press(command.get_by_role("button", name="Copy"), "keys")

    await expect(command.get_by_role("button")).to_have_text("Copied")
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied == await command.locator("code").text_content()
    assert f"{visit.site.url}/v1/events/{event}" in copied


@with_and_without_script
async def test_events_and_deliveries_are_filtered(visit: Visits, way: Way) -> None:
    page = await visit("/events", javascript=way != "no script")

    await page.get_by_label("Type").select_option("task.timed_out")
    if way == "no script":
        await page.get_by_role("button", name="Apply").click()
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.goto("/deliveries?status=delivered")
    await page.get_by_label("Subscription").select_option(visit.site.scene.subscriptions["feishu"])
    if way == "no script":
        await page.get_by_role("button", name="Apply").click()
    await expect(page.get_by_role("link", name="Remove the filter")).to_have_count(2)
    rows = page.locator("tbody tr")

    assert await rows.count() == await rows.filter(has_text="值班群").count() > 0
