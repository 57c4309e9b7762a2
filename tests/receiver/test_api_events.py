from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from store.clock import ManualClock
from store.retention import Prune, prune
from tests.app import Taskbell, good, minimax, problem

ID = "evt_01kdwpvng0jmwss390q20wa8r0"
SUBSCRIPTION = "sub_01kdwpvng0jmwss390q20wa8r0"


async def test_an_event_is_what_subscribers_get_and_its_cursor(taskbell: Taskbell) -> None:
    task = await taskbell.track("1")

    [event] = await taskbell.events()

    assert event == {
        "id": event["id"],
        "type": "task.queued",
        "timestamp": "2026-01-01T12:00:00.000000Z",
        "data": {"task": task, "previous_status": None, "source": "api", "late": False},
        "cursor": event["cursor"],
    }
    assert event["id"].startswith("evt_")
    assert good(await taskbell.api.get(f"/v1/events/{event['id']}")) == event


async def test_events_are_read_in_order_to_their_end(taskbell: Taskbell) -> None:
    for number in range(4):
        await taskbell.track(str(number))
        await taskbell.push(minimax(str(number)))

    read = await taskbell.all_pages("/v1/events?limit=3", cursor="after")

    assert read == await taskbell.events()
    assert [event["type"] for event in read] == ["task.queued", "task.succeeded"] * 4
    cursors = [event["cursor"] for event in read]
    assert cursors == sorted(set(cursors))


async def test_a_reader_goes_on_behind_the_last_cursor_it_saw(taskbell: Taskbell) -> None:
    await taskbell.track("1")
    [seen] = await taskbell.events()
    assert await taskbell.data(f"/v1/events?after={seen['cursor']}") == []

    await taskbell.push(minimax("1"))

    [new] = await taskbell.data(f"/v1/events?after={seen['cursor']}")
    assert new["type"] == "task.succeeded"


async def test_events_are_filtered_by_type_and_task(taskbell: Taskbell) -> None:
    one, two = await taskbell.track("1"), await taskbell.track("2")
    await taskbell.push(minimax("1"))
    await taskbell.push(minimax("2", "Fail"))

    async def found(query: str) -> list[tuple[str, str]]:
        events = await taskbell.all_pages(f"/v1/events?limit=1&{query}", cursor="after")
        return [(event["type"], event["data"]["task"]["id"]) for event in events]

    assert await found("type=task.queued") == [
        ("task.queued", one["id"]),
        ("task.queued", two["id"]),
    ]
    assert await found(f"task={two['id']}") == [
        ("task.queued", two["id"]),
        ("task.failed", two["id"]),
    ]
    assert await found(f"task={one['id']}&type=task.failed") == []


@pytest.mark.parametrize(
    "query",
    [
        # a corpus of hostile lists, in this API's words
        "limit=-1",
        "limit=1000000000",
        "limit=%EF%BC%91%EF%BC%90",
        "status[]=x&status[]=y",
        "from=9999999-01-01",
        "from=2026-01-02&to=2026-01-01",
        "q=" + "%25" * 1000,
        "task=%27%20OR%201%3D1",
        "task_id=%27%20OR%201%3D1",
        "task=%00",
        "after=-1",
        "after=1e3",
        "after=9223372036854775808",
        "after=evt_1",
        "after=1&after=2",
        "type=task.*",
        "type=nothing",
        "type=(a%2B)%2B%24",
        "after=",
    ],
)
async def test_a_bad_query_is_422_and_names_its_parameter(small: Taskbell, query: str) -> None:
    name = query.partition("=")[0]

    assert f"'{name}'" in problem(await small.api.get(f"/v1/events?{query}"), 422)


# Cursors that nobody can go on from


def gone(answer: httpx.Response) -> dict[str, Any]:
    """The problem of an answer that must be 410, without what each problem has."""
    assert answer.status_code == 410, answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body.pop("title"), body.pop("status"), body.pop("type")) == ("Gone", 410, "about:blank")
    assert str(body.get("newest", body.get("oldest"))) in body.pop("detail")
    return body


async def both(taskbell: Taskbell, after: int) -> list[httpx.Response]:
    """The list's answer, and the stream's to the header and to the parameter, when they refuse."""
    stream = "/v1/events/stream"
    return [
        await taskbell.api.get(f"/v1/events?after={after}"),
        await taskbell.api.get(f"{stream}?after={after}"),
        await taskbell.api.get(stream, headers={"last-event-id": str(after)}),
    ]


async def read(taskbell: Taskbell, after: int) -> list[int]:
    return [event["cursor"] for event in await taskbell.data(f"/v1/events?after={after}")]


async def forget_all(taskbell: Taskbell, clock: ManualClock) -> None:
    clock.advance(days=31)
    while await taskbell.service.store.write(prune, Prune(timedelta(days=30))):
        pass


@pytest.mark.parametrize("made", [0, 1, 5])
async def test_a_cursor_ahead_of_the_log_is_410_with_the_newest(
    taskbell: Taskbell, made: int
) -> None:
    for number in range(made):
        await taskbell.track(str(number))
    newest = ([0] + [event["cursor"] for event in await taskbell.events()])[-1]

    for after in (newest + 1, newest + 900, 2**63 - 1):
        for answer in await both(taskbell, after):
            assert gone(answer) == {"code": "cursor_ahead", "newest": newest}
    assert await read(taskbell, newest) == []  # exactly at the edge
    assert len(await read(taskbell, 0)) == made


async def test_a_cursor_older_than_retention_is_410_with_the_oldest(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    for number in range(4):
        await taskbell.push(minimax(str(number)))
    before = [event["cursor"] for event in await taskbell.events()]
    await forget_all(taskbell, clock)
    await taskbell.push(minimax("new"))
    await taskbell.push(minimax("newer"))
    oldest, newest = [event["cursor"] for event in await taskbell.events()]

    for after in before[:-1]:
        for answer in await both(taskbell, after):
            assert gone(answer) == {"code": "cursor_expired", "oldest": oldest}
    # who had read the last one that went has missed nothing
    assert await read(taskbell, before[-1]) == await read(taskbell, 0) == [oldest, newest]
    assert await read(taskbell, oldest) == [newest]


async def test_of_a_log_that_was_retained_away_whole_the_last_cursor_goes_on(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    for number in range(3):
        await taskbell.push(minimax(str(number)))
    first, _, last = [event["cursor"] for event in await taskbell.events()]
    await forget_all(taskbell, clock)

    assert await read(taskbell, 0) == await read(taskbell, last) == []
    for answer in await both(taskbell, first):
        assert gone(answer) == {"code": "cursor_expired", "oldest": last}
    for answer in await both(taskbell, last + 1):
        assert gone(answer) == {"code": "cursor_ahead", "newest": last}
    await taskbell.push(minimax("new"))
    assert await read(taskbell, last) == await read(taskbell, 0) != []


async def test_pages_from_the_beginning_lead_past_what_retention_took_out_of_the_middle(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    await taskbell.track("open", timeout_seconds=30 * 86400)
    for number in range(3):
        await taskbell.push(minimax(str(number)))
    opened, *ended = [event["cursor"] for event in await taskbell.events()]
    await forget_all(taskbell, clock)
    for number in range(3):
        await taskbell.push(minimax(f"new{number}"))

    pages = await taskbell.all_pages("/v1/events?after=0&limit=1", "after")

    assert [event["cursor"] for event in pages] == await read(taskbell, 0)
    assert pages[0]["cursor"] == opened
    # whoever stopped within the gap has missed what was there
    assert gone((await both(taskbell, ended[0]))[0]) == {"code": "cursor_expired", "oldest": opened}


async def test_what_is_no_cursor_is_422_as_ever(small: Taskbell) -> None:
    for text in ("-1", "x", "1.5", "evt_01kdwpvng0jmwss390q20wa8r0", "9" * 20, ""):
        problem(await small.api.get(f"/v1/events?after={text}"), 422)


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/replay")])
@pytest.mark.parametrize("event_id", [ID, "task_01kdwpvng0jmwss390q20wa8r0", "1", "%00"])
async def test_an_unknown_event_is_404(
    taskbell: Taskbell, method: str, path: str, event_id: str
) -> None:
    problem(await taskbell.api.request(method, f"/v1/events/{event_id}{path}"), 404)


async def replay(taskbell: Taskbell, event: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """The deliveries a replay made."""
    answer = await taskbell.api.post(f"/v1/events/{event['id']}/replay", json=fields)
    made = good(answer, 202)["deliveries"]
    return [good(await taskbell.api.get(f"/v1/deliveries/{each}")) for each in made]


async def test_an_event_is_replayed_to_all_that_want_it(taskbell: Taskbell) -> None:
    await taskbell.track("1", metadata={"customer": "42"})
    [event] = await taskbell.events()
    wanted = [
        await taskbell.subscribe(),
        await taskbell.subscribe(types=["task.queued"], providers=["minimax"]),
        await taskbell.subscribe(metadata={"customer": "42"}),
    ]
    for others in (
        {"types": ["task.failed"]},
        {"providers": ["atlascloud"]},
        {"metadata": {"customer": "7"}},
        {"active": False},
    ):
        await taskbell.subscribe(**others)

    made = await replay(taskbell, event)

    assert {each["subscription_id"] for each in made} == {each["id"] for each in wanted}
    assert {each["event_id"] for each in made} == {event["id"]}
    assert {each["status"] for each in made} == {"pending"}
    assert len(await taskbell.events()) == 1


async def test_an_event_is_replayed_to_one_subscription_whatever_it_wants(
    taskbell: Taskbell,
) -> None:
    await taskbell.track("1")
    [event] = await taskbell.events()
    await taskbell.subscribe()
    chosen = await taskbell.subscribe(types=["task.failed"])

    first = await replay(taskbell, event, subscription=chosen["id"])
    second = await replay(taskbell, event, subscription=chosen["id"])

    assert [each["subscription_id"] for each in first + second] == [chosen["id"]] * 2
    assert first[0]["id"] != second[0]["id"]


async def test_a_replay_that_nobody_wants_makes_nothing(small: Taskbell) -> None:
    await small.track("1")
    [event] = await small.events()

    assert await replay(small, event) == []
    answer = await small.api.post(f"/v1/events/{event['id']}/replay")  # a body is not needed
    assert good(answer, 202) == {"deliveries": []}


async def test_a_replay_to_an_unknown_subscription_is_404(taskbell: Taskbell) -> None:
    await taskbell.track("1")
    [event] = await taskbell.events()
    gone = await taskbell.subscribe()
    await taskbell.api.delete(f"/v1/subscriptions/{gone['id']}")

    for subscription_id in (SUBSCRIPTION, gone["id"]):
        answer = await taskbell.api.post(
            f"/v1/events/{event['id']}/replay", json={"subscription": subscription_id}
        )
        problem(answer, 404)
    assert await taskbell.data("/v1/deliveries") == []


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"subscription": 1}, "'subscription'"),
        ({"subscription": "x"}, "'subscription'"),
        ({"subscriptions": []}, "'subscriptions'"),
        ([], "JSON object"),
    ],
)
async def test_a_bad_replay_is_422(small: Taskbell, body: Any, place: str) -> None:
    answer = await small.api.post(f"/v1/events/{ID}/replay", json=body)

    assert place in problem(answer, 422)
