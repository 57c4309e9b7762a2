from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from store.clock import ManualClock
from tests.app import Taskbell, running
from tests.pages import Document, browser, signed_in


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock) as taskbell:
        yield taskbell


async def test_a_stranger_is_asked_to_sign_in_and_then_led_to_the_page(taskbell: Taskbell) -> None:
    person = browser(taskbell)

    sent_away = await person.client.get("/tasks/task_01kdwpvng0jmwss390q20wa8r0")
    let_in = await person.sign_in(next="/tasks/task_01kdwpvng0jmwss390q20wa8r0")

    assert sent_away.status_code == 303
    assert sent_away.headers["location"] == "/login?next=/tasks/task_01kdwpvng0jmwss390q20wa8r0"
    assert let_in.headers["location"] == "/tasks/task_01kdwpvng0jmwss390q20wa8r0"


async def test_the_list_shows_tasks_and_a_page_each(taskbell: Taskbell) -> None:
    task = await taskbell.track("115334141465231360", kind="video", model="MiniMax-Hailuo-2.3")
    person = await signed_in(taskbell)

    listed = Document(await person.see("/"))
    shown = Document(await person.see(f"/tasks/{task['id']}"))

    assert listed.all("a", href=f"/tasks/{task['id']}")
    assert "115334141465231360 MiniMax Queued no news MiniMax-Hailuo-2.3 Video" in listed.text
    assert "Became known to Taskbell" in shown.text
