"""However a subscriber misbehaves, its attempt comes to what it should, in time."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from dispatch.client import Client
from dispatch.guard import Guard
from dispatch.sending import Sender, Sent
from dispatch.signing import new_secret
from dispatch.sink import Sink, Target, sinks
from receiver.provider import Provider, UnreadableBody, providers
from store.clock import ManualClock
from store.database import open_database
from store.store import Store
from store.tables import events
from tests.conftest import START
from tests.dispatch.test_sending import EVENT, VAULT, subscription
from tests.faults.misbehave_ways import WAYS, Misbehaving, Way
from tests.making import push, rows, tell
from tests.patience import PATIENCE_SECONDS

DEADLINE = timedelta(seconds=1)
"""Of the attempts that only a deadline ends; no other is in a hurry, however busy the machine is."""

LASTING = [way for way in WAYS if way.lasts]


@pytest.fixture(scope="module")
async def subscriber(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Misbehaving]:
    made = Misbehaving(ManualClock(START), tmp_path_factory.mktemp("misbehaving"))
    async with made.served():
        yield made


@pytest.fixture(scope="module")
async def sender(subscriber: Misbehaving) -> AsyncIterator[Sender]:
    async with _client(subscriber, timedelta(seconds=PATIENCE_SECONDS)) as client:
        yield Sender(client, VAULT, ManualClock(START))


@pytest.fixture(scope="module")
async def lasting(subscriber: Misbehaving) -> dict[str, Sent]:
    """The attempts that only the deadline ends, by the name of their way: all at the same time."""
    async with _client(subscriber, DEADLINE) as client, asyncio.timeout(PATIENCE_SECONDS):
        hasty = Sender(client, VAULT, ManualClock(START))
        sent = await asyncio.gather(*(_attempt(hasty, subscriber, way) for way in LASTING))
    return {way.name: each for way, each in zip(LASTING, sent, strict=True)}


def _client(subscriber: Misbehaving, timeout: timedelta) -> Client:
    guard = Guard(allow=(ipaddress.ip_network("127.0.0.0/8"),))
    trusting = ssl.create_default_context(cafile=str(subscriber.trusted))
    return Client(guard, timeout=timeout, limit=10, user_agent="taskbell/test", tls=trusting)


async def _attempt(sender: Sender, subscriber: Misbehaving, way: Way) -> Sent:
    return await sender.send(EVENT, subscription(subscriber.url(way), id=way.name))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
async def test_each_way_to_misbehave_has_its_verdict_in_time(
    subscriber: Misbehaving, sender: Sender, lasting: dict[str, Sent], way: Way
) -> None:
    sent = lasting[way.name] if way.lasts else await _attempt(sender, subscriber, way)

    wait = sent.outcome.retry_after
    assert (sent.outcome.result, wait and wait.total_seconds()) == (way.result, way.wait)
    assert sent.outcome.reason.startswith(way.reason)
    assert sent.duration >= DEADLINE or not way.lasts
    assert sent.duration < timedelta(seconds=PATIENCE_SECONDS)
    assert len(sent.answer.body if sent.answer else b"") <= 65_536
    assert subscriber.canary_hits == 0
    assert (subscriber.taken[way.name] > 0) == (not way.tls)


@pytest.mark.parametrize("provider", providers().values(), ids=lambda provider: provider.name)
@pytest.mark.parametrize("sink", sinks().values(), ids=lambda sink: sink.name)
def test_an_event_that_comes_back_is_no_push(
    sqlite_url: str, clock: ManualClock, sink: Sink, provider: Provider
) -> None:
    """Whatever goes round by way of others ends here: no event makes another one."""
    store = Store(open_database(sqlite_url), clock)
    tell(store, push())
    (row,) = rows(store, events)
    store.close()
    event = replace(EVENT, id=row["id"], body=row["body"])
    scheme = "jsons" if sink.name == "apprise" else "https"
    target = Target("sub_1", f"{scheme}://hook.example.com", (new_secret(),), {})

    came_back = json.loads(sink.render(event, target, START).body)

    with pytest.raises(UnreadableBody):
        provider.parse(came_back)
