"""The list of tasks and a task's page: in every state, in both languages, whatever providers say."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

import receiver.pages.tasks
import store.tasklist
from receiver.failures import Code
from receiver.pages.words import LANGUAGES, words
from receiver.provider import ProviderError, providers
from receiver.trouble import trouble_of
from store.clock import ManualClock
from store.events import Failure, Kind, Output, Status
from store.records import Report, record
from store.tables import tasks
from store.tasks import Later, Overdue, expire, reschedule
from tests.app import Taskbell, good, running
from tests.conftest import START
from tests.making import poll, push, registered
from tests.pages import Browser, Document, signed_in

OUTPUTS = (
    Output("https://cdn.example/a.png", Kind.IMAGE, expires_at=START + timedelta(days=1)),
    Output("https://cdn.example/a.mp4", Kind.VIDEO, expires_at=START + timedelta(seconds=1)),
    Output("https://cdn.example/a.mp3", Kind.AUDIO),
    Output("https://cdn.example/a"),
    Output(file_id="205258526306433"),
)
FAILURE = Failure("1026", "video description contains sensitive content")

STATES: dict[str, tuple[Report, ...]] = {
    "queued": (registered("queued"),),
    "processing": (registered("processing"), poll("processing", Status.PROCESSING, progress=0.62)),
    "succeeded": (registered("succeeded"), poll("succeeded", outputs=OUTPUTS)),
    "failed": (registered("failed"), poll("failed", Status.FAILED, error=FAILURE)),
    "canceled": (registered("canceled"),),
    "timed out": (registered("timed out", timeout=timedelta(seconds=1)),),
    "late": (registered("late", timeout=timedelta(seconds=1)),),
    "rescued": (registered("rescued", expect_push=True), poll("rescued")),
    "pushed": (push("pushed", trusted=True),),
    "unconfirmed": (push("unconfirmed"),),
    "held": (push("held", Status.PROCESSING), push("held", hold=True)),
}
SAID = {
    "queued": ["status.queued", "task.no_outputs_yet", "task.cancel", "task.next_asked"],
    "processing": ["status.processing", "tasks.progress"],
    "succeeded": ["kind.image", "kind.video", "kind.audio", "task.file", "task.by_poll"],
    "failed": ["status.failed", "task.error", "task.error_code"],
    "canceled": ["status.canceled", "task.why_ended"],
    "timed out": ["status.timed_out", "event.task.timed_out"],
    "late": ["status.succeeded", "event.task.timed_out", "tasks.late"],
    "rescued": ["tasks.rescued", "task.by_poll"],
    "pushed": ["task.no_outputs", "verdict.recorded", "task.by_push", "task.pushed"],
    "unconfirmed": ["tasks.unconfirmed"],
    "held": ["tasks.held", "verdict.held"],
}

SCRIPT = "<script>alert(1)</script>"
IMAGE = "\"'><img src=x onerror=alert(1)>"
_ROW = re.compile(r'<a class="row-link"[^>]*><code class="id">([^<]*)<')
HOSTILE = [SCRIPT, IMAGE, "javascript:alert(1)", "{{ 7 * 7 }} {% raw %}", "x‮gpj.exe", "&lt;b&#39;"]


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock) as taskbell:
        yield taskbell


async def told(taskbell: Taskbell, *reports: Report) -> str:
    """Record them; the task's id."""
    found = [await taskbell.service.store.write(record, report) for report in reports]
    assert found[-1].task is not None
    return found[-1].task.id


async def every_state(taskbell: Taskbell, clock: ManualClock) -> dict[str, str]:
    """A task in each state; their ids."""
    ids = {name: await told(taskbell, *reports) for name, reports in STATES.items()}
    good(await taskbell.api.post(f"/v1/tasks/{ids['canceled']}/cancel"))
    clock.advance(seconds=2)
    overdue = Overdue(10, timedelta(0), frozenset(), timedelta(minutes=1))
    await taskbell.service.store.write(expire, overdue)
    await told(taskbell, poll("late"))
    return ids


@pytest.mark.parametrize("language", LANGUAGES)
async def test_every_state_is_shown_in_every_language(
    taskbell: Taskbell, clock: ManualClock, language: str
) -> None:
    ids = await every_state(taskbell, clock)
    person, say = await signed_in(taskbell), words(language)

    listed = Document(await person.see(f"/?lang={language}"))
    for name, task_id in ids.items():
        page = Document(await person.see(f"/tasks/{task_id}?lang={language}"))
        for key in SAID[name]:
            beginning = say.texts[key].partition("{")[0]
            assert beginning in page.text, f"{name}: {key}"

    assert len(listed.all("tr")) == 1 + len(ids)
    assert say("tasks.rescued") in listed.text


async def test_previews_are_loaded_when_somebody_asks_for_them(taskbell: Taskbell) -> None:
    task_id = await told(taskbell, *STATES["succeeded"])
    person = await signed_in(taskbell)

    page = Document(await person.see(f"/tasks/{task_id}"))

    shown = [each.attributes["data-preview"] for each in page.all("details", class_="preview")]
    assert shown == ["image", "video", "audio"]
    assert not page.all("video")
    [picture] = page.all("img")  # within <noscript>, and not before the preview is opened
    assert (picture.attributes["loading"], picture.attributes["referrerpolicy"]) == (
        "lazy",
        "no-referrer",
    )
    for link in page.all("a", target="_blank"):
        assert link.attributes["rel"] == "noreferrer noopener"


# Hostile text


def said_by_a_stranger(text: str, scheme: str = "") -> Report:
    return push(
        "1",
        Status.FAILED,
        provider_status=text,
        model=text,
        family=text,
        kind=Kind.IMAGE,
        error=Failure(text, text * 100),
        outputs=(Output(f"{scheme}{text}", Kind.IMAGE), Output(file_id=text)),
        usage={text: text},
    )


def shape(html: str) -> list[tuple[str, list[str]]]:
    """The elements of a page, and the names of their attributes."""
    return [(each.tag, sorted(each.attributes)) for each in Document(html).elements]


@pytest.mark.parametrize("scheme", ["", "https://x.example/"])
async def test_hostile_text_is_text(taskbell: Taskbell, scheme: str) -> None:
    person = await signed_in(taskbell)
    for number, text in enumerate(HOSTILE):
        wild = await pages_about(person, taskbell, f"{number}", text, scheme)
        tame = await pages_about(person, taskbell, f"tame{number}", "a" * len(text), scheme)
        for page, other in zip(wild, tame, strict=True):
            assert shape(page) == shape(other)
            assert text in Document(page).text
            assert_safe_links(page)


async def pages_about(
    person: Browser, taskbell: Taskbell, name: str, text: str, scheme: str
) -> list[str]:
    """A task that is nothing but this text: its page, and the list with it alone."""
    start = registered(name, metadata={text: text, "prompt": text * 100})
    end = replace(said_by_a_stranger(text, scheme), provider_task_id=name)
    task_id = await told(taskbell, start, end)
    return [await person.see(path) for path in (f"/tasks/{task_id}", f"/?q={task_id}")]


def assert_safe_links(html: str) -> None:
    document = Document(html)
    for element in document.elements:
        for name in ("href", "src", "action", "data-url"):
            address = element.attributes.get(name) or "/"
            assert address.startswith(("/", "#", "https://x.example/")), address


async def test_a_hostile_search_is_text(taskbell: Taskbell) -> None:
    person = await signed_in(taskbell)
    for text in HOSTILE:
        wild, tame = [
            (await person.client.get("/", params={"q": wanted, "model": wanted})).text
            for wanted in (text, "a" * len(text))
        ]
        assert shape(wild) == shape(tame)
        assert text in Document(wild).text


# Looking through the list


async def names_on(person: Browser, path: str) -> list[str]:
    """The provider's ids of the tasks that a list shows."""
    return _ROW.findall(await person.see(path))


LOOKS = {
    "": ["4", "3", "2", "1"],
    "status=failed": ["2"],
    "status=": ["4", "3", "2", "1"],
    "provider=atlascloud": ["3"],
    "kind=video": ["4", "1"],
    "model=Hailuo": ["1"],
    "q=rare": ["4"],
    "q=RARE": ["4"],
    "q=%22%25_": [],
    "q=3": ["3"],
    "status=failed&kind=video": [],
    "unknown=1&q=%20%20": ["4", "3", "2", "1"],
}
"""What the list shows, by the query: of four tasks, which are 1 to 4."""


async def test_the_list_is_filtered(taskbell: Taskbell) -> None:
    await told(taskbell, registered("1", kind=Kind.VIDEO, model="Hailuo"))
    await told(taskbell, registered("2"), poll("2", Status.FAILED, error=FAILURE))
    await told(taskbell, registered("3", provider="atlascloud", kind=Kind.IMAGE))
    await told(taskbell, registered("4", kind=Kind.VIDEO, metadata={"customer": "a rare one"}))
    person = await signed_in(taskbell)

    assert {query: await names_on(person, f"/?{query}") for query in LOOKS} == LOOKS


async def test_a_filter_that_cannot_be_is_a_page_that_says_so(taskbell: Taskbell) -> None:
    person = await signed_in(taskbell)
    for query in ("status=done", "kind=x", "provider=A", "before=1", "q=%00"):
        page = Document(await person.see(f"/?{query}", 422))
        assert page.all("a", href="/")


async def test_each_filter_can_be_taken_away_alone(taskbell: Taskbell) -> None:
    person = await signed_in(taskbell)

    page = Document(await person.see("/?status=failed&q=nothing"))

    assert "No task fits these filters." in page.text
    links = {link.attributes["href"] for link in page.all("a")}
    assert {"/?status=failed", "/?q=nothing", "/"} <= links


async def test_an_empty_taskbell_says_how_to_fill_it(taskbell: Taskbell) -> None:
    page = Document(await (await signed_in(taskbell)).see("/"))

    commands = [
        button.attributes["data-copy"] or "" for button in page.all("button", type="button")
    ]
    assert [command.split()[1] for command in commands] == ["demo", "track", "callback-url"]


async def test_pages_lead_to_older_tasks_and_back(
    taskbell: Taskbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver.pages.tasks, "LIMIT", 2)
    for number in range(5):
        await told(taskbell, registered(str(number)))
    person = await signed_in(taskbell)

    seen = [await names_on(person, "/")]
    path = "/"
    for rel in ("next", "next", "prev", "prev"):
        path = await link(person, path, rel)
        seen.append(await names_on(person, path))

    assert seen == [["4", "3"], ["2", "1"], ["0"], ["2", "1"], ["4", "3"]]


async def link(person: Browser, path: str, rel: str) -> str:
    [found] = Document(await person.see(path)).all("a", rel=rel)
    return str(found.attributes["href"])


async def test_a_look_that_stopped_says_so_and_goes_on_with_the_same_filters(
    taskbell: Taskbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.tasklist, "STRETCH", 3)
    for number in range(5):
        await told(taskbell, registered(str(number), metadata={"n": f"needle {number == 0}"}))
    person = await signed_in(taskbell)

    page = Document(await person.see("/?q=needle+true"))
    [further] = [each for each in page.all("a") if each.attributes.get("rel") == "next"]

    assert "Looked through" in page.text
    assert await names_on(person, str(further.attributes["href"])) == ["0"]


WHY = {
    "en": "MiniMax does not know this task id",
    "zh": "MiniMax 不认识该任务号",
}


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_wrong_id_is_explained(sqlite_url: str, clock: ManualClock, language: str) -> None:
    async with running(sqlite_url, clock, {"MINIMAX_API_KEY": "k" * 40}) as taskbell:
        task = await taskbell.track("1")
        error = ProviderError("MiniMax: base_resp 2013", code=Code.NOT_FOUND, permanent=True)
        trouble = trouble_of(providers()["minimax"], error)
        fence = (await taskbell.rows(tasks))[0].poll_fence
        later = Later(task["id"], fence, timedelta(minutes=1), trouble=trouble)
        await taskbell.service.store.write(reschedule, later)
        person = await signed_in(taskbell)

        listed = await person.see(f"/?lang={language}")
        page = Document(await person.see(f"/tasks/{task['id']}?lang={language}"))

    assert words(language)("tasks.trouble") in listed
    assert WHY[language] in listed
    assert page.all("section", aria_labelledby="trouble")
    assert WHY[language] in page.text
    assert "base_resp 2013" in page.text
    assert page.text.count("MiniMax does not know this task id") == 1


@pytest.mark.parametrize(
    ("language", "words_of_the_code"),
    [("en", "refused as sensitive by MiniMax's content check"), ("zh", "未通过 MiniMax 内容审核")],
)
async def test_a_providers_code_is_told_in_words(
    sqlite_url: str, clock: ManualClock, language: str, words_of_the_code: str
) -> None:
    async with running(sqlite_url, clock) as taskbell:
        for report in STATES["failed"]:
            await taskbell.service.store.write(record, report)
        [task] = await taskbell.tasks()
        person = await signed_in(taskbell)

        page = Document(await person.see(f"/tasks/{task['id']}?lang={language}"))

    assert words_of_the_code in page.text
    assert FAILURE.message in page.text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"MINIMAX_API_KEY": "k" * 40}, "The provider will be asked now."),
        ({}, "no running Taskbell process has an API key for this provider"),
    ],
)
async def test_asking_now_says_when_nobody_can(
    sqlite_url: str, clock: ManualClock, settings: dict[str, str], said: str
) -> None:
    async with running(sqlite_url, clock, settings) as taskbell:
        task = await taskbell.track("1")
        person = await signed_in(taskbell)
        address = f"/tasks/{task['id']}"
        before = await person.see(address)
        await person.press(address, f"{address}/refresh")

        after = await person.see(address)

    assert said in after
    assert ("set MINIMAX_API_KEY where Taskbell runs" in before) is (not settings)
    assert ("The next question is due now" in before) is bool(settings)
