"""A few subscribers hang, drip and reset; those beside them notice nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence

from dispatch.signing import new_secret
from store import subscriptions
from store.clock import system_clock
from store.matching import DEFAULT_MAX_IN_FLIGHT
from store.subscriptions import NewSubscription
from store.vault import Vault
from tests.bench.taskbell import SECRET_KEYS, opened
from tests.e2e.process import until
from tests.faults.arrivals import Arrivals
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.misbehave_ways import WAYS, Misbehaving
from tests.faults.pushes import Pushes, Told, task_name
from tests.faults.servers import ALL, Tricks, servers
from tests.patience import PATIENCE_SECONDS

HEALTHY = 17
BAD = ("hang", "drip-body", "reset")
_DEADLINE_SECONDS = 1.0
_SETTLED_SECONDS = 2 * _DEADLINE_SECONDS
"""From when they misbehave: the attempts that were under way then are over."""

_TIMES_SLOWER = 2
_MOST_HELD = 2  # one, and one whose end the subscriber has yet to notice
_WEAK: dict[str, Tricks] = {"those that fail keep their places": {"keep_places": None}}


class Neighbours:
    name = "noisy neighbours"
    about = f"of {HEALTHY + len(BAD)} subscribers one hangs, one drips, one resets"
    engines = ("sqlite",)
    weaknesses = tuple(_WEAK)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        bad = Misbehaving(system_clock, rig.folder / "certificates")
        async with bad.served(), _listening() as healthy:
            urls = [bad.url(way) for way in WAYS if way.name in BAD]
            urls += [one.url for one in healthy.arrivals]
            await asyncio.to_thread(_subscribe, rig.database_url, urls)
            async with servers(
                rig,
                ALL,
                tricks=_WEAK.get(weakness, {}),
                ATTEMPT_TIMEOUT_SECONDS=f"{_DEADLINE_SECONDS:g}",
                RETRY_SCHEDULE="5,300,1800",
            ) as (server,):
                pushes = Pushes([server.door], rig.size(100, 20))
                async with pushes.going() as told:
                    return await _watch(rig, bad, healthy, told)


async def _watch(rig: Rig, bad: Misbehaving, healthy: _Healthy, told: Told) -> Outcome:
    """All behave for a while, then not."""
    seconds = 1.2 if rig.short else 20.0
    bad.meek = True
    await asyncio.sleep(seconds / 4)  # connections are made, code is warm
    began = time.monotonic()
    await asyncio.sleep(seconds)
    bad.meek, broke = False, time.monotonic()
    await asyncio.sleep(_SETTLED_SECONDS)
    at_first = bad.most["hang"]
    bad.most.clear()
    await asyncio.sleep(seconds)
    later, ended = bad.most["hang"], time.monotonic()
    lost = await healthy.missing(told, ended)
    before = healthy.slowest(told, began, broke)
    slowest = healthy.slowest(told, broke, ended)
    broken = []
    if slowest > max(_TIMES_SLOWER * before, rig.limit(0.05) * 1000):
        broken.append(f"the others' p99 went from {before:.0f} to {slowest:.0f} ms")
    if at_first > DEFAULT_MAX_IN_FLIGHT:
        broken.append(f"one that hangs had {at_first} places")
    if later > _MOST_HELD:
        broken.append(f"one that hangs kept {later} places")
    return Outcome(
        sent=len(told.sent), acknowledged=len(told.acknowledged), lost=lost, broken=tuple(broken)
    )


def _subscribe(url: str, hooks: Sequence[str]) -> None:
    """As anyone does who sets no limits of his own."""
    vault = Vault(SECRET_KEYS)
    with opened(url) as store:
        for hook in hooks:
            wish = NewSubscription(hook, "webhook", vault.lock(new_secret()))
            store.write_now(subscriptions.create, wish)


class _Healthy:
    """Those that take everything at once, and when each task's event came to each."""

    def __init__(self) -> None:
        self._moments: list[dict[str, float]] = [{} for _ in range(HEALTHY)]
        self.arrivals = [Arrivals(refuses=_noting(moments)) for moments in self._moments]

    def slowest(self, told: Told, since: float, until: float) -> float:
        """The milliseconds that 99 in 100 deliveries stayed within, from their pushes on."""
        took = sorted(
            moments[task_name(answer.number)] - answer.began
            for answer in told.answers
            if since <= answer.began < until
            for moments in self._moments
            if task_name(answer.number) in moments
        )
        return took[len(took) * 99 // 100] * 1000 if took else math.inf

    async def missing(self, told: Told, ended: float) -> int:
        """The deliveries of what was acknowledged by then that have not come, and do not come soon."""
        tasks = {
            task_name(answer.number)
            for answer in told.answers
            if answer.status == 200 and answer.began < ended
        }

        def left() -> int:
            return sum(len(tasks - moments.keys()) for moments in self._moments)

        async def all_came() -> bool:
            return left() == 0

        with contextlib.suppress(TimeoutError):
            await until(all_came, PATIENCE_SECONDS)
        return left()


def _noting(moments: dict[str, float]) -> Callable[[str], bool]:
    """What an Arrivals asks of each task, and is answered that it is not refused."""

    def note(task: str) -> bool:
        moments.setdefault(task, time.monotonic())
        return False

    return note


@contextlib.asynccontextmanager
async def _listening() -> AsyncIterator[_Healthy]:
    healthy = _Healthy()
    async with contextlib.AsyncExitStack() as stack:
        for one in healthy.arrivals:
            await stack.enter_async_context(one.listening())
        yield healthy


FAULT: Fault = Neighbours()
