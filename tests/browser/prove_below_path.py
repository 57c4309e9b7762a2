"""A dashboard below a path: what it loads, where it leads, and that it still hears of changes."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import expect

from tests.app import ADMIN_KEY
from tests.browser.site import serving
from tests.browser.windows import Windows
from tests.databases import copy_sqlite
from tests.seed.scene import Scene

PATH = "/tools/taskbell"


async def test_a_person_signs_in_looks_and_hears_of_a_new_task_below_the_path(
    seeded: tuple[Path, Scene], tmp_path: Path, windows: Windows
) -> None:
    template, scene = seeded
    url = copy_sqlite(template, tmp_path / "scene.db")
    async with serving(url, scene, {"PUBLIC_URL": f"http://127.0.0.1{PATH}"}) as site:
        page = await windows.open(site.url)
        await page.goto(f"{PATH}/events")
        await page.locator("input[name=key]").fill(ADMIN_KEY)
        async with page.expect_request(f"**{PATH}/live*"):
            await page.locator("main button").first.click()
        await expect(page).to_have_url(f"{site.url}{PATH}/events")

        task = await site.taskbell.track("brand-new")
        await expect(page.locator(f'a[href="{PATH}/tasks/{task["id"]}"]').first).to_be_visible()
        await page.locator(f'a[href="{PATH}/tasks/{task["id"]}"]').first.click()
        await expect(page).to_have_url(f"{site.url}{PATH}/tasks/{task['id']}")

        outside = [u for u in windows.watch(page).asked if not u.startswith(site.url + PATH)]
        await page.close()  # before its server goes
    assert outside == []
