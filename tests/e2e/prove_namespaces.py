"""Hosts of their own, on a network of their own, which is cut and mended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from pathlib import Path

import httpx
import pytest

from deploy.demo.server import LocalServer
from deploy.demo.subscriber import Subscriber
from tests import databases
from tests.databases import PostgreSQL, start_postgresql
from tests.e2e.lan import NETWORK, Host, NotPermitted, lan
from tests.e2e.process import TASKBELL, until
from tests.patience import PATIENCE_SECONDS

CUT_SECONDS = 5
API_KEY = secrets.token_urlsafe(32)
ENVIRONMENT = {
    "PYTHONUTF8": "1",
    "TASKBELL_API_KEY": API_KEY,
    "TASKBELL_SECRET_KEYS": secrets.token_urlsafe(32),
    "TASKBELL_ALLOW_NETWORKS": NETWORK,
    "TASKBELL_ATTEMPT_TIMEOUT_SECONDS": "1",  # makes the leases short: 16 seconds
    "TASKBELL_RETRY_SCHEDULE": "1,1,2,5,10",
}


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    with contextlib.ExitStack() as network:
        try:
            made = network.enter_context(lan(4))
        except NotPermitted as reason:
            pytest.skip(f"hosts in network namespaces cannot be made here: {reason}")
        yield made


@pytest.fixture
def postgresql_host(hosts: list[Host], monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgreSQL]:
    """A server on the first host, which the others may use."""
    monkeypatch.setitem(databases._SETTINGS, "listen_addresses", hosts[0].address)
    with hosts[0].entered():
        server = start_postgresql()
    try:
        rule = f"host all all {NETWORK} trust"
        server.run(f"COPY (SELECT '{rule}') TO PROGRAM 'cat >> pg_hba.conf'")
        server.run("SELECT pg_reload_conf()")
        yield server
    finally:
        server.stop()


async def test_a_host_that_was_cut_off_delivers_everything_when_it_is_back(
    hosts: list[Host], postgresql_host: PostgreSQL, tmp_path: Path
) -> None:
    database, front, sender, outside = hosts
    shared = {"TASKBELL_DATABASE_URL": f"postgresql://postgres@{database.address}/postgres"}
    subscriber = Subscriber("")
    with outside.entered():  # the subscriber, and the providers that push
        async with (
            LocalServer(subscriber.app, host=outside.address) as hook,
            taskbell(front, tmp_path, {**shared, "TASKBELL_ROLES": "receive,poll"}) as api,
            taskbell(sender, tmp_path, {**shared, "TASKBELL_ROLES": "dispatch"}),
        ):
            url = await subscribe(api, subscriber, hook)
            acknowledged: list[str] = []
            pushing = asyncio.create_task(push_on(url, acknowledged))
            await until(partial(grown, acknowledged, 50), PATIENCE_SECONDS)

            sender.unplug()
            before = len(acknowledged)
            await asyncio.sleep(CUT_SECONDS)
            during = len(acknowledged) - before
            arrived = len(subscriber.events)
            sender.plug_in()
            await until(partial(grown, acknowledged, len(acknowledged) + 50), 20)
            pushing.cancel()
            await asyncio.wait([pushing])
            recorded = await events(api)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await subscriber.wait_for(len(recorded))

    assert during > 0
    assert arrived < before + during
    assert set(acknowledged) <= set(recorded.values())
    assert {event.id for event in subscriber.events} == recorded.keys()


async def test_a_database_out_of_reach_is_noticed_and_found_again(
    hosts: list[Host], postgresql_host: PostgreSQL, tmp_path: Path
) -> None:
    database, front, _, outside = hosts
    settings = {"TASKBELL_DATABASE_URL": f"postgresql://postgres@{database.address}/postgres"}
    subscriber = Subscriber("")
    with outside.entered():
        async with (
            LocalServer(subscriber.app, host=outside.address) as hook,
            taskbell(front, tmp_path, settings) as api,
            httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False, verify=False) as provider,
        ):
            url = await subscribe(api, subscriber, hook)
            body = {"task_id": "t1", "status": "Success", "file_id": "f1"}

            database.unplug()
            refused = await provider.post(url, json=body)  # no answer but silence, for 10 seconds
            database.plug_in()
            await until(partial(accepted, provider, url, body), PATIENCE_SECONDS)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await subscriber.wait_for(1)

    assert refused.status_code == 503
    assert "retry-after" in refused.headers


async def subscribe(api: httpx.AsyncClient, subscriber: Subscriber, hook: LocalServer) -> str:
    """Subscribe it; a callback URL of MiniMax's."""
    made = await api.post("/v1/subscriptions", json={"url": f"{hook.url}/hook"})
    subscriber.secret = made.json()["secret"]
    created = await api.post("/v1/callback-urls", json={"provider": "minimax"})
    return str(created.json()["url"])


@contextlib.asynccontextmanager
async def taskbell(
    host: Host, folder: Path, settings: Mapping[str, str]
) -> AsyncIterator[httpx.AsyncClient]:
    """A Taskbell process on a host, and a client of its API."""
    log = folder / f"{host.namespace}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *host.command(TASKBELL, "serve", "--host", host.address, "--port", "8000"),
            cwd=folder,
            env={**ENVIRONMENT, **settings},
            stdout=output,
            stderr=output,
        )
    authorization = {"authorization": f"Bearer {API_KEY}"}
    url = f"http://{host.address}:8000"
    try:
        async with httpx.AsyncClient(
            base_url=url,
            headers=authorization,
            timeout=PATIENCE_SECONDS,
            trust_env=False,
            verify=False,
        ) as api:
            await until(partial(ready, api), PATIENCE_SECONDS)
            yield api
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.wait() == 0, log.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def ready(api: httpx.AsyncClient) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return (await api.get("/readyz")).status_code == 200
    return False


async def push_on(url: str, acknowledged: list[str]) -> None:
    """Push one task's end after the other, each until it is acknowledged."""
    async with httpx.AsyncClient(
        timeout=PATIENCE_SECONDS, trust_env=False, verify=False
    ) as provider:
        for number in itertools.count():
            body = {"task_id": f"t{number}", "status": "Success", "file_id": f"f{number}"}
            await until(partial(accepted, provider, url, body), PATIENCE_SECONDS)
            acknowledged.append(f"t{number}")
            await asyncio.sleep(0.02)


async def accepted(provider: httpx.AsyncClient, url: str, body: dict[str, str]) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return (await provider.post(url, json=body)).status_code == 200
    return False


async def grown(acknowledged: list[str], to: int) -> bool:
    return len(acknowledged) >= to


async def events(api: httpx.AsyncClient) -> dict[str, str]:
    """Every event's id, with the task it is about."""
    found: dict[str, str] = {}
    after = "0"
    while page := (await api.get("/v1/events", params={"after": after, "limit": "200"})).json():
        if not page["data"]:
            break
        after = str(page["data"][-1]["cursor"])
        found |= {event["id"]: event["data"]["task"]["provider_task_id"] for event in page["data"]}
    return found
