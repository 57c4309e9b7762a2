from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from store.clock import ManualClock
from store.events import Task
from store.tasks import get_task
from tests.app import AWAY, Taskbell, good, minimax, problem, running

ID = "task_01kdwpvng0jmwss390q20wa8r0"
NO_KEY = {
    "code": "no_key",
    "message": "the server has no API key for MiniMax: set MINIMAX_API_KEY where Taskbell runs, and"
    " restart it; until then only a push can bring news",
}
NOON = "2026-01-01T12:00:00.000000Z"


async def stored(taskbell: Taskbell, task_id: str) -> Task:
    task = await taskbell.service.store.read(get_task, task_id)
    assert task is not None
    return task


async def test_a_tracked_task_is_queued_and_due_at_once(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    task = await taskbell.track(
        "1234", kind="video", model="Hailuo", family="v1", metadata={"customer": {"id": 42}}
    )

    assert task == {
        "id": task["id"],
        "provider": "minimax",
        "provider_task_id": "1234",
        "family": "v1",
        "kind": "video",
        "model": "Hailuo",
        "status": "queued",
        "provider_status": None,
        "progress": None,
        "outputs": [],
        "error": None,
        "usage": None,
        "metadata": {"customer": {"id": 42}},
        "version": 1,
        "created_at": NOON,
        "updated_at": NOON,
        "finished_at": None,
        "deadline_at": "2026-01-01T14:00:00.000000Z",
        "source": "api",
        "confirmed": False,
        "rescued_by_poll": False,
        "trouble": NO_KEY,
    }
    assert task["id"].startswith("task_")
    assert good(await taskbell.api.get(f"/v1/tasks/{task['id']}")) == task
    assert await taskbell.event_types() == ["task.queued"]
    assert (await stored(taskbell, task["id"])).next_poll_at == clock()


async def test_tracking_again_answers_200_with_the_same_task(taskbell: Taskbell) -> None:
    first = await taskbell.track("1", metadata={"a": 1})

    wish = {"provider": "minimax", "task_id": "1", "metadata": {"a": 1}}
    again = good(await taskbell.api.post("/v1/tasks", json=wish), 200)

    assert again == {**first, "warnings": [NO_KEY]}
    assert await taskbell.event_types() == ["task.queued"]


async def test_metadata_of_the_url_and_of_every_call_is_merged_and_audited(
    taskbell: Taskbell,
) -> None:
    url = taskbell.path(metadata={"customer": "42", "from": "url"})
    await taskbell.push(minimax("7", "Processing"), url)
    wish = {"provider": "minimax", "task_id": "7"}

    first = await taskbell.api.post("/v1/tasks", json=wish | {"metadata": {"from": "call"}})
    again = await taskbell.api.post("/v1/tasks", json=wish | {"metadata": {"order": 9}})
    same = await taskbell.api.post("/v1/tasks", json=wish | {"metadata": {"order": 9}})
    await taskbell.push(minimax("7"), url)

    merged = {"customer": "42", "from": "call", "order": 9}
    assert good(first)["metadata"] == {"customer": "42", "from": "call"}
    assert good(again)["metadata"] == good(same)["metadata"] == merged
    assert (await taskbell.events())[-1]["data"]["task"]["metadata"] == merged
    audit = await taskbell.data("/v1/audit")
    assert [row["action"] for row in audit] == ["task.created"] * 2


async def test_metadata_that_is_too_much_with_the_urls_is_422(taskbell: Taskbell) -> None:
    await taskbell.push(minimax("7"), taskbell.path(metadata={"url": "a" * 900}))
    wish = {"provider": "minimax", "task_id": "7", "metadata": {"call": "b" * 16_000}}

    said = problem(await taskbell.api.post("/v1/tasks", json=wish), 422)

    assert said.startswith("field 'metadata': task task_")
    assert "have 169" in said
    assert said.endswith("at most 16384 fit")
    assert (await taskbell.tasks())[0]["metadata"] == {"url": "a" * 900}


async def test_tracking_an_ended_task_answers_200_and_leaves_it(taskbell: Taskbell) -> None:
    await taskbell.push(minimax("1"))
    [ended] = await taskbell.tasks()

    again = good(
        await taskbell.api.post("/v1/tasks", json={"provider": "minimax", "task_id": "1"}), 200
    )

    assert again == ended
    assert await taskbell.event_types() == ["task.succeeded"]
    assert (await stored(taskbell, ended["id"])).next_poll_at is None


async def test_one_id_at_two_providers_is_two_tasks(small: Taskbell) -> None:
    one = await small.track("1")
    other = await small.track("1", provider="atlascloud")

    assert one["id"] != other["id"]


async def test_a_task_that_expects_a_push_is_left_alone_for_a_minute(
    small: Taskbell, clock: ManualClock
) -> None:
    task = await small.track("1", expect_push=True)

    kept = await stored(small, task["id"])
    assert kept.expect_push
    assert kept.next_poll_at == clock() + timedelta(seconds=60)


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 7200),
        ({"kind": "video"}, 7200),
        ({"kind": "audio"}, 7200),
        ({"kind": "image"}, 1800),
        ({"kind": "image", "timeout_seconds": 5}, 5),
        ({"timeout_seconds": 0.5}, 0.5),
        ({"timeout_seconds": 30 * 86400}, 30 * 86400),
    ],
)
async def test_the_deadline_follows_the_kind_or_the_wish(
    small: Taskbell, clock: ManualClock, fields: dict[str, Any], seconds: float
) -> None:
    task = await small.track(**fields)

    assert (await stored(small, task["id"])).deadline_at == clock() + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"provider": None}, "'provider'", id="null as provider"),
        pytest.param({"provider": "nobody"}, "atlascloud, minimax, opencomputing", id="unknown"),
        pytest.param({"provider": "Mini Max"}, "did you mean 'minimax'?", id="a title"),
        pytest.param({"provider": "AtlasCloud"}, "did you mean 'atlascloud'?", id="capitals"),
        pytest.param({"provider": "mini-max"}, "did you mean 'minimax'?", id="a dash"),
        pytest.param({"provider": "minimax\n"}, "not a provider's name", id="a line break"),
        pytest.param({"task_id": None}, "'task_id'", id="null as task"),
        pytest.param(
            {"task_id": ""},
            "field 'task_id': not a task's id: give the one that the provider answered",
            id="an empty task",
        ),
        pytest.param(
            {"provider": "minimaxx"},
            "not a provider; did you mean 'minimax'?",
            id="one letter more",
        ),
        pytest.param(
            {"provider": "atlas_cloud"}, "did you mean 'atlascloud'?", id="another spelling"
        ),
        pytest.param(
            {"provider": "kling"},
            "Known: atlascloud, minimax, opencomputing",
            id="no such provider",
        ),
        pytest.param({"modle": "x"}, "'modle' is not known here; did you mean 'model'?", id="typo"),
        pytest.param({"task_id": 1.5}, "'task_id'", id="a fraction as task"),
        pytest.param({"task_id": True}, "'task_id'", id="a truth as task"),
        pytest.param({"task_id": -5}, "'task_id'", id="a number below zero as task"),
        pytest.param({"task_id": 2**63}, "'task_id'", id="a number that no provider gives"),
        pytest.param({"task_id": "../x"}, "'task_id'", id="a path"),
        pytest.param({"task_id": ".."}, "'task_id'", id="dots"),
        pytest.param({"task_id": "1\n"}, "'task_id'", id="a line end"),
        pytest.param({"task_id": "x" * 129}, "'task_id'", id="a long task"),
        pytest.param({"kind": "hologram"}, "'kind'", id="an unknown kind"),
        pytest.param(
            {"kind": "vidoe"},
            "field 'kind': not one of these; did you mean 'video'? Known: image, video, audio",
            id="a misspelt kind",
        ),
        pytest.param({"kind": 1}, "'kind'", id="a number as kind"),
        pytest.param({"model": "a\x00"}, "'model'", id="NUL"),
        pytest.param({"model": "x" * 201}, "'model'", id="a long model"),
        pytest.param({"family": "V 1"}, "'family'", id="no family"),
        pytest.param({"metadata": []}, "'metadata'", id="a list as metadata"),
        pytest.param({"metadata": {"a": "x" * 16_400}}, "'metadata'", id="much metadata"),
        pytest.param({"metadata": {"a\x00": 1}}, "'metadata'", id="NUL in metadata"),
        pytest.param(
            {"metadata": {str(number): number for number in range(201)}},
            "'metadata'",
            id="201 values",
        ),
        pytest.param({"timeout_seconds": 0}, "'timeout_seconds'", id="no time"),
        pytest.param({"timeout_seconds": -1}, "'timeout_seconds'", id="negative time"),
        pytest.param({"timeout_seconds": 1e9}, "'timeout_seconds'", id="31 years"),
        pytest.param({"timeout_seconds": "60"}, "'timeout_seconds'", id="a text as time"),
        pytest.param({"timeout_seconds": True}, "'timeout_seconds'", id="true as time"),
        pytest.param({"expect_push": "yes"}, "'expect_push'", id="a text as truth"),
        pytest.param({"expect_push": None}, "'expect_push'", id="null as truth"),
        pytest.param({"status": "succeeded"}, "'status' is not known", id="a field of ours"),
        pytest.param({"taskid": "1"}, "'taskid' is not known", id="a misspelt field"),
    ],
)
async def test_a_bad_wish_is_422_and_names_its_field(
    small: Taskbell, fields: dict[str, Any], words: str
) -> None:
    wish = {"provider": "minimax", "task_id": "1", **fields}

    assert words in problem(await small.api.post("/v1/tasks", json=wish), 422)

    assert await small.tasks() == []


@pytest.mark.parametrize("missing", ["provider", "task_id"])
async def test_a_field_that_is_missing_is_named(small: Taskbell, missing: str) -> None:
    wish = {"provider": "minimax", "task_id": "1"}
    del wish[missing]

    assert f"'{missing}'" in problem(await small.api.post("/v1/tasks", json=wish), 422)


@pytest.mark.parametrize(
    ("raw", "content_type", "status"),
    [
        (b"", "application/json", 422),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"provider": NaN}', "application/json", 400),
        (b'{"provider": "a", "provider": "b"}', "application/json", 400),
        (b"[]", "application/json", 422),
        (b"null", "application/json", 422),
        (b"{}", "text/plain", 415),  # what a form of another site may send unasked
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b"{}", "application/json; charset=utf-8", 422),
        (b" " * (256 * 1024 + 1), "application/json", 413),
    ],
)
async def test_a_body_that_is_no_json_object_is_told_so(
    small: Taskbell, raw: bytes, content_type: str, status: int
) -> None:
    answer = await small.api.post("/v1/tasks", content=raw, headers={"content-type": content_type})

    assert "Input" not in problem(answer, status)


async def test_tasks_are_listed_newest_first_in_pages(taskbell: Taskbell) -> None:
    made = [(await taskbell.track(str(number)))["id"] for number in range(7)]

    listed = await taskbell.all_pages("/v1/tasks?limit=3")

    assert [task["id"] for task in listed] == made[::-1]


async def test_a_page_that_is_just_full_is_the_last(small: Taskbell) -> None:
    for number in range(4):
        await small.track(str(number))

    page = good(await small.api.get("/v1/tasks?limit=4"))

    assert len(page["data"]) == 4
    assert page["next_cursor"] is None


async def test_pages_do_not_repeat_what_moved_in_above(taskbell: Taskbell) -> None:
    made = [(await taskbell.track(str(number)))["id"] for number in range(4)]
    first = good(await taskbell.api.get("/v1/tasks?limit=2"))
    await taskbell.track("new")

    second = good(
        await taskbell.api.get("/v1/tasks", params={"limit": 2, "cursor": first["next_cursor"]})
    )

    seen = [task["id"] for task in first["data"] + second["data"]]
    assert seen == made[::-1]


async def test_tasks_are_filtered_by_status_and_provider(taskbell: Taskbell) -> None:
    await taskbell.track("open")
    await taskbell.track("elsewhere", provider="atlascloud")
    await taskbell.push(minimax("done"))
    await taskbell.push(minimax("failed", "Fail"))

    async def found(query: str) -> list[str]:
        return [task["provider_task_id"] for task in await taskbell.data(f"/v1/tasks?{query}")]

    assert await found("status=queued") == ["elsewhere", "open"]
    assert await found("status=queued&provider=minimax") == ["open"]
    assert await found("provider=minimax") == ["failed", "done", "open"]
    assert await found("status=succeeded&provider=minimax&limit=1") == ["done"]
    assert await found("provider=unheard_of") == []


@pytest.mark.parametrize(
    "query",
    [
        "status=done",
        "status=",
        "provider=%27%20OR%201%3D1",
        "limit=0",
        "limit=-1",
        "limit=201",
        "limit=1000000000",
        "limit=%EF%BC%91%EF%BC%90",  # full-width digits
        "limit=ten",
        "limit=1&limit=2",
        "cursor=abc",
        "cursor=%00",
        "status[]=queued",
        "page=2",
    ],
)
async def test_a_bad_query_is_422_and_names_its_parameter(small: Taskbell, query: str) -> None:
    name = query.partition("=")[0]

    assert f"'{name}'" in problem(await small.api.get(f"/v1/tasks?{query}"), 422)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("POST", "/refresh"), ("POST", "/cancel")],
)
@pytest.mark.parametrize(
    "task_id",
    [ID, "evt_01kdwpvng0jmwss390q20wa8r0", "1", "%00", "%F0%9F%92%A9", "x" * 5000, "task_%25"],
)
async def test_an_unknown_task_is_404(
    taskbell: Taskbell, method: str, path: str, task_id: str
) -> None:
    problem(await taskbell.api.request(method, f"/v1/tasks/{task_id}{path}"), 404)


async def test_canceling_stops_the_tracking_with_one_last_event(taskbell: Taskbell) -> None:
    task = await taskbell.track("1")
    await taskbell.push(minimax("1", "Processing"))

    answer = good(await taskbell.api.post(f"/v1/tasks/{task['id']}/cancel"))

    assert answer["status"] == "canceled"
    assert answer["error"]["code"] == "untracked"
    assert answer["source"] == "api"
    assert answer["finished_at"] == NOON
    assert answer["version"] == 3
    events = await taskbell.events()
    assert [event["type"] for event in events] == [
        "task.queued",
        "task.processing",
        "task.canceled",
    ]
    assert events[-1]["data"]["task"] == answer
    assert events[-1]["data"]["previous_status"] == "processing"
    assert (await stored(taskbell, task["id"])).next_poll_at is None


async def test_nothing_follows_a_cancel(taskbell: Taskbell) -> None:
    task = await taskbell.track("1")
    canceled = good(await taskbell.api.post(f"/v1/tasks/{task['id']}/cancel"))

    assert good(await taskbell.api.post(f"/v1/tasks/{task['id']}/cancel")) == canceled
    await taskbell.push(minimax("1"))

    assert good(await taskbell.api.get(f"/v1/tasks/{task['id']}")) == canceled
    assert await taskbell.event_types() == ["task.queued", "task.canceled"]


async def test_an_ended_task_cannot_be_canceled_or_refreshed(taskbell: Taskbell) -> None:
    await taskbell.push(minimax("1"))
    [task] = await taskbell.tasks()

    for action in ("cancel", "refresh"):
        answer = await taskbell.api.post(f"/v1/tasks/{task['id']}/{action}")
        assert "succeeded" in problem(answer, 409)
    assert await taskbell.tasks() == [task]


async def test_refreshing_makes_a_task_due_now(taskbell: Taskbell, clock: ManualClock) -> None:
    task = await taskbell.track("1", expect_push=True)
    clock.advance(seconds=10)

    answer = good(await taskbell.api.post(f"/v1/tasks/{task['id']}/refresh"), 202)

    assert answer["status"] == "queued"
    assert (await stored(taskbell, task["id"])).next_poll_at == clock()


async def test_a_call_without_a_query_takes_none(small: Taskbell) -> None:
    task = await small.track("1")

    detail = problem(await small.api.get(f"/v1/tasks/{task['id']}?verbose=1"), 422)

    assert "no query" in detail


async def test_every_call_is_503_while_the_database_is_away(clock: ManualClock) -> None:
    wish = {"provider": "minimax", "task_id": "1"}
    async with running(AWAY, clock) as taskbell:
        answers = [
            await taskbell.api.post("/v1/tasks", json=wish),
            await taskbell.api.get("/v1/tasks"),
            await taskbell.api.get(f"/v1/tasks/{ID}"),
            await taskbell.api.post(f"/v1/tasks/{ID}/cancel"),
        ]

    for answer in answers:
        problem(answer, 503)
        assert int(answer.headers["retry-after"]) > 0
