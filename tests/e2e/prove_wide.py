"""Many processes on one PostgreSQL: they share the work, and miss nothing of each other's."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.demo.server import LocalServer
from deploy.demo.subscriber import Subscriber
from deploy.settings import process_environment
from store.database import open_database
from store.schema import HEAD
from tests.docs.pages import ROOT, page
from tests.e2e.process import Process, processes, until
from tests.faults.servers import Nursery
from tests.newer import newer_schema
from tests.patience import PATIENCE_SECONDS

# no provider keys: pushes are recorded as they come. Time enough for each attempt, so that a
# subscriber which is slow on a busy machine is not asked twice
ENVIRONMENT = {"TASKBELL_ATTEMPT_TIMEOUT_SECONDS": "60", "TASKBELL_RETRY_SCHEDULE": "1,1,2,5,10"}
API_KEY = "the-admin-key-of-these-tests-0123456789"
SCALE_OUT = "deploy/docs/how-to/scale-out.md"

PUSHES, PUSHERS = 300, 12


def roles(*names: str) -> list[dict[str, str]]:
    return [{**ENVIRONMENT, "TASKBELL_ROLES": name} for name in names]


async def test_nobody_misses_or_repeats_what_two_receivers_record(
    postgresql_url: str, tmp_path: Path, home: Nursery
) -> None:
    first, second = Subscriber(""), Subscriber("")
    settings = roles("receive", "receive", "poll", "dispatch", "dispatch")
    async with (
        LocalServer(first.app) as hook,
        LocalServer(second.app) as other_hook,
        processes(tmp_path, postgresql_url, *settings, home=home) as running,
    ):
        faces = running[:2]
        await subscribe(faces[0], first, hook.url)
        await subscribe(faces[1], second, other_hook.url)
        readers = [asyncio.create_task(follow(face, PUSHES)) for face in faces]
        await push_through(faces, range(PUSHES))
        async with asyncio.timeout(PATIENCE_SECONDS):
            seen = await asyncio.gather(*readers)
        await until(partial(nothing_is_owed, faces[0]), PATIENCE_SECONDS)
        complete = await follow(faces[0], PUSHES)
        codes = [await process.stop() for process in running]

    assert seen == [complete, complete]
    assert len(set(complete)) == PUSHES
    for subscriber in (first, second):
        assert subscriber.attempts == Counter(complete)
    assert codes == [0] * len(running)


async def test_a_notice_saves_waiting_for_the_look(
    postgresql_url: str, tmp_path: Path, home: Nursery
) -> None:
    subscriber = Subscriber("")
    never = {"look_every": 3600}  # only a notice makes the other process look
    settings = roles("receive", "dispatch")
    async with (
        LocalServer(subscriber.app) as hook,
        processes(tmp_path, postgresql_url, *settings, home=home, tricks=never) as (face, _),
    ):
        await subscribe(face, subscriber, hook.url)
        await until(partial(hears, postgresql_url), PATIENCE_SECONDS)

        for number in range(10):
            await arrives(subscriber, face, number)

    assert subscriber.attempts.total() == 10


async def test_a_lost_notice_costs_no_event(
    postgresql_url: str, tmp_path: Path, home: Nursery
) -> None:
    subscriber = Subscriber("")
    async with (
        LocalServer(subscriber.app) as hook,
        processes(tmp_path, postgresql_url, *roles("receive", "dispatch"), home=home) as running,
    ):
        face, sender = running
        await subscribe(face, subscriber, hook.url)
        await until(partial(hears, postgresql_url), PATIENCE_SECONDS)

        for number in range(5):
            cut_listeners(postgresql_url)
            await arrives(subscriber, face, number)
        await until(partial(hears, postgresql_url), PATIENCE_SECONDS)
        await until(partial(told_both, sender.log), PATIENCE_SECONDS)

    assert subscriber.attempts.total() == 5


async def test_others_deliver_what_a_killed_process_had_claimed(
    postgresql_url: str, tmp_path: Path, home: Nursery
) -> None:
    subscriber = Subscriber("")
    # an answer in 4 seconds is in time on any machine; what the killed one had claimed waits for 5
    patient = {"TASKBELL_ATTEMPT_TIMEOUT_SECONDS": "4"}
    settings = [one | patient for one in roles("receive", "dispatch", "dispatch")]
    quick = {"lease_margin": 1}
    async with (
        LocalServer(Slow(subscriber.app, 0.3)) as hook,
        processes(tmp_path, postgresql_url, *settings, home=home, tricks=quick) as (face, *_),
    ):
        await subscribe(face, subscriber, hook.url)
        await push_through([face], range(120))

        claimed = await kill_one_that_delivers(postgresql_url)
        await until(partial(nothing_is_owed, face), PATIENCE_SECONDS, every=0.3)
        events = await follow(face, 120)

    assert claimed
    assert {event.id for event in subscriber.events} == set(events)
    repeated = {event_id for event_id, attempts in subscriber.attempts.items() if attempts > 1}
    assert repeated <= claimed
    assert set(subscriber.attempts.values()) <= {1, 2}


async def test_two_versions_work_side_by_side_while_one_is_upgraded(
    postgresql_url: str, tmp_path: Path, home: Nursery
) -> None:
    subscriber = Subscriber("")
    async with (
        LocalServer(subscriber.app) as hook,
        processes(tmp_path, postgresql_url, *2 * roles("receive,poll,dispatch"), home=home) as (
            one,
            other,
        ),
    ):
        await subscribe(one, subscriber, hook.url)
        await push_through([one, other], range(30))
        upgrade = open_database(postgresql_url)
        newer_schema(upgrade, oldest=int(HEAD))
        upgrade.dispose()

        await other.stop()
        await push_through([one], range(30, 60))
        await other.start()  # older than the schema it finds
        await push_through([one, other], range(60, 90))

        await until(partial(nothing_is_owed, other), PATIENCE_SECONDS)
        events = await follow(other, 90)
        codes = [await process.stop() for process in (one, other)]

    assert subscriber.attempts == Counter(events)
    assert codes == [0, 0]


async def test_the_commands_of_the_page_on_scaling_out_start_two_hosts(
    postgresql_url: str, tmp_path: Path
) -> None:
    own = (block for block in page(SCALE_OUT).blocks() if block.test == "tests/e2e/prove_wide.py")
    settings, *commands = (block.text for block in own)
    ours = settings.replace(
        "postgresql://taskbell:password@db.example.com/taskbell", f"'{postgresql_url}'"
    ).replace("SECRET_KEYS=…", "SECRET_KEYS=a-secret-that-both-of-the-two-hosts-know")
    front, sender = (Reader(tmp_path, ours + command) for command in commands)
    subscriber = Subscriber("")
    try:
        async with LocalServer(subscriber.app) as hook:
            await asyncio.gather(front.start(), sender.start())
            await subscribe(front, subscriber, hook.url)
            await push_through([front], range(5))
            async with asyncio.timeout(PATIENCE_SECONDS):
                await subscriber.wait_for(5)
        pages = [(await host.api.get("/v1/tasks")).status_code for host in (front, sender)]
        codes = [await host.stop() for host in (front, sender)]
    finally:
        await asyncio.gather(front.close(), sender.close())

    assert pages == [200, 404]
    assert codes == [0, 0]


async def subscribe(face: Process, subscriber: Subscriber, url: str) -> None:
    made = await face.api.post("/v1/subscriptions", json={"url": f"{url}/hook"})
    subscriber.secret = made.json()["secret"]


async def push_through(faces: Sequence[Process], numbers: Sequence[int]) -> None:
    """Push an ending for each number, a few at a time, through one face after the other."""
    made = await faces[0].api.post("/v1/callback-urls", json={"provider": "minimax"})
    path = httpx.URL(made.json()["url"]).path
    left = iter(numbers)

    async def push_some(provider: httpx.AsyncClient) -> None:
        for number in left:
            body = {"task_id": f"t{number}", "status": "Success", "file_id": f"f{number}"}
            url = faces[number % len(faces)].url + path
            # a provider repeats what a busy store could not take
            await until(partial(_taken, provider, url, body), PATIENCE_SECONDS)

    async with httpx.AsyncClient(
        timeout=PATIENCE_SECONDS, trust_env=False, verify=False
    ) as provider:
        await asyncio.gather(*(push_some(provider) for _ in range(PUSHERS)))


async def _taken(provider: httpx.AsyncClient, url: str, body: dict[str, str]) -> bool:
    status = (await provider.post(url, json=body)).status_code
    assert status in (200, 503)
    return status == 200


async def follow(face: Process, count: int) -> list[str]:
    """The ids of so many events, read while they are written as a reader does with its cursor."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        after = str(found[-1]["cursor"]) if found else "0"
        page = await face.api.get("/v1/events", params={"after": after, "limit": "10"})
        found += page.json()["data"]
        await asyncio.sleep(0.01)
    assert [event["cursor"] for event in found] == sorted({event["cursor"] for event in found})
    return [event["id"] for event in found]


async def nothing_is_owed(face: Process) -> bool:
    for status in ("pending", "in_flight"):
        found = await face.api.get("/v1/deliveries", params={"status": status, "limit": "1"})
        if found.json()["data"]:
            return False
    return True


async def arrives(subscriber: Subscriber, face: Process, number: int) -> None:
    """Push the ending with this number, and wait until the subscriber has it."""
    await push_through([face], [number])
    async with asyncio.timeout(PATIENCE_SECONDS):
        await subscriber.wait_for(number + 1)


async def told_both(log: Path) -> bool:
    """Whether the log says as often that the notices are back as that they went."""
    text = await asyncio.to_thread(log.read_text)
    return text.count("no notices from other processes") == text.count("are back") >= 1


_LISTENERS = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


async def hears(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return connection.execute(f"SELECT {_LISTENERS}".encode()).fetchone() is not None


def cut_listeners(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(f"SELECT pg_terminate_backend(pid) {_LISTENERS}".encode())


_BUSY = "FROM deliveries WHERE status = 'in_flight'"


class Reader(Process):
    """A server that a reader of the page on scaling out starts in a shell."""

    def __init__(self, folder: Path, script: str) -> None:
        super().__init__(folder, "", API_KEY, {"PATH": process_environment()["PATH"]})
        del self._environment["TASKBELL_DATABASE_URL"]
        self._environment |= {"TASKBELL_PORT": str(self.port), "HOME": str(folder)}
        self._script = script

    def _popen(self) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            return subprocess.Popen(
                ["sh", "-euc", f"trap '' TERM\n{self._script}"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    async def stop(self) -> int:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGTERM)  # the shell waits for what it started
        return await asyncio.to_thread(self._process.wait, PATIENCE_SECONDS)


class Slow:
    """An app that takes its time to answer."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await asyncio.sleep(self._seconds)
        await self._app(scope, receive, send)


async def kill_one_that_delivers(url: str) -> set[str]:
    """Kill a process while it has deliveries in flight; the ids of their events."""
    with psycopg.connect(url, autocommit=True) as connection:

        async def in_flight() -> bool:
            return connection.execute(f"SELECT {_BUSY}".encode()).fetchone() is not None

        await until(in_flight, PATIENCE_SECONDS, every=0.01)
        [owner] = connection.execute(f"SELECT owner {_BUSY}".encode()).fetchone() or [""]
        pid = int(owner.split(":")[-2])
        os.kill(pid, signal.SIGSTOP)  # so that nothing ends between the look and the kill
        claimed = connection.execute(
            f"SELECT event_id {_BUSY} AND owner = %s".encode(), [owner]
        ).fetchall()
        os.kill(pid, signal.SIGKILL)
    return {row[0] for row in claimed}
