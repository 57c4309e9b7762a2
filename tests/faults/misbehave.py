"""Subscribers misbehave, in every way at once: verdicts, deadlines, and what it costs in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import RowMapping, select

from dispatch.sink import Result
from store.clock import system_clock
from store.tables import attempts, deliveries, subscriptions
from tests.bench.taskbell import subscribe
from tests.e2e.process import until
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.misbehave_ways import WAYS, Misbehaving, Way
from tests.faults.promises import asked
from tests.faults.servers import ALL, Server, Tricks, servers
from tests.faults.wire import Connection

_DEADLINE = timedelta(seconds=1)
_LATE_SECONDS = 0.5
"""How much longer than its deadline an attempt may take."""
_MOST_GROWTH_MEGABYTES = 20
_SCHEDULE_SECONDS = 60
_FIFTH = _SCHEDULE_SECONDS / 5  # jitter
_SLACK_SECONDS = 2.0  # a date has whole seconds, and an end is written down a moment later
_ATTEMPTS = (
    select(
        *(deliveries.c.id, deliveries.c.status, deliveries.c.due_at, subscriptions.c.url),
        *(attempts.c.result, attempts.c.error, attempts.c.started_at, attempts.c.duration_ms),
    )
    .join(subscriptions, subscriptions.c.id == deliveries.c.subscription_id)
    .outerjoin(attempts, attempts.c.delivery_id == deliveries.c.id)
)
_LONGER = "a deadline three times as long"
_WEAK: dict[str, Tricks] = {_LONGER: {}, "answers read to their end": {"read_on": None}}


class Misbehave:
    name = "subscribers misbehave"
    about = f"{len(WAYS)} subscribers hang, drip, reset, flood, redirect, break HTTP and TLS"
    engines = ("sqlite",)
    weaknesses = tuple(_WEAK)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        events = 1 if weakness else rig.size(10, 1)
        seconds = _DEADLINE.total_seconds() * (3 if weakness == _LONGER else 1)
        subscriber = Misbehaving(system_clock, rig.folder / "certificates")
        async with subscriber.served():
            urls = {subscriber.url(way): way for way in WAYS}
            await asyncio.to_thread(subscribe, rig.database_url, list(urls))
            async with servers(
                rig,
                ALL,
                tricks=_WEAK.get(weakness, {}),
                ATTEMPT_TIMEOUT_SECONDS=f"{seconds:g}",
                RETRY_SCHEDULE=f"{_SCHEDULE_SECONDS},3600",
            ) as (server,):
                before = resident_megabytes(server)
                await _push(server, events)
                await until(lambda: _all_tried(rig.database_url), 30 + 2 * events, every=0.2)
                grown = resident_megabytes(server) - before
        tried = _tried(rig.database_url)
        broken = [
            *_verdicts(tried, urls),
            *_late(tried, timedelta(seconds=rig.limit(_LATE_SECONDS))),
        ]
        if subscriber.canary_hits:
            broken.append(f"a redirect was followed {subscriber.canary_hits} times")
        if grown >= _MOST_GROWTH_MEGABYTES:
            broken.append(f"memory grew by {grown:.0f} MB")
        return Outcome(sent=events, acknowledged=events, broken=tuple(broken))


@dataclass(frozen=True, slots=True)
class _Tried:
    """A delivery as it stood after its first attempt."""

    url: str
    status: str
    due_at: datetime | None
    result: str
    error: str
    started_at: datetime
    took: timedelta


async def _push(server: Server, events: int) -> None:
    port, path = server.door
    with contextlib.closing(Connection(port)) as connection:
        for number in range(events):
            body = {"task_id": f"t{number}", "status": "Success", "file_id": "f"}
            assert await connection.post(path, body) == 200


async def _all_tried(url: str) -> bool:
    """Whether each delivery was tried, or is owed to nobody any more."""
    rows = await asyncio.to_thread(_rows, url)
    return bool(rows) and all(row["result"] or row["status"] == "canceled" for row in rows)


def _rows(url: str) -> Sequence[RowMapping]:
    with asked(url) as connection:
        return connection.execute(_ATTEMPTS).mappings().all()


def _tried(url: str) -> list[_Tried]:
    """The deliveries that were tried once, and no more."""
    rows = [row for row in _rows(url) if row["result"]]
    times = Counter(row["id"] for row in rows)
    return [
        _Tried(
            url=row["url"],
            status=row["status"],
            due_at=row["due_at"],
            result=row["result"],
            error=row["error"] or "",
            started_at=row["started_at"],
            took=timedelta(milliseconds=row["duration_ms"]),
        )
        for row in rows
        if times[row["id"]] == 1
    ]


def _verdicts(tried: Sequence[_Tried], urls: Mapping[str, Way]) -> list[str]:
    missing = urls.keys() - {one.url for one in tried}
    said = [f"{urls[url].name}: never tried" for url in missing]
    for one in tried:
        way = urls[one.url]
        if one.result != way.result or not one.error.startswith(_reason(way)):
            said.append(f"{way.name}: {one.result} {one.error}")
        elif not _waits(way, one):
            said.append(f"{way.name}: tried again at {one.due_at}")
    return said


def _reason(way: Way) -> str:
    """The server knows none of the authorities, so a bad certificate is bad for that reason too."""
    return "TLS: certificate: " if way.tls else way.reason


def _waits(way: Way, one: _Tried) -> bool:
    """Whether its next attempt is when the schedule and Retry-After say."""
    if one.status == "canceled":  # its subscription was disabled meanwhile
        return True
    if way.result is not Result.RETRY or one.due_at is None:
        return way.result is not Result.RETRY and one.due_at is None
    wait = (one.due_at - one.started_at - one.took).total_seconds()
    least = max(way.wait or 0, _SCHEDULE_SECONDS - _FIFTH)
    most = max(way.wait or 0, _SCHEDULE_SECONDS + _FIFTH)
    return least - _SLACK_SECONDS <= wait <= most + _SLACK_SECONDS


def _late(tried: Sequence[_Tried], most: timedelta) -> list[str]:
    late = [one.took for one in tried if one.took > _DEADLINE + most]
    return [f"{len(late)} attempts took up to {max(late).total_seconds():.1f} s"] if late else []


def resident_megabytes(server: Server) -> float:
    """The memory it has now."""
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise AssertionError("this kernel tells no VmRSS")


FAULT: Fault = Misbehave()
