"""Who is signed in, by GET and DELETE /v1/sessions."""

from __future__ import annotations

from typing import Any

from receiver.pages.session import Sessions
from store.clock import ManualClock
from store.tables import audit, sessions
from tests.app import SECRET_KEYS, Taskbell, bearer, good, problem
from tests.pages import ORIGIN, signed_in
from tests.receiver.test_pages_session import made_key

UNKNOWN = "ses_01kdwpvng0jmwss390q20wa8r0"


async def listed(taskbell: Taskbell, key: str | None = None) -> list[dict[str, Any]]:
    headers = bearer(key) if key else None
    answer = await (taskbell.door if key else taskbell.api).get("/v1/sessions", headers=headers)
    found: list[dict[str, Any]] = good(answer)["data"]
    return found


async def test_an_admin_key_sees_all_and_another_its_own(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    key = await made_key(taskbell, "read")
    await signed_in(taskbell)
    clock.advance(seconds=1)
    await signed_in(taskbell, key["key"])

    own, first = await listed(taskbell)

    assert own == {
        "id": own["id"],
        "key_id": key["id"],
        "name": "a read key",
        "created_at": "2026-01-01T12:00:01.000000Z",
        "last_seen_at": "2026-01-01T12:00:01.000000Z",
        "expires_at": "2026-01-02T00:00:01.000000Z",
    }
    assert (first["key_id"], first["name"]) == ("first", "TASKBELL_API_KEY")
    assert await listed(taskbell, key["key"]) == [own]
    assert len(await taskbell.all_pages("/v1/sessions?limit=1")) == 2


async def test_one_that_is_ended_here_is_refused_at_once(taskbell: Taskbell) -> None:
    person, other = await signed_in(taskbell), await signed_in(taskbell)
    await person.see("/")
    newest = (await listed(taskbell))[0]

    answer = await taskbell.api.delete(f"/v1/sessions/{newest['id']}")

    assert answer.status_code == 204
    await person.see("/")
    assert (await other.client.get("/")).status_code == 303
    problem(await taskbell.api.delete(f"/v1/sessions/{newest['id']}"), 404)


async def test_a_key_ends_its_own_and_no_other(taskbell: Taskbell) -> None:
    key = await made_key(taskbell, "read")
    await signed_in(taskbell)
    await signed_in(taskbell, key["key"])
    own, first = await listed(taskbell)
    headers = bearer(key["key"])

    problem(await taskbell.door.delete(f"/v1/sessions/{first['id']}", headers=headers), 404)
    answer = await taskbell.door.delete(f"/v1/sessions/{own['id']}", headers=headers)

    assert answer.status_code == 204
    assert [row["id"] for row in await listed(taskbell)] == [first["id"]]


async def test_one_that_is_not_there_is_404_and_without_a_key_401(taskbell: Taskbell) -> None:
    problem(await taskbell.api.delete(f"/v1/sessions/{UNKNOWN}"), 404)
    problem(await taskbell.door.delete(f"/v1/sessions/{UNKNOWN}"), 401)
    problem(await taskbell.door.get("/v1/sessions"), 401)


async def test_neither_list_nor_rows_hold_what_the_cookie_does(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    person = await signed_in(taskbell)
    [cookie] = [value for value in dict(person.client.cookies).values() if len(value) > 40]

    text = repr([await listed(taskbell), await taskbell.rows(sessions), await taskbell.rows(audit)])

    session = Sessions(SECRET_KEYS, ORIGIN, clock).read(cookie)
    assert session is not None
    assert session.id not in text


async def test_signing_in_and_out_is_in_the_audit(taskbell: Taskbell) -> None:
    person = await signed_in(taskbell)
    [session] = await listed(taskbell)
    task = await taskbell.track()
    await person.press(f"/tasks/{task['id']}", f"/tasks/{task['id']}/cancel")

    await person.press("/", "/logout")

    rows = await taskbell.data("/v1/audit")
    by = {row["action"]: (row["key_id"], row["actor_id"], row["actor_name"]) for row in rows}
    assert by == {
        "session.created": ("first", "first", "TASKBELL_API_KEY"),
        "task.created": ("first", "first", "TASKBELL_API_KEY"),
        "task.canceled": ("first", session["id"], "TASKBELL_API_KEY"),
        "session.deleted": ("first", session["id"], "TASKBELL_API_KEY"),
    }
    assert {row["object_id"] for row in rows if row["action"].startswith("session")} == {
        session["id"]
    }


async def test_its_last_use_is_written_down_now_and_then(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    person = await signed_in(taskbell)
    seconds = 1_000.0
    taskbell.service.access.monotonic = lambda: seconds
    seen = []

    for minutes in (4, 1, 4):
        clock.advance(minutes=minutes)
        seconds += 60 * minutes
        await person.see("/")
        seen.append((await listed(taskbell))[0]["last_seen_at"][11:16])

    assert seen == ["12:00", "12:05", "12:05"]
