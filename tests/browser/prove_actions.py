"""What people do on the pages, with a mouse, with keys alone, and without JavaScript."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.server import LocalServer
from receiver.pages.session import LASTS
from store.events import Kind, Output, Status
from store.keys import Scope
from store.records import record
from tests import making
from tests.browser.screens import SCREENS
from tests.browser.visits import Visits
from tests.browser.ways import press
from tests.pages import Document
from tests.seed import hostile
from tests.seed.scene import KEYS


async def _signs_in(page: Page, scope: Scope) -> None:
    await page.get_by_label("API key").fill(KEYS[scope])
    await page.get_by_role("main").get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("javascript", [True, False])
async def test_a_person_signs_in_goes_where_they_wanted_and_signs_out(
    visit: Visits, javascript: bool
) -> None:
    wanted = f"/tasks/{visit.site.scene.tasks['failed']}"
    page = await visit(wanted, key=None, javascript=javascript)

    await _signs_in(page, Scope.READ)
    await expect(page).to_have_url(visit.site.url + wanted)
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("status").first).to_contain_text("signed out")
    await page.goto("/")

    await expect(page.get_by_label("API key")).to_be_focused()


async def test_a_wrong_key_is_said_to_be_wrong(visit: Visits) -> None:
    page = await visit("/login", key=None)
    visit.watch(page).expect("401")

    await page.get_by_label("API key").fill("tb_wrong_key")
    await page.keyboard.press("Enter")

    await expect(page.get_by_role("alert")).to_contain_text("not a valid API key")


@pytest.mark.parametrize("javascript", [True, False])
async def test_tasks_are_filtered_and_the_filters_taken_off_again(
    visit: Visits, javascript: bool
) -> None:
    page = await visit("/", javascript=javascript)
    rows = page.locator("tbody tr")

    await page.get_by_label("Status").select_option("failed")
    if not javascript:
        await page.get_by_role("button", name="Apply").click()
    await expect(rows).to_have_count(3)
    await page.get_by_role("link", name="Remove the filter").click()
    await expect(rows).to_have_count(50)
    await page.get_by_role("link", name="Older").click()

    await expect(page.get_by_role("link", name="Newer")).to_be_visible()


@pytest.mark.parametrize("javascript", [True, False])
async def test_a_task_is_opened_and_no_longer_tracked_after_a_second_question(
    visit: Visits, javascript: bool
) -> None:
    page = await visit("/?status=processing", key=Scope.WRITE, javascript=javascript)

    await page.locator(f"#{visit.site.scene.tasks['slow']} a").click()
    await page.get_by_text("Stop tracking").first.click()
    await page.get_by_role("button", name="Stop tracking").click()

    await expect(page.get_by_role("status").first).to_be_visible()
    await expect(page.locator("h1 + p")).to_contain_text("Canceled")
    assert await _status(visit, "slow") == "canceled"


async def test_escape_takes_the_second_question_back(visit: Visits) -> None:
    page = await visit(f"/tasks/{visit.site.scene.tasks['slow']}")
    question = page.locator("details.sure")

    await page.locator("details.sure summary").focus()
    await page.keyboard.press("Enter")
    await expect(question).to_have_attribute("open", "")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Escape")

    await expect(question).not_to_have_attribute("open", "")
    await expect(page.locator("details.sure summary")).to_be_focused()


async def test_who_may_only_read_finds_nothing_to_change_anywhere(visit: Visits) -> None:
    page = await visit("/login", key=Scope.READ)
    paths = [where(visit.site.scene) for group in SCREENS.values() for where in group.values()]

    offered = {}
    for path in paths:
        document = Document(await (await page.context.request.get(path)).text())
        actions = {form.attributes["action"] for form in document.all("form", method="post")}
        links = {link.attributes["href"] for link in document.all("a")}
        offered[path] = actions | (links & {"/subscriptions/new"})

    assert set().union(*offered.values()) == {"/settings", "/logout"}, offered


async def test_the_provider_is_asked_now(visit: Visits) -> None:
    page = await visit(f"/tasks/{visit.site.scene.tasks['slow']}", key=Scope.WRITE)

    await press(page.get_by_role("button", name="Ask the provider now"), "keys")

    await expect(page.get_by_role("status").first).to_contain_text("asked now")
    await expect(page.get_by_text("The next question is due now")).to_be_visible()


async def test_a_link_signs_in_once(visit: Visits) -> None:
    link = f"/login?once={visit.site.taskbell.service.once_links.issue()}"
    first, second = await visit(link, key=None), await visit(link, key=None)

    await press(first.get_by_role("button", name="Open the dashboard"), "keys")
    await expect(first.get_by_role("heading", level=1)).to_have_text("Tasks")
    visit.watch(second).expect("401")
    await press(second.get_by_role("button", name="Open the dashboard"), "mouse")

    await expect(second.get_by_role("alert")).to_contain_text("used already")


async def test_who_looks_on_for_too_long_is_asked_to_sign_in(visit: Visits) -> None:
    page = await visit("/subscriptions/new")
    visit.watch(page).expect("401")
    async with page.expect_response("**/live"):
        await page.goto("/deliveries")
    visit.site.clock.advance(seconds=LASTS.total_seconds())

    await page.locator("#live").dispatch_event("changed")

    await expect(page).to_have_url(f"{visit.site.url}/login?next=/deliveries")


async def test_a_change_appears_by_itself_and_the_focus_stays(visit: Visits) -> None:
    page = await visit("/")
    running = visit.site.scene.tasks["running"]
    row, other = page.locator(f"#{running}"), visit.site.scene.tasks["failed"]
    await expect(row).to_contain_text("Processing")
    await page.locator(f"#{other} a").focus()

    job = (await visit.site.taskbell.api.get(f"/v1/tasks/{running}")).json()["provider_task_id"]
    await visit.site.taskbell.push({"task_id": job, "status": "Success", "file_id": "1"})

    await expect(row).to_contain_text("Succeeded")
    await expect(page.locator("#news")).to_have_text("1 task changed")
    await expect(page.locator(f"#{other} a")).to_be_focused()


async def test_the_keyboard_reaches_everything_in_its_order_and_shows_where_it_is(
    visit: Visits,
) -> None:
    page = await visit("/")
    reached = []
    for _ in range(12):
        await page.keyboard.press("Tab")
        reached.append(await page.evaluate(_FOCUSED))

    assert all(each["seen"] for each in reached), reached
    assert [each["text"] for each in reached[:7]] == [
        *("Skip to the content", "Taskbell"),
        *("Tasks", "Events", "Subscriptions", "Deliveries", "Providers"),
    ]
    assert reached[-1]["place"] > reached[0]["place"]


_FOCUSED = """() => {
  const element = document.activeElement, style = getComputedStyle(element);
  return {
    text: element.textContent.trim(),
    seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0,
    place: [...document.querySelectorAll('*')].indexOf(element),
  };
}"""


async def test_the_skip_link_goes_to_the_content(visit: Visits) -> None:
    page = await visit("/")

    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")

    await expect(page.locator("#main")).to_be_focused()


async def test_language_and_theme_are_chosen_and_kept(visit: Visits) -> None:
    page = await visit("/?status=failed")

    await page.get_by_role("button", name="简体中文").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("任务")
    await expect(page.locator("tbody tr")).to_have_count(3)
    light = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    await page.get_by_role("button", name="主题").click()
    await page.get_by_role("button", name="主题").click()
    await page.goto("/")

    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") != light


async def test_hostile_text_stays_text(visit: Visits) -> None:
    page = await visit("/")
    await expect(page.get_by_text(hostile.SCRIPT).first).to_be_visible()

    await page.goto(f"/tasks/{visit.site.scene.tasks['hostile']}")
    await page.evaluate(
        "document.querySelectorAll('details.rest').forEach(each => each.open = true)"
    )

    await expect(page.get_by_text(hostile.SCRIPT).first).to_be_visible()
    await expect(page.locator("[onerror], img[src=x], a[href^='javascript:' i]")).to_have_count(0)
    await expect(page.get_by_text("1512529")).to_have_count(0)  # 191 * 7919


@pytest.fixture
async def pictures() -> AsyncIterator[tuple[str, list[str | None]]]:
    """Another host with pictures, and the referrers of who asked it."""
    asked: list[str | None] = []

    async def picture(request: Request) -> Response:
        asked.append(request.headers.get("referer"))
        return Response(b"<svg xmlns='http://www.w3.org/2000/svg'/>", media_type="image/svg+xml")

    async with LocalServer(Starlette(routes=[Route("/{name}", picture)])) as server:
        yield f"{server.url}/made.svg", asked


async def test_an_output_is_fetched_only_when_somebody_wants_to_see_it(
    visit: Visits, pictures: tuple[str, list[str | None]]
) -> None:
    url, asked = pictures
    task = await visit.site.taskbell.track("shown", kind="image")
    made = making.poll("shown", Status.SUCCEEDED, outputs=(Output(url=url, kind=Kind.IMAGE),))
    await visit.site.taskbell.service.store.write(record, made)
    page = await visit(f"/tasks/{task['id']}")
    visit.watch(page).expect("asked another host: .*made.svg")
    await _fetched_again(page)
    assert asked == []

    await page.get_by_text("Preview").click()
    await expect(page.locator("details > img")).to_be_visible()
    await _fetched_again(page)

    await expect(page.locator("details > img")).to_be_visible()
    assert asked == [None]


async def _fetched_again(page: Page) -> None:
    """Let the page do what it does when it hears of a change."""
    await page.evaluate(
        """() => new Promise((done) => {
          addEventListener("htmx:after:swap", done, { once: true });
          document.getElementById("live").dispatchEvent(new Event("changed"));
        })"""
    )


async def _status(visit: Visits, name: str) -> str:
    task = await visit.site.taskbell.api.get(f"/v1/tasks/{visit.site.scene.tasks[name]}")
    return str(task.json()["status"])
