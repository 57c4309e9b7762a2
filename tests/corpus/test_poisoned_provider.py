"""A provider on a real socket whose answers about some tasks cannot be used, or come inline."""

from __future__ import annotations

import asyncio
import gzip
import json

from store.clock import ManualClock
from tests.app import good
from tests.conftest import START
from tests.corpus.live import Server, live, until

KEY = "provider-key-0123456789"
INLINE = "data:image/png;base64," + "A" * 1_200_000


def body_about(task_id: str) -> bytes:
    """Return the answer about a task, chosen by the prefix of its id."""
    found = {
        "id": task_id,
        "status": "completed",
        "outputs": [f"https://cdn.example/{task_id}.png"],
    }
    if task_id.startswith("inline"):
        found = {"outputs": [INLINE], "id": task_id, "status": "completed"}
    text = json.dumps({"code": 200, "data": found})
    if task_id.startswith("nan"):
        text = text.replace('"outputs"', '"metrics": {"predict_time": NaN}, "outputs"')
    return text.encode()


async def test_tasks_end_beside_inline_outputs_and_answers_that_are_no_json(
    sqlite_url: str,
) -> None:
    clock = ManualClock(START)
    async with Server().serving() as provider:

        async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            path = provider.requests[-1].split(b" ")[1].decode()
            packed = gzip.compress(body_about(path.rpartition("/")[2]), compresslevel=1)
            head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
            writer.write(head % len(packed) + packed)
            await writer.drain()

        provider.script = say
        settings = {
            "ATLASCLOUD_API_KEY": KEY,
            "ATLASCLOUD_BASE_URL": f"http://127.0.0.1:{provider.port}",
            "ATLASCLOUD_REQUESTS_PER_SECOND": "500",
        }
        async with live(sqlite_url, clock, **settings) as taskbell:
            names = [f"{kind}{number}" for number in range(4) for kind in ("inline", "nan")]
            names += [f"good{number}" for number in range(10)]
            for name in names:
                wish = {"provider": "atlascloud", "task_id": name, "kind": "image"}
                good(await taskbell.api.post("/v1/tasks", json=wish), 201)

            async def ended() -> bool:
                found = {task["provider_task_id"]: task for task in await taskbell.tasks()}
                statuses = {name: found[name]["status"] for name in names}
                clock.advance(milliseconds=20)
                return all(
                    statuses[name] == "succeeded" for name in names if not name.startswith("nan")
                )

            await until(ended)
            tasks = {task["provider_task_id"]: task for task in await taskbell.tasks()}

    asked = [request.split(b" ")[1].decode() for request in provider.requests]
    assert sum("good" in path for path in asked) == 10
    for name, task in tasks.items():
        if name.startswith("inline"):
            [output] = task["outputs"]
            assert (output["url"], output["kind"]) == (None, "image")
            assert "came inline (data:image/png, over " in output["note"]
        elif name.startswith("nan"):
            assert task["status"] == "queued"
            assert task["trouble"]["code"] == "not_json"
        else:
            assert task["outputs"][0]["note"] is None
