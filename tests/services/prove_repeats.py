"""What the shipped files send again when a host takes a request and dies: pushes, and no other write."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.patience import PATIENCE_SECONDS
from tests.services.program import caddy_that_repeats, program
from tests.services.proxies import CADDY, NGINX, Proxy, running

WRITES = (
    ("POST", "/v1/tasks"),
    ("POST", "/v1/events/evt_1/replay"),
    ("PATCH", "/v1/subscriptions/sub_1"),
    ("POST", "/subscriptions/new"),
    ("POST", "/submit/minimax/v1/video_generation"),
)


@contextlib.asynccontextmanager
async def dying(taken: Counter[str]) -> AsyncIterator[int]:
    """A host that takes each request whole, notes it, and dies; its port."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path, _ = head.split(" ", 2)
            length = head.lower().partition("content-length:")[2].partition("\r\n")[0]
            await reader.readexactly(int(length or 0))
            taken[f"{method} {path}"] += 1

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("proxy", [NGINX, CADDY], ids=lambda proxy: proxy.name)
async def test_a_push_goes_to_the_other_host_and_no_other_write_does(
    proxy: Proxy, tmp_path: Path
) -> None:
    found = caddy_that_repeats() if proxy is CADDY else program(proxy.name)
    taken: Counter[str] = Counter()
    async with (
        dying(taken) as one,
        dying(taken) as other,
        running(proxy, found, tmp_path / "proxy", [one, other]) as between,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{between.ports.plain}",
            trust_env=False,
            timeout=PATIENCE_SECONDS,
        ) as client,
    ):
        push = await client.post("/callbacks/minimax/x", json={"task_id": "1"})
        for method, path in WRITES:
            await client.request(method, path, json={"a": 1})

    assert push.status_code in (502, 503)
    assert taken.pop("POST /callbacks/minimax/x") >= 2
    assert taken == {f"{method} {path}": 1 for method, path in WRITES}
