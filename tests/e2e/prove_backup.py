"""A server is backed up under pushes, lost, and restored: `taskbell backup`, `taskbell restore`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.backup import read_backup, write_backup
from deploy.demo.server import LocalServer
from deploy.demo.subscriber import Subscriber
from deploy.settings import load
from tests.e2e.process import Process, until
from tests.patience import PATIENCE_SECONDS

KEY, SECRET = "an-admin-key-of-these-tests-0123456789", "a-secret-key-of-these-tests-0123456789"
AGAIN_SOON = ",".join(["1"] * 20)


@pytest.fixture
def empty_place(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[str]:
    """On the other database: tests/store/test_copying.py goes each of the four ways."""
    if database_url.startswith("postgresql"):
        yield f"sqlite:///{tmp_path / 'restored.db'}"
        return
    with request.getfixturevalue("postgresql").database(migrated=False) as url:
        yield url


@asynccontextmanager
async def server(folder: Path, url: str) -> AsyncIterator[Process]:
    more = {"TASKBELL_SECRET_KEYS": SECRET, "TASKBELL_RETRY_SCHEDULE": AGAIN_SOON}
    process = Process(folder, url, KEY, more)
    try:
        await process.start()
        yield process
    finally:
        await process.close()


def settings(database_url: str) -> dict[str, str]:
    return {"TASKBELL_DATABASE_URL": database_url, "TASKBELL_SECRET_KEYS": SECRET}


class Pushing:
    """A provider that pushes one ended task after the other. acknowledged: what was taken."""

    def __init__(self, url: str) -> None:
        self.acknowledged: list[str] = []
        self._url = url

    async def run(self) -> None:
        async with httpx.AsyncClient(trust_env=False) as provider:
            while True:
                task = f"job-{len(self.acknowledged)}"
                body = {"task_id": task, "status": "Success", "file_id": "1"}
                if (await provider.post(self._url, json=body)).status_code == 200:
                    self.acknowledged.append(task)

    async def reach(self, count: int) -> None:
        await until(lambda: _is(len(self.acknowledged) >= count), 20, every=0.01)


async def _is(true: bool) -> bool:
    return true


async def listed(api: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """Every page of a list."""
    found: list[dict[str, Any]] = []
    cursor: Mapping[str, str] = {}
    while True:
        page = (await api.get(path, params={"limit": 200, **cursor})).json()
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


async def test_what_was_acknowledged_before_a_backup_is_there_and_goes_out_after_a_restore(
    database_url: str, empty_place: str, tmp_path: Path
) -> None:
    subscriber, file = Subscriber(""), tmp_path / "backup.db"
    async with LocalServer(subscriber.app) as hook:
        async with server(tmp_path, database_url) as old:
            wish = {"url": f"{hook.url}/hook", "types": ["task.succeeded"]}
            made = (await old.api.post("/v1/subscriptions", json=wish)).json()
            subscriber.secret, subscriber.status = made["secret"], 503
            token = await old.api.post("/v1/callback-urls", json={"provider": "minimax"})
            pushing = Pushing(token.json()["url"])
            provider = asyncio.create_task(pushing.run())
            await pushing.reach(30)

            before = list(pushing.acknowledged)
            await asyncio.to_thread(write_backup, load(settings(database_url)), file)
            await pushing.reach(len(before) + 10)
            provider.cancel()
            subscriber.status = None
            await subscriber.wait_for(20)  # some reach the subscriber behind the backup's back
            old.kill()

        await asyncio.to_thread(read_backup, load(settings(empty_place)), file)
        async with server(tmp_path, empty_place) as new:
            tasks = {task["provider_task_id"] for task in await listed(new.api, "/v1/tasks")}
            await until(lambda: _nothing_waits(new.api), PATIENCE_SECONDS)
            events = await listed(new.api, "/v1/deliveries")

    assert set(before) <= tasks
    assert {each["event_id"] for each in events} <= {each.id for each in subscriber.events}
    assert max(subscriber.attempts.values()) > 1  # sent again, under the webhook-id it knew
    assert len(subscriber.events) == len({each.task_id for each in subscriber.events})


async def _nothing_waits(api: httpx.AsyncClient) -> bool:
    waiting = (await api.get("/v1/deliveries", params={"status": "pending"})).json()["data"]
    flying = (await api.get("/v1/deliveries", params={"status": "in_flight"})).json()["data"]
    return not waiting + flying
