"""A real nginx and a real Caddy before a real Taskbell, with the files of deploy/proxy.

Only ports, certificates and the folders of logs are other ones.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from store.clock import monotonic
from tests.e2e.process import Process, processes, until
from tests.ports import free_port
from tests.services.program import program
from tests.services.proxies import CADDY, HOST, NGINX, Proxy, running

LONGER = 22
"""Seconds; the proxies wait 20 for anything but streams and /wait."""


@dataclass(frozen=True, slots=True)
class Proxied:
    """A Taskbell and a client that reaches it through the proxy only."""

    taskbell: Process
    client: httpx.AsyncClient
    logs: Path

    async def callback(self) -> str:
        """A new callback URL's path."""
        made = await self.client.post("/v1/callback-urls", json={"provider": "minimax"})
        assert made.status_code == 201, made.text
        url = httpx.URL(made.json()["url"])
        assert url.host == HOST
        return url.path


@pytest.fixture(params=[NGINX, CADDY], ids=lambda proxy: proxy.name)
async def proxied(
    request: pytest.FixtureRequest, sqlite_url: str, tmp_path: Path
) -> AsyncIterator[Proxied]:
    proxy: Proxy = request.param
    port = free_port()
    public = {"TASKBELL_PUBLIC_URL": f"https://{HOST}:{port}"}
    async with processes(tmp_path, sqlite_url, public) as [taskbell]:
        between = running(
            proxy, program(proxy.name), tmp_path / "proxy", [taskbell.port], port=port
        )
        async with between as proxying, _client(taskbell, port) as client:
            await until(lambda: _answers(client), 10)
            yield Proxied(taskbell, client, proxying.folder / "logs")


def _client(taskbell: Process, port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{port}",
        headers={"host": f"{HOST}:{port}", "authorization": taskbell.api.headers["authorization"]},
        verify=False,
        trust_env=False,
        timeout=60,
        event_hooks={"request": [_name_the_host]},
    )


async def _name_the_host(request: httpx.Request) -> None:
    request.extensions["sni_hostname"] = HOST


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.HTTPError:
        return False


def ended(task: str) -> dict[str, str]:
    return {"task_id": task, "status": "Success", "file_id": "1"}


async def test_pushes_pass_and_their_tokens_stay_out_of_the_logs(proxied: Proxied) -> None:
    path = await proxied.callback()
    client = proxied.client

    challenge = await client.post(path, json={"challenge": "hello"})
    push = await client.post(path, json=ended("1"))
    large = await client.post(path, content=b" " * (1024 * 1024 + 1))
    forged = await client.post(path[:-1], json=ended("2"))
    numbers = await client.get("/metrics")
    login = await client.get("/login")
    await client.post(path, json=ended("1"), headers={"host": "evil.example.net"})
    stranger = await client.get("/v1/tasks", headers={"host": "evil.example.net"})
    proxied.taskbell.kill()
    away = await client.post(path, json=ended("3"))

    assert challenge.json() == {"challenge": "hello"}
    assert [each.status_code for each in (push, large, forged, numbers)] == [200, 413, 404, 404]
    assert away.status_code == 502
    assert login.headers["content-type"].startswith("text/html")
    assert stranger.status_code in (200, 421)  # Caddy has no such site, and answers emptily
    assert not stranger.content or stranger.status_code == 421
    assert push.headers["strict-transport-security"] == "max-age=31536000"
    token = path.rpartition("/")[2]
    texts = [file.read_text() for file in proxied.logs.iterdir()]
    assert any("/callbacks/minimax/-" in text for text in texts)
    assert not [text for text in texts if token[:20] in text]


async def test_a_stream_tells_at_once_and_lives_on(proxied: Proxied) -> None:
    path = await proxied.callback()
    arrived: list[float] = []

    async def follow() -> None:
        async with proxied.client.stream("GET", "/v1/events/stream?type=task.*") as stream:
            assert stream.status_code == 200
            started.set()
            async for line in stream.aiter_lines():
                if line.startswith("data:") and json.loads(line[5:])["type"] == "task.succeeded":
                    arrived.append(monotonic())

    started = asyncio.Event()
    following = asyncio.create_task(follow())
    await started.wait()
    pushed = []
    for pause in (0.5, LONGER):
        await asyncio.sleep(pause)
        pushed.append(monotonic())
        assert (await proxied.client.post(path, json=ended(str(pause)))).status_code == 200
    await until(lambda: _is(len(arrived) == 2), 5)
    following.cancel()

    assert all(end - begin < 2 for begin, end in zip(pushed, arrived, strict=True))


async def test_a_call_that_waits_is_waited_for(proxied: Proxied) -> None:
    wish = {"provider": "minimax", "task_id": "w1"}
    task = (await proxied.client.post("/v1/tasks", json=wish)).json()

    answer = await proxied.client.get(f"/v1/tasks/{task['id']}/wait?timeout={LONGER}")

    assert answer.status_code == 202


async def _is(true: bool) -> bool:
    return true
