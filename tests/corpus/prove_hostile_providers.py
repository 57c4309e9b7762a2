"""Forged pushes that a provider is asked about, and hostile answers of providers: live, by rows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from receiver.poller import Poller
from store.clock import ManualClock
from tests.app import Taskbell, good, problem
from tests.conftest import START
from tests.corpus.live import Script, Server, answer, live, until
from tests.corpus.rows import CONTRACT, Row, bodies, chosen, is_confirm, is_poll
from tests.corpus.wire import Wire, wired

KEY = "provider-key-0123456789"
MADE = "https://cdn.example.net/made.mp4"
HOOK = "http://93.184.216.34/hook"


class Scene:
    """A Taskbell that asks one provider, which gives one answer to everything."""

    def __init__(
        self, taskbell: Taskbell, provider: Server, wire: Wire, clock: ManualClock
    ) -> None:
        self.taskbell = taskbell
        self.provider = provider
        self.wire = wire
        self.clock = clock

    async def asked(self, times: int) -> None:
        """Return once it was asked so often, and what it said was taken in."""

        async def so_often() -> bool:
            return len(self.provider.requests) >= times

        await until(so_often)
        (poller,) = (loop for loop in self.taskbell.service.loops if isinstance(loop, Poller))

        async def taken_in() -> bool:
            return not poller.rounds.under_way

        await until(taken_in)

    def assert_nobody_else_was_asked(self) -> None:
        inside = {end for end in self.wire.connected if end[0] == "127.0.0.1"}
        assert inside == {self.provider.end}
        assert set(self.wire.connected) <= inside | {("93.184.216.34", 80)}


@contextlib.asynccontextmanager
async def asking(name: str, says: Script, database_url: str) -> AsyncIterator[Scene]:
    clock = ManualClock(START)
    with wired() as wire:
        async with Server().serving() as provider:
            provider.script = says
            wire.leads[provider.end] = provider.end
            settings = {f"{name}_API_KEY": KEY, f"{name}_BASE_URL": url_of(provider)}
            async with live(database_url, clock, **settings) as taskbell:
                await taskbell.subscribe(HOOK)
                yield Scene(taskbell, provider, wire, clock)


def url_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


def http(status: int, body: Any, headers: Mapping[str, str] | None = None) -> bytes:
    raw = json.dumps(body).encode()
    fields = {"content-type": "application/json", **(headers or {}), "content-length": len(raw)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} x\r\n{lines}\r\n".encode() + raw


def said(confirm: Mapping[str, Any]) -> bytes:
    """What the provider answers about a task, as a row tells it."""
    if "http" in confirm:
        fields = {"location": confirm["location"]} if "location" in confirm else {}
        return http(confirm["http"], {}, fields)
    file = {"download_url": MADE}  # when asked about the file
    return http(200, {"base_resp": {"status_code": 0}, "file": file, **confirm})


@pytest.mark.parametrize("row", chosen(is_confirm))
async def test_a_forged_push_is_what_the_provider_says(
    row: Row, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with asking("MINIMAX", answer(said(row["confirm"])), sqlite_url) as scene:
        for raw in bodies(row):
            good(await scene.taskbell.push(raw))
        await scene.asked(1)

        events = await scene.taskbell.events()
        deliveries = await scene.taskbell.data("/v1/deliveries")

    assert len(events) == len(deliveries) == row["expected"]["dispatched"]
    for event in events:  # what it came to is told by the provider, not by the push
        task = event["data"]["task"]
        assert task["confirmed"] is True
        assert [(each["file_id"], each["url"]) for each in task["outputs"]] == [
            (row["confirm"]["file_id"], MADE)
        ]
    scene.assert_nobody_else_was_asked()
    assert not [record for record in caplog.records if record.exc_info]


def polled(row: Row) -> Any:
    """What the provider answers to a question; some rows only describe it."""
    if "value_gen" not in row:
        return row["value"]
    return {"data": {**row["value_gen"]["data"], "outputs": ["https://a.example.net/x"] * 10_000}}


@pytest.mark.parametrize("row", chosen(is_poll))
async def test_a_hostile_answer_of_a_provider_moves_a_task_or_nothing(
    row: Row, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with asking("ATLASCLOUD", answer(http(200, polled(row))), sqlite_url) as scene:
        wish = {"provider": "atlascloud", "task_id": "pred_1", "kind": "video"}
        good(await scene.taskbell.api.post("/v1/tasks", json=wish), 201)
        await scene.asked(1)
        if row["expected"]["event"] == "stored":
            await believed(scene)
        [task] = await scene.taskbell.tasks()
        types = await scene.taskbell.event_types()
        loops_run = not [record for record in caplog.records if record.exc_info]

    assert loops_run
    if row["expected"]["event"] == "stored":
        assert (task["status"], types[-1]) == ("succeeded", "task.succeeded")
    elif row["id"] in CONTRACT:
        assert (task["status"], types) == ("processing", ["task.queued", "task.processing"])
    else:
        assert (task["status"], types) == ("queued", ["task.queued"])
    scene.assert_nobody_else_was_asked()


async def believed(scene: Scene) -> None:
    """Let time pass until it believes what it was told: at the second time, without outputs."""

    async def ended() -> bool:
        [task] = await scene.taskbell.tasks()
        scene.clock.advance(seconds=5)
        return bool(task["finished_at"])

    await until(ended)


@pytest.mark.parametrize(
    "key_id", ["http://127.0.0.1/keys", "//evil.example.net/", "../../keys", "x" * 5_000, "%0d%0a"]
)
async def test_a_push_names_no_page_of_keys(key_id: str, sqlite_url: str) -> None:
    moved = http(302, {}, {"location": "http://evil.example.net/jwks.json"})
    async with asking("ATLASCLOUD", answer(moved), sqlite_url) as scene:
        headers = {
            "x-atlascloud-webhook-timestamp": str(int(START.timestamp())),
            "x-atlascloud-webhook-key-id": key_id,
            "x-atlascloud-webhook-signature-ed25519": "A" * 86,
        }
        path = scene.taskbell.path("atlascloud")
        refused = await scene.taskbell.door.post(path, content=b"{}", headers=headers)

    assert "cannot be read" in problem(refused, 503)
    [asked] = scene.provider.requests
    assert asked.startswith(b"GET /webhooks/jwks.json HTTP/1.1\r\n")
    scene.assert_nobody_else_was_asked()
