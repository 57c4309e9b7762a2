"""The example subscribers as processes of their own, with a real Taskbell that delivers to them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from dispatch.signing import new_secret, signed_headers
from store.clock import system_clock
from store.tables import subscriptions
from store.vault import Vault
from tests.app import SECRET_KEYS, Taskbell, good, minimax, running
from tests.dispatch.chat_events import about
from tests.e2e.process import until
from tests.examples.node import NODE, ROOT, express
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port

SECRET = new_secret()
BODY = about().body


@dataclass(frozen=True, slots=True)
class Subscriber:
    url: str
    inbox: Path
    log: Path

    def kept(self) -> Mapping[str, int]:
        """Whether the work for each event in the inbox is done."""
        with closing(sqlite3.connect(self.inbox)) as inbox:
            return dict(inbox.execute("SELECT id, done FROM inbox"))

    async def finished(self) -> bool:
        kept = self.kept()
        return bool(kept) and all(kept.values())

    async def post(
        self,
        event_id: str,
        *,
        body: bytes = BODY,
        secret: str = SECRET,
        at: datetime | None = None,
        **headers: str,
    ) -> int:
        """Send as Taskbell would; the status."""
        seconds = int((at or system_clock()).timestamp())
        signed = signed_headers((secret,), event_id, seconds, body) | headers
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.post(self.url, content=body, headers=signed)).status_code


def command(name: str, port: int) -> tuple[list[str | Path], Path]:
    """As the example's top says, and where."""
    if name == "express":
        return [NODE, "subscriber.mjs"], express()
    words = ["-m", "uvicorn", "fastapi_subscriber:app", "--port", str(port)]
    return [sys.executable, *words], ROOT / "deploy/examples"


@pytest.fixture(scope="module", params=["fastapi", "express"])
def subscriber(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subscriber]:
    """One that finds an event in its inbox which an earlier run did not finish."""
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    inbox, log = folder / "inbox.db", folder / "log"
    with closing(sqlite3.connect(inbox)) as before:
        before.execute("CREATE TABLE inbox (id TEXT PRIMARY KEY, body TEXT, done INT)")
        before.execute("INSERT INTO inbox VALUES ('evt_before', ?, 0)", (BODY.decode(),))
        before.commit()
    words, where = command(request.param, port)
    environment = {
        "TASKBELL_WEBHOOK_SECRET": SECRET,
        "INBOX": str(inbox),
        "PORT": str(port),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(words, cwd=where, env=environment, stdout=out, stderr=out)
    yield Subscriber(f"http://127.0.0.1:{port}/taskbell", inbox, log)
    process.terminate()
    process.wait(PATIENCE_SECONDS)


@pytest.fixture
async def ready(subscriber: Subscriber) -> Subscriber:
    async def answers() -> bool:
        try:
            return await subscriber.post("evt_x", body=b"{}", secret=new_secret()) == 400
        except httpx.TransportError:
            return False

    await until(answers, PATIENCE_SECONDS, every=0.02)
    return subscriber


@pytest.fixture
async def taskbell(sqlite_url: str) -> AsyncIterator[Taskbell]:
    environ = {"ROLES": "receive,dispatch", "ALLOW_NETWORKS": "127.0.0.0/8"}
    async with running(sqlite_url, system_clock, environ) as taskbell:
        yield taskbell


async def test_what_an_earlier_run_left_is_done_at_the_start(ready: Subscriber) -> None:
    await until(ready.finished, PATIENCE_SECONDS, every=0.02)

    assert ready.kept()["evt_before"] == 1


async def test_a_delivery_and_its_repetition_are_taken_and_done_once(
    ready: Subscriber, taskbell: Taskbell
) -> None:
    await taskbell.subscribe(ready.url, types=["task.succeeded"])
    locked = Vault(SECRET_KEYS).lock(SECRET)
    await taskbell.write(update(subscriptions).values(secret_locked=locked))

    async def delivered(count: int) -> bool:
        return len(await taskbell.data("/v1/deliveries?status=delivered")) == count

    await taskbell.push(minimax(status="Success", file_id="1"))
    await until(partial(delivered, 1), PATIENCE_SECONDS, every=0.02)
    [event] = [each for each in await taskbell.events() if each["type"] == "task.succeeded"]
    good(await taskbell.api.post(f"/v1/events/{event['id']}/replay", json={}), 202)
    await until(partial(delivered, 2), PATIENCE_SECONDS, every=0.02)
    await until(ready.finished, PATIENCE_SECONDS, every=0.02)

    assert ready.kept()[event["id"]] == 1
    assert ready.log.read_text().count(event["data"]["task"]["id"]) == 1


@pytest.mark.parametrize("at", [timedelta(minutes=-6), timedelta(minutes=6)])
async def test_a_stale_or_early_event_is_refused(ready: Subscriber, at: timedelta) -> None:
    status = await ready.post("evt_stale", at=system_clock() + at)

    assert status == 400
    assert "evt_stale" not in ready.kept()


@pytest.mark.parametrize(
    "forged",
    [
        {"secret": new_secret()},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v1"},
        {"webhook-signature": ""},
        {"webhook-timestamp": "soon"},
        {"webhook-id": "evt_other"},
    ],
)
async def test_a_forged_event_is_refused(ready: Subscriber, forged: dict[str, Any]) -> None:
    status = await ready.post("evt_forged", **forged)

    assert status == 400
    assert not {"evt_forged", "evt_other"} & ready.kept().keys()


async def test_bytes_that_are_no_text_are_refused(ready: Subscriber) -> None:
    assert await ready.post("evt_bytes", body=b"\xff\xfe", secret=new_secret()) == 400


async def test_more_than_a_mebibyte_is_not_read(ready: Subscriber) -> None:
    assert await ready.post("evt_large", body=b"x" * (1024 * 1024 + 1)) == 413
