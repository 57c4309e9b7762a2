"""Hostile forms for the pages of people who are signed in, as rows of the corpus say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import pytest

from store.clock import ManualClock
from tests.app import ADMIN_KEY, Taskbell, running
from tests.corpus.rows import Row, bodies, chosen, is_page
from tests.pages import Document, browser, signed_in


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock) as taskbell:
        yield taskbell


def is_login(row: Row) -> bool:
    return is_page(row) and "location" in row["expected"]


def is_form(row: Row) -> bool:
    return is_page(row) and not is_login(row)


@pytest.mark.parametrize("row", chosen(is_form))
async def test_a_form_of_another_site_changes_nothing(row: Row, taskbell: Taskbell) -> None:
    task = await taskbell.track()
    person = await signed_in(taskbell)
    session = "; ".join(f"{name}={value}" for name, value in dict(person.client.cookies).items())
    headers = {name: value.replace("{SESSION}", session) for name, value in row["headers"]}

    answer = await taskbell.door.request(
        row["method"], f"/tasks/{task['id']}/cancel", headers=headers, content=bodies(row)[0]
    )

    assert answer.status_code in row["expected"]["status"]
    assert Document(answer.text).all("h1")
    assert [each["status"] for each in await taskbell.tasks()] == ["queued"]


@pytest.mark.parametrize("row", chosen(is_login))
async def test_a_login_leads_to_no_other_site(row: Row, taskbell: Taskbell) -> None:
    person = browser(taskbell)
    [asked] = parse_qs(urlsplit(row["path"]).query)["next"]
    offered = Document(await person.see(row["path"])).all("input", name="next")

    for wanted in (asked, *(field.attributes["value"] for field in offered)):
        answer = await person.press(row["path"], row["path"], key=ADMIN_KEY, next=wanted)
        location = urlsplit(answer.headers["location"])
        assert (answer.status_code, location.scheme, location.netloc) == (303, "", "")
        assert location.path in ("/", "/login")
        person.client.cookies.clear()
