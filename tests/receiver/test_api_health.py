from __future__ import annotations

import pytest
from sqlalchemy import text

from receiver.api import health
from store.clock import ManualClock
from tests.app import AWAY, Taskbell, good, problem, running
from tests.databases import PostgreSQL
from tests.making import writer_busy


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


async def test_a_process_whose_database_takes_no_writes_is_not_ready_until_it_does(
    postgresql: PostgreSQL, postgresql_url: str, clock: ManualClock
) -> None:
    """A failover: nothing is restarted but the database's connections."""
    async with running(postgresql_url, clock) as taskbell:
        name = taskbell.service.store.database.address.database
        good(await taskbell.push(PUSH))

        postgresql.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        _hang_up(postgresql, name)
        said = problem(await taskbell.door.get("/readyz"), 503)
        refused = await taskbell.push({**PUSH, "task_id": "2"})
        postgresql.run(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
        ready = await taskbell.door.get("/readyz")
        taken = await taskbell.push({**PUSH, "task_id": "2"})

    assert "takes no writes" in said
    assert (refused.status_code, ready.status_code, taken.status_code) == (503, 200, 200)


PUSH = {"task_id": "1", "status": "processing"}


def _hang_up(postgresql: PostgreSQL, name: str) -> None:
    postgresql.run(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        f" WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )


async def test_a_database_that_hangs_is_not_waited_for(
    taskbell: Taskbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "READY_SECONDS", 0.05)
    with writer_busy(taskbell.service.store):
        answer = await taskbell.door.get("/readyz")

    assert "event store" in problem(answer, 503)
