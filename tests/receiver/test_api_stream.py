"""GET /v1/events/stream, as a client sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from starlette.types import Message

import receiver.feed
from receiver.feed import Feed
from receiver.problems import Problem
from receiver.sse import EventStream
from store.clock import ManualClock, monotonic
from store.eventlog import Wanted
from store.events import Status
from store.records import record
from store.tables import api_keys, counters, events
from tests.app import SECURITY_HEADERS, Taskbell, good, minimax, problem, running
from tests.making import poll
from tests.streams import SECONDS, WHOLE, Client, Sent, idle, listening, streaming


async def test_it_begins_now_and_shows_each_event_as_it_was_stored(taskbell: Taskbell) -> None:
    await taskbell.track("before")
    async with streaming(taskbell.app) as client:
        await taskbell.track("1")
        await taskbell.push(minimax("1"))
        sent = await client.wait_for(2)

    stored = (await taskbell.rows(events))[1:]
    assert [each.id for each in sent] == [row.cursor for row in stored]
    assert [each.event for each in sent] == ["task.queued", "task.succeeded"]
    for row in stored:
        block = b"id: %d\nevent: %s\ndata: %s\n\n" % (row.cursor, row.type.encode(), row.body)
        assert block in client.raw
    assert client.status == 200
    assert client.headers["content-type"] == "text/event-stream"
    assert (SECURITY_HEADERS | WHOLE).items() <= client.headers.items()
    assert client.raw.startswith(b"retry: 2000\n")


@pytest.mark.parametrize(
    ("query", "headers", "missed"),
    [
        ("after=0", {}, 0),
        ("after={1}", {}, 2),
        ("", {"last-event-id": "{2}"}, 3),
        ("after=0", {"last-event-id": "{2}"}, 3),  # a browser repeats its first address
        ("after={0}", {"last-event-id": ""}, 1),
    ],
)
async def test_it_goes_on_behind_a_cursor(
    small: Taskbell, query: str, headers: dict[str, str], missed: int
) -> None:
    for number in range(4):
        await small.track(str(number))
    every = [event["cursor"] for event in await small.events()]

    def filled(text: str) -> str:
        return text.format(*every)

    given = {name: filled(value) for name, value in headers.items()}
    async with streaming(small.app, filled(query), given) as client:
        await client.wait_for(4 - missed)
        await small.track("4")
        await client.wait_for(5 - missed)

    assert client.ids[:-1] == every[missed:]
    assert client.ids[-1] > every[-1]


async def test_it_begins_with_what_was_recorded_since(small: Taskbell, clock: ManualClock) -> None:
    for number in range(3):
        await small.track(str(number))
        clock.advance(minutes=1)
    every = [event["cursor"] for event in await small.events()]

    async with streaming(small.app, "since=2026-01-01T12:01:00Z") as client:
        await client.wait_for(2)
    async with streaming(small.app, "since=2026-01-01T12:59:00Z") as later:
        await small.track("3")
        await later.wait_for(1)

    assert client.ids == every[1:]
    assert later.ids[0] > every[-1]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("type=task.succeeded", ["task.succeeded"]),
        ("type=task.queued,task.failed", ["task.queued", "task.failed", "task.queued"]),
        ("type=task.*&provider=minimax", ["task.queued", "task.succeeded", "task.failed"]),
        ("provider=atlascloud", ["task.queued"]),
        ("task={one}", ["task.queued", "task.succeeded"]),
        ("task={one},{three}&type=task.queued", ["task.queued", "task.queued"]),
        ("type=delivery.dead,subscription.disabled", []),
    ],
)
async def test_events_are_filtered(small: Taskbell, query: str, wanted: list[str]) -> None:
    one = await small.track("1")
    await small.push(minimax("1"))
    await small.push(minimax("2", "Fail"))
    three = await small.track("3", provider="atlascloud")
    ids = {"one": one["id"], "three": three["id"]}

    async with streaming(small.app, f"after=0&{query.format(**ids)}") as client:
        sent = [each for each in await client.wait_for(len(wanted)) if each.id is not None]

    assert [each.event for each in sent] == wanted


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("type=task.nothing", {}),
        ("type=", {}),
        ("task=1", {}),
        ("task=task_01kdwpvng0jmwss390q20wa8r0,x", {}),
        ("provider=A", {}),
        ("provider=minimx", {}),
        ("provider=atlascloud,minimx", {}),
        ("after=-1", {}),
        ("after=1&after=2", {}),
        ("limit=1", {}),
        ("", {"last-event-id": "evt_1"}),
        ("", {"last-event-id": "-1"}),
        ("", {"last-event-id": "9223372036854775808"}),
        ("", {"last-event-id": "٣"}),
    ],
)
async def test_a_bad_wish_is_422(small: Taskbell, query: str, headers: dict[str, str]) -> None:
    given = {name: value.encode() for name, value in headers.items()}
    answer = await small.api.get(f"/v1/events/stream?{query}", headers=given)  # type: ignore[arg-type]

    problem(answer, 422)


async def test_it_needs_a_key_and_a_store(small: Taskbell, clock: ManualClock) -> None:
    problem(await small.door.get("/v1/events/stream"), 401)
    with contextlib.suppress(RuntimeError):
        small.service.store.close()
    problem(await small.api.get("/v1/events/stream"), 503)


async def test_it_ends_when_the_process_is_about_to_stop(small: Taskbell) -> None:
    async with streaming(small.app) as client:
        small.service.feed.end()
        await client.until(lambda: client.ended)

    assert client.sent == []
    problem(await small.api.get("/v1/events/stream"), 503)


async def test_a_client_that_left_is_forgotten(small: Taskbell) -> None:
    async with streaming(small.app):
        assert len(small.service.feed) == 1

    assert len(small.service.feed) == 0


async def test_a_question_for_the_head_alone_is_answered_and_over(small: Taskbell) -> None:
    answer = await small.api.head("/v1/events/stream")

    assert answer.status_code == 200
    assert len(small.service.feed) == 0


async def test_what_was_broken_off_goes_on_elsewhere_with_no_gap_and_no_repeat(
    taskbell: Taskbell,
) -> None:
    """A client that comes back again and again while events come."""
    done = asyncio.Event()

    async def make() -> None:
        for number in range(60):
            await taskbell.push(minimax(str(number), "Processing"))
            await taskbell.push(minimax(str(number)))
        done.set()

    making = asyncio.create_task(make())
    got: list[int] = []
    while not done.is_set() or len(got) < 120:
        last = {"last-event-id": str(got[-1] if got else 0)}
        async with streaming(taskbell.app, headers=last) as client:
            await client.wait_for(min(7, 120 - len(got)))
        got += client.ids  # also what came while it was leaving
    await making

    every = [event["cursor"] for event in await taskbell.all_pages("/v1/events", cursor="after")]
    assert got == every


async def test_another_process_hears_of_it_at_once(
    postgresql_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.rounds.LOOK_SECONDS", 60.0)
    monkeypatch.setattr(receiver.feed, "LOOK_SECONDS", 60.0)
    async with (
        running(postgresql_url, clock) as here,
        running(postgresql_url, clock) as there,
        streaming(there.app) as client,
    ):
        await listening(there.service.store)
        await here.track("1")

        [sent] = await client.wait_for(1)

    assert sent.event == "task.queued"


async def test_without_notices_another_process_hears_of_it_within_a_second(
    postgresql_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.notices.Notices.listen", lambda self: None)
    async with (
        running(postgresql_url, clock) as here,
        running(postgresql_url, clock) as there,
        streaming(there.app) as client,
    ):
        await here.track("1")

        [sent] = await client.wait_for(1)

    assert sent.event == "task.queued"


async def test_progress_is_told_to_who_names_the_task_and_has_no_id(
    small: Taskbell, clock: ManualClock
) -> None:
    task = await small.track("1")
    store = small.service.store
    async with streaming(small.app, f"task={task['id']}") as client:
        clock.advance(seconds=1)  # a row is new to who has seen it when its time is another
        await store.write(record, poll("1", Status.PROCESSING, progress=0.25))
        await client.until(lambda: moves(client, 0.25))

    [moved] = moves(client, 0.25)
    assert moved.id is None
    assert moved.data["type"] == "task.progress"
    assert moved.data["data"]["task"]["progress"] == 0.25
    shown = good(await small.api.get(f"/v1/tasks/{task['id']}"))
    assert moved.data["data"]["task"] == shown
    assert [event["type"] for event in await small.events()] == ["task.queued", "task.processing"]


def moves(client: Client, progress: float) -> list[Sent]:
    """Messages of progress that tell this one; one without progress may come before."""
    return [
        each
        for each in client.sent
        if each.event == "task.progress" and each.data["data"]["task"]["progress"] == progress
    ]


# A stream on its own

Admit = Callable[[], Awaitable[object]]


async def _welcome() -> None:
    pass


@contextlib.asynccontextmanager
async def alone(
    feed: Feed, *, admit: Admit = _welcome, take_seconds: float = SECONDS
) -> AsyncIterator[tuple[Client, asyncio.Task[None]]]:
    client = Client()
    stream = EventStream(feed, Wanted(), 0, admit, take_seconds=take_seconds)
    answering = asyncio.create_task(stream({"method": "GET"}, client.receive, client.send))
    await client.until(lambda: client.status)
    yield client, answering
    client.leave()
    client.reading.set()
    await asyncio.wait_for(answering, SECONDS)


async def test_an_idle_stream_sends_a_comment_now_and_then(small: Taskbell) -> None:
    now = 0.0
    feed = Feed(small.service.store, monotonic=lambda: now)
    async with alone(feed) as (client, _):
        await client.until(lambda: client.raw)
        for number in (1, 2):
            await idle(feed, 1)
            now += 15
            await feed.rounds.once()
            await client.until(lambda number=number: client.raw.count(b":\n") == number)

    assert client.raw == b"retry: 2000\n:\n:\n"


@pytest.mark.parametrize(("status", "ends"), [(401, True), (403, True), (503, False)])
async def test_a_key_that_was_revoked_hears_no_more(
    small: Taskbell, status: int, ends: bool
) -> None:
    now = 0.0
    feed = Feed(small.service.store, monotonic=lambda: now)

    async def refuse() -> None:
        raise Problem(status, "no longer")

    async with alone(feed, admit=refuse) as (client, answering):
        await idle(feed, 1)
        now += 15
        await small.track("1")
        await feed.rounds.once()
        await client.until(lambda: client.ended or client.sent)
        if ends:
            await asyncio.wait_for(answering, SECONDS)

    assert (client.sent == []) is ends


@pytest.mark.parametrize("how", ["revoked here", "revoked without a notice"])
async def test_a_stream_ends_with_its_key(taskbell: Taskbell, how: str) -> None:
    made = good(await taskbell.api.post("/v1/api-keys", json={"name": "k"}), 201)
    headers = {"authorization": f"Bearer {made['key']}"}
    async with streaming(taskbell.app, headers=headers) as client, streaming(taskbell.app) as other:
        await idle(taskbell.service.feed, 2)
        await taskbell.service.access.look()

        if how == "revoked here":
            await taskbell.api.delete(f"/v1/api-keys/{made['id']}")
        else:
            await taskbell.write(api_keys.delete())
            await taskbell.write(counters.insert().values(name="access", value=7))
            await taskbell.service.access.look()  # as the feed does, each second
        await client.until(lambda: client.ended)
        await taskbell.track("1")
        await other.wait_for(1)

    assert client.sent == []


async def test_a_feed_looks_each_second_whether_its_followers_may_still_hear(
    small: Taskbell,
) -> None:
    now, looks = 0.0, []

    async def look() -> None:
        looks.append(now)

    feed = Feed(small.service.store, monotonic=lambda: now)
    feed.check = look
    async with alone(feed):
        for seconds in (0.0, 0.5, 1.0, 1.2, 2.1):
            now = seconds
            await feed.rounds.once()

    assert looks == [0.0, 1.0, 2.1]


async def test_a_reader_that_takes_nothing_is_cut_off(small: Taskbell) -> None:
    feed = Feed(small.service.store, monotonic=monotonic)
    async with alone(feed, take_seconds=0.5) as (client, answering):
        await client.until(lambda: client.raw)
        await idle(feed, 1)
        client.reading.clear()
        await small.track("1")
        await feed.rounds.once()

        await asyncio.wait_for(answering, SECONDS)

    assert len(feed) == 0
    assert not client.ended  # the server closes the connection: the client must not take it for all


async def test_what_waits_for_a_slow_reader_is_bounded(small: Taskbell) -> None:
    """It is sent 64 KiB at a time, however much there is."""
    for number in range(60):
        await small.push(minimax(str(number), status_msg="x" * 3_000))
    sizes: list[int] = []
    done = asyncio.Event()

    async def send(message: Message) -> None:
        sizes.append(len(message.get("body", b"")))
        if sum(sizes) > 60 * 400:
            done.set()

    async def receive() -> Message:
        await done.wait()
        return {"type": "http.disconnect"}

    feed = Feed(small.service.store, monotonic=monotonic)
    await asyncio.wait_for(
        EventStream(feed, Wanted(), 0, _welcome)({"method": "GET"}, receive, send), SECONDS
    )

    longest = max(len(row.body) for row in await small.rows(events))
    assert max(sizes) < 64 * 1024 + longest + 100


async def test_every_message_is_whole_whatever_a_task_says(small: Taskbell) -> None:
    nasty = {"note": "a\n\nid: 1\r\ndata: \u2028\x85 ende", "emoji": "🎬"}
    async with streaming(small.app) as client:
        await small.track("1", metadata=nasty)
        [sent] = await client.wait_for(1)

    assert sent.data["data"]["task"]["metadata"] == nasty
    assert json.loads(json.dumps(sent.data)) == sent.data


async def test_it_is_documented_as_what_it_is(small: Taskbell) -> None:
    document = good(await small.door.get("/openapi.json"))

    operation = document["paths"]["/v1/events/stream"]["get"]
    assert list(operation["responses"]["200"]["content"]) == ["text/event-stream"]
    assert {each["name"] for each in operation["parameters"]} == {
        "after",
        "since",
        "type",
        "task",
        "provider",
    }
