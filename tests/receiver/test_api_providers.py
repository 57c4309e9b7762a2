"""GET /v1/providers: the states of providers, and how their last day went."""

from __future__ import annotations

from datetime import timedelta

from store.clock import ManualClock
from store.events import Failure
from store.provider_states import Note, State, note_states
from tests.app import Taskbell, good, minimax, problem, running

REASON = Failure("unavailable", "MiniMax cannot answer now (GET api.minimaxi.com: 503)")


async def noted(taskbell: Taskbell, to: State, provider: str = "minimax", **more: object) -> None:
    note = Note(provider, provider, to, asked_ago=timedelta(0), **more)  # type: ignore[arg-type]
    await taskbell.service.store.write(note_states, note)


async def test_a_provider_nobody_polls_is_idle_and_says_why(small: Taskbell) -> None:
    found = {each["name"]: each for each in await small.data("/v1/providers")}

    assert list(found) == ["atlascloud", "minimax", "opencomputing"]
    assert found["minimax"] == {
        "name": "minimax",
        "title": "MiniMax",
        "state": "idle",
        "reason": found["minimax"]["reason"],
        "since": None,
        "last_asked_at": None,
        "last_answer_at": None,
        "open_tasks": 0,
        "pushes": 0,
        "polls": 0,
        "ended_by_push": 0,
        "ended_by_poll": 0,
        "rescued_by_poll": 0,
    }
    assert found["minimax"]["reason"]["code"] == "not_polled"
    assert "TASKBELL_ROLES" in found["minimax"]["reason"]["message"]


async def test_a_provider_shows_its_state_its_reason_and_its_history(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    await taskbell.track("1")
    await taskbell.push(minimax("2"))
    await noted(taskbell, State.OK, answered_ago=timedelta(0))
    clock.advance(minutes=1)
    await noted(taskbell, State.DOWN, reason=REASON)

    shown = good(await taskbell.api.get("/v1/providers/minimax"))

    noon, later = "2026-01-01T12:00:00.000000Z", "2026-01-01T12:01:00.000000Z"
    reason = {"code": REASON.code, "message": REASON.message}
    assert shown == {
        "name": "minimax",
        "title": "MiniMax",
        "state": "down",
        "reason": reason,
        "since": later,
        "last_asked_at": later,
        "last_answer_at": noon,
        "open_tasks": 1,
        "pushes": 1,
        "polls": 0,
        "ended_by_push": 1,
        "ended_by_poll": 0,
        "rescued_by_poll": 0,
        "history": [
            {"state": "down", "reason": reason, "since": later, "until": None},
            {"state": "ok", "reason": None, "since": noon, "until": later},
        ],
    }
    [listed] = [each for each in await taskbell.data("/v1/providers") if each["state"] == "down"]
    assert listed == {name: value for name, value in shown.items() if name != "history"}


async def test_every_process_answers_the_same(postgresql_url: str, clock: ManualClock) -> None:
    async with (
        running(postgresql_url, clock, {"MINIMAX_API_KEY": "k" * 40}) as one,
        running(postgresql_url, clock) as other,
    ):
        await noted(one, State.DEGRADED, reason=REASON)

        assert await one.data("/v1/providers") == await other.data("/v1/providers")


async def test_an_unknown_provider_is_a_404_that_names_those_there_are(small: Taskbell) -> None:
    detail = problem(await small.api.get("/v1/providers/minimx"), 404)

    assert detail == (
        "not a provider; did you mean 'minimax'? Known: atlascloud, minimax, opencomputing"
    )


async def test_what_looks_like_no_name_is_a_404(small: Taskbell) -> None:
    problem(await small.api.get("/v1/providers/Mini%00Max"), 404)


async def test_it_needs_a_key(small: Taskbell) -> None:
    problem(await small.door.get("/v1/providers"), 401)


async def test_the_list_comes_in_pages(small: Taskbell) -> None:
    found = await small.all_pages("/v1/providers?limit=2")

    assert [each["name"] for each in found] == ["atlascloud", "minimax", "opencomputing"]
