"""Streams and calls that wait, behind proxies that compress and buffer whatever they may."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from store.clock import monotonic
from tests.e2e.process import Process, processes
from tests.faults.servers import Nursery
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.services.program import program

EVENTS = 5
COMPRESSED = "gzip, deflate"


def nginx(folder: Path, port: int, upstream: int) -> list[str]:
    """Nothing of ours: the defaults, with everything compressed that comes along."""
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(f"""
        daemon off; pid {folder}/pid; error_log {folder}/error.log;
        events {{}}
        http {{
            {temporary}
            access_log off;
            gzip on;
            gzip_proxied any;
            gzip_min_length 1;
            gzip_types text/event-stream application/json text/plain;
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    proxy_pass http://127.0.0.1:{upstream};
                    proxy_http_version 1.1;
                    proxy_set_header Connection "";
                    proxy_set_header Host $http_host;
                    proxy_buffering on;
                }}
            }}
        }}
    """)
    return ["-p", str(folder), "-c", "nginx.conf"]


def caddy(folder: Path, port: int, upstream: int) -> list[str]:
    (folder / "Caddyfile").write_text(f"""
        {{
            admin off
            auto_https off
            servers {{
                protocols h1
            }}
        }}
        http://:{port} {{
            encode zstd gzip {{
                minimum_length 1
                match {{
                    header Content-Type text/event-stream*
                    header Content-Type application/json*
                }}
            }}
            reverse_proxy 127.0.0.1:{upstream}
        }}
    """)
    return ["run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@dataclass(frozen=True, slots=True)
class Behind:
    taskbell: Process
    client: httpx.AsyncClient

    async def push(self, number: int, status: str = "Success") -> None:
        """Straight to the server, as providers do it."""
        made = await self.taskbell.api.post("/v1/callback-urls", json={"provider": "minimax"})
        path = httpx.URL(made.json()["url"]).path
        body = {"task_id": str(number), "status": status, "file_id": "1"}
        assert (await self.taskbell.api.post(path, json=body)).status_code == 200


@pytest.fixture(params=[nginx, caddy], ids=lambda prepare: prepare.__name__)
async def behind(
    request: pytest.FixtureRequest, sqlite_url: str, tmp_path: Path, home: Nursery
) -> AsyncIterator[Behind]:
    prepare: Callable[[Path, int, int], list[str]] = request.param
    found, port = program(prepare.__name__), free_port()
    async with processes(tmp_path, sqlite_url, {}, home=home) as [taskbell]:
        words = prepare(tmp_path, port, taskbell.port)
        with (tmp_path / "output.log").open("wb") as output:
            proxy = await asyncio.create_subprocess_exec(
                found, *words, stdout=output, stderr=output, env={"HOME": str(tmp_path)}
            )
        client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            headers={**taskbell.api.headers, "accept-encoding": COMPRESSED},
            timeout=PATIENCE_SECONDS,
            trust_env=False,
        )
        try:
            async with client:
                await _answers(client)
                yield Behind(taskbell, client)
        finally:
            proxy.terminate()
            await proxy.wait()


async def _answers(client: httpx.AsyncClient) -> None:
    give_up = monotonic() + PATIENCE_SECONDS
    while monotonic() < give_up:
        with contextlib.suppress(httpx.HTTPError):
            (await client.get("/readyz")).raise_for_status()
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


async def _told(lines: AsyncIterator[str]) -> str:
    """Return the next line with data."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for line in lines:
            if line.startswith("data:"):
                return line
    raise EOFError


async def test_each_event_arrives_before_the_next_one_happens(behind: Behind) -> None:
    seen = []
    async with behind.client.stream("GET", "/v1/events/stream?type=task.succeeded") as answer:
        lines = answer.aiter_lines()
        for number in range(EVENTS):
            await behind.push(number)
            seen.append(json.loads((await _told(lines))[5:])["data"]["task"]["provider_task_id"])
        headers = answer.headers

    assert seen == [str(number) for number in range(EVENTS)]
    assert headers["content-encoding"] == "identity"
    assert headers["cache-control"] == "no-cache, no-transform"


async def test_an_open_page_hears_of_each_change_before_the_next_one(behind: Behind) -> None:
    key = behind.client.headers["authorization"].removeprefix("Bearer ")
    async with httpx.AsyncClient(
        base_url=behind.client.base_url,
        headers={"accept-encoding": COMPRESSED},
        timeout=PATIENCE_SECONDS,
        trust_env=False,
    ) as browser:
        login = (await browser.get("/login")).text
        token = login.partition('name="form_token" value="')[2].partition('"')[0]
        entered = await browser.post("/login", data={"key": key, "form_token": token, "next": "/"})
        assert entered.status_code == 303, entered.text
        async with browser.stream("GET", "/live") as answer:
            assert answer.status_code == 200
            lines = answer.aiter_lines()
            for number in range(EVENTS):
                await behind.push(number)
                assert json.loads((await _told(lines))[5:])["type"].startswith("task.")
            headers = answer.headers

    assert headers["content-encoding"] == "identity"
    assert headers["cache-control"] == "no-cache, no-transform"


async def test_a_call_that_waits_is_answered_when_its_task_ends(behind: Behind) -> None:
    await behind.push(1, "Processing")
    [task] = (await behind.client.get("/v1/tasks")).json()["data"]

    waiting = asyncio.create_task(behind.client.get(f"/v1/tasks/{task['id']}/wait?timeout=100"))
    await behind.push(1)
    answer = await waiting

    assert answer.status_code == 200
    assert answer.json()["status"] == "succeeded"
    assert answer.headers["cache-control"] == "no-store"
