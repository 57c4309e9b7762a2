from __future__ import annotations

from sqlalchemy import text

from store.clock import ManualClock
from tests.app import AWAY, Taskbell, good, problem, running


async def test_a_healthy_process_is_ready(taskbell: Taskbell) -> None:
    for path in ("/healthz", "/readyz"):
        assert good(await taskbell.door.get(path)) == {"status": "ok"}


async def test_a_process_without_its_database_is_alive_and_not_ready(clock: ManualClock) -> None:
    async with running(AWAY, clock) as taskbell:
        good(await taskbell.door.get("/healthz"))
        answer = await taskbell.door.get("/readyz")

    assert "event store" in problem(answer, 503)
    assert AWAY not in answer.text
    assert "nonexistent" not in answer.text


async def test_a_process_on_another_schema_is_not_ready(taskbell: Taskbell) -> None:
    await taskbell.write(text("UPDATE alembic_version SET version_num = '9999'"))

    assert "schema" in problem(await taskbell.door.get("/readyz"), 503)


async def test_a_process_on_an_empty_database_is_not_ready(
    empty_database_url: str, clock: ManualClock
) -> None:
    async with running(empty_database_url, clock) as taskbell:
        good(await taskbell.door.get("/healthz"))
        assert "schema" in problem(await taskbell.door.get("/readyz"), 503)


async def test_a_process_that_is_stopping_takes_no_new_work(taskbell: Taskbell) -> None:
    taskbell.service.draining = True

    good(await taskbell.door.get("/healthz"))
    assert "shutting down" in problem(await taskbell.door.get("/readyz"), 503)
