"""A server that is killed again and again: what it acknowledged is kept, and delivered."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from deploy.demo.server import LocalServer
from deploy.demo.subscriber import Subscriber
from tests.e2e.process import Process, processes, until

KILLS = 3
PUSHES_BETWEEN = 120
PUSHES_PER_SECOND = 200
PUSHERS = 8
# no provider keys: pushes are recorded as they come. A short attempt makes a short lease.
ENVIRONMENT = {"TASKBELL_ATTEMPT_TIMEOUT_SECONDS": "1", "TASKBELL_RETRY_SCHEDULE": "1,1,2,5,10"}

Push = tuple[str, str]
"""A provider's task id and the event it should make."""


async def test_no_acknowledged_push_is_lost_in_a_crash(database_url: str, tmp_path: Path) -> None:
    subscriber = Subscriber("")
    async with (
        LocalServer(subscriber.app) as hook,
        processes(tmp_path, database_url, ENVIRONMENT) as (server,),
    ):
        wish = {"url": f"{hook.url}/hook"}
        subscriber.secret = (await server.api.post("/v1/subscriptions", json=wish)).json()["secret"]
        made = await server.api.post("/v1/callback-urls", json={"provider": "minimax"})
        acknowledged: set[Push] = set()
        numbers = itertools.count()
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            url = made.json()["url"]
            pushing = [
                asyncio.create_task(_push(client, url, numbers, acknowledged))
                for _ in range(PUSHERS)
            ]
            for _ in range(KILLS):
                await _grown(acknowledged, by=PUSHES_BETWEEN)
                server.kill()
                await server.start()
            await _grown(acknowledged, by=PUSHES_BETWEEN)
            for pusher in pushing:
                pusher.cancel()
            await asyncio.gather(*pushing, return_exceptions=True)

        # what was in flight at a kill comes back when its lease ends
        await until(lambda: _nothing_is_owed(server), 40, every=0.3)
        events = await _events(server)
        exit_code = await server.stop()

    recorded = Counter(
        (event["data"]["task"]["provider_task_id"], event["type"]) for event in events
    )
    assert acknowledged <= recorded.keys()
    assert set(recorded.values()) == {1}
    assert {event.id for event in subscriber.events} == {event["id"] for event in events}
    ids = defaultdict(set)
    for received in subscriber.events:
        ids[received.task_id, received.body["data"]["task"]["version"]].add(received.id)
    assert all(len(same) == 1 for same in ids.values())
    assert exit_code == 0
    if database_url.startswith("sqlite"):
        assert _integrity(database_url.removeprefix("sqlite:///")) == "ok"


async def _push(
    client: httpx.AsyncClient, url: str, numbers: Iterator[int], acknowledged: set[Push]
) -> None:
    """Push tasks' stages at this pusher's part of the pace; each until it is acknowledged."""
    for number in numbers:
        task_id = f"t{number}"
        for word, event_type, more in (
            ("Processing", "task.processing", {}),
            ("Success", "task.succeeded", {"file_id": f"f{number}"}),
        ):
            body = {"task_id": task_id, "status": word, **more}
            await until(partial(_accepted, client, url, body), 30, every=0.05)
            acknowledged.add((task_id, event_type))
            await asyncio.sleep(PUSHERS / PUSHES_PER_SECOND)


async def _grown(acknowledged: set[Push], *, by: int) -> None:
    goal = len(acknowledged) + by

    async def reached() -> bool:
        return len(acknowledged) >= goal

    await until(reached, 30, every=0.01)


async def _accepted(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> bool:
    try:
        return (await client.post(url, json=body)).status_code == 200
    except httpx.HTTPError:
        return False


async def _nothing_is_owed(server: Process) -> bool:
    for status in ("pending", "in_flight"):
        found = await server.api.get("/v1/deliveries", params={"status": status, "limit": "1"})
        if found.json()["data"]:
            return False
    return True


async def _events(server: Process) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        after = str(found[-1]["cursor"]) if found else "0"
        page = await server.api.get("/v1/events", params={"after": after, "limit": "200"})
        if not page.json()["data"]:
            return found
        found += page.json()["data"]


def _integrity(path: str) -> str:
    connection = sqlite3.connect(path)
    try:
        (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
        return str(answer)
    finally:
        connection.close()
