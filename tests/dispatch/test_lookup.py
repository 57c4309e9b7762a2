"""Names whose name servers are silent hold up no others. In virtual time, with name servers of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any

import pytest

from dispatch.guard import Guard
from dispatch.lookup import REMEMBERED_SECONDS, Memory, Resolver
from dispatch.refused import NoSuchHost
from tests.loops import run_in_no_time

PUBLIC = "93.184.216.34"
NEVER = 1e9


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_in_no_time(test(*args, **kwargs))

    return run


class Servers:
    """Name servers: how many seconds each look-up of a name takes, or what goes wrong after it.

    The last of a name's answers is repeated; other names answer in 10 ms.
    """

    def __init__(self, **seconds: Sequence[float]) -> None:
        self.seconds = {name.replace("_", "."): list(each) for name, each in seconds.items()}
        self.silent: Callable[[str], bool] = lambda _name: False
        self.lost: set[str] = set()
        self.asked: list[str] = []
        self.open = self.most = 0

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await asyncio.sleep(self._seconds(host))
        finally:
            self.open -= 1
        if host in self.lost or self.silent(host):
            raise NoSuchHost(f"the name servers gave no answer for {host}")
        return [PUBLIC]

    def _seconds(self, host: str) -> float:
        if self.silent(host):
            return 30
        known = self.seconds.get(host, [0.01])
        return known.pop(0) if len(known) > 1 else known[0]


async def found(guard: Guard, host: str) -> tuple[bool, float]:
    """Whether it was found within the guard's five seconds, and after how long."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        await guard.addresses(host, 443)
    except NoSuchHost:
        return False, round(loop.time() - began, 6)
    return True, round(loop.time() - began, 6)


def dead(count: int) -> list[str]:
    return [f"hook.dead{number}.example.com" for number in range(count)]


@in_virtual_time
async def test_forty_names_that_never_answer_hold_up_no_honest_name() -> None:
    servers = Servers()
    servers.silent = lambda host: "dead" in host
    guard = Guard(resolve=Resolver(servers))
    lost = [asyncio.create_task(found(guard, host)) for host in dead(40)]
    await asyncio.sleep(0)

    honest = await asyncio.gather(*(found(guard, f"h{n}.example.org") for n in range(20)))

    assert all(there for there, _ in honest)
    assert max(took for _, took in honest) < 2.5
    assert not any(there for there, _ in await asyncio.gather(*lost))


@in_virtual_time
async def test_they_hold_up_none_later_on_though_each_is_asked_for_all_the_time() -> None:
    servers = Servers()
    servers.silent = lambda host: "dead" in host
    guard = Guard(resolve=Resolver(servers))
    lost = [asyncio.create_task(found(guard, host)) for host in dead(200)]
    await asyncio.sleep(120)

    for second in range(15):
        lost += [asyncio.create_task(found(guard, host)) for host in dead(200)]
        there, took = await found(guard, f"h{second}.example.org")
        assert there
        assert took < 0.5
        await asyncio.sleep(6)
    assert not any(there for there, _ in await asyncio.gather(*lost))


@in_virtual_time
async def test_any_number_of_new_names_holds_up_none_that_answered_before() -> None:
    servers = Servers()
    servers.silent = lambda host: "dead" in host
    guard = Guard(resolve=Resolver(servers))
    assert (await found(guard, "honest.example.org"))[0]
    lost = [asyncio.create_task(found(guard, f"dead.d{n}.com")) for n in range(1_000)]

    for _ in range(20):
        assert await found(guard, "honest.example.org") == (True, 0.01)
        await asyncio.sleep(2)
    assert servers.most <= 32 + 128 + 4 + 32 + 1
    await asyncio.gather(*lost)


@in_virtual_time
async def test_a_name_that_ran_over_is_answered_from_memory_for_a_minute() -> None:
    servers = Servers(slow_example_com=[NEVER])
    resolver = Resolver(servers)
    guard = Guard(resolve=resolver)
    assert await found(guard, "slow.example.com") == (False, 5)

    assert await found(guard, "slow.example.com") == (False, 0)
    await asyncio.sleep(REMEMBERED_SECONDS - 18.5)
    with pytest.raises(
        NoSuchHost, match=r"slow\.example\.com in time; it is looked up again in 18 s"
    ):
        await resolver("slow.example.com")
    assert servers.asked == ["slow.example.com"]

    await asyncio.sleep(20)
    assert (await found(guard, "slow.example.com"))[0] is False
    assert servers.asked == ["slow.example.com"] * 2


@in_virtual_time
async def test_a_name_that_recovers_is_found_after_the_minute_and_no_longer_slow() -> None:
    servers = Servers(back_example_com=[NEVER, 0.01])
    guard = Guard(resolve=Resolver(servers))
    await found(guard, "back.example.com")
    await asyncio.sleep(REMEMBERED_SECONDS + 1)

    assert await found(guard, "back.example.com") == (True, 0.01)
    assert await found(guard, "back.example.com") == (True, 0.01)


@in_virtual_time
async def test_a_name_that_recovers_beside_forty_that_do_not_is_found_soon() -> None:
    servers = Servers(back_example_com=[NEVER, 0.01])
    servers.silent = lambda host: "dead" in host
    guard = Guard(resolve=Resolver(servers))
    names = ["back.example.com", *dead(40)]
    await asyncio.gather(*(found(guard, host) for host in names))

    back = False
    for _ in range(4):
        await asyncio.sleep(REMEMBERED_SECONDS + 1)
        answers = await asyncio.gather(*(found(guard, host) for host in reversed(names)))
        back = back or answers[-1][0]
    assert back


@in_virtual_time
async def test_a_name_that_alternates_costs_a_place_for_a_second_each_time() -> None:
    servers = Servers(moody_example_com=[NEVER, 0.01] * 20)
    resolver = Resolver(servers, places=1)
    guard = Guard(resolve=resolver)

    for _ in range(10):
        asked = asyncio.create_task(found(guard, "moody.example.com"))
        await asyncio.sleep(0)
        there, took = await found(guard, "honest.example.org")
        assert there
        assert took <= 1.5
        await asked
        await asyncio.sleep(REMEMBERED_SECONDS + 1)


@in_virtual_time
async def test_new_names_of_a_dead_domain_share_the_places_of_slow_names() -> None:
    servers = Servers()
    servers.silent = lambda host: host.endswith(".dead.example.com")
    resolver = Resolver(servers, places=4)
    guard = Guard(resolve=resolver)
    await asyncio.gather(*(found(guard, f"a{n}.dead.example.com") for n in range(3)))

    fresh = [asyncio.create_task(found(guard, f"x.b{n}.dead.example.com")) for n in range(400)]
    await asyncio.sleep(0)

    assert await found(guard, "honest.example.org") == (True, 0.01)
    assert servers.open <= 3 + 4 + 1
    for each in fresh:
        each.cancel()


@in_virtual_time
async def test_a_name_that_answers_late_is_known_for_a_minute() -> None:
    servers = Servers(late_example_com=[8])
    guard = Guard(resolve=Resolver(servers))
    assert await found(guard, "late.example.com") == (False, 5)
    assert await found(guard, "late.example.com") == (False, 0)

    await asyncio.sleep(4)
    assert await found(guard, "late.example.com") == (True, 0)

    await asyncio.sleep(REMEMBERED_SECONDS)
    await found(guard, "late.example.com")
    assert servers.asked == ["late.example.com"] * 2


@in_virtual_time
async def test_no_answer_after_three_seconds_is_remembered_and_a_quick_no_is_not() -> None:
    servers = Servers(silent_example_com=[3], gone_example_com=[0.01])
    servers.lost = {"silent.example.com", "gone.example.com"}
    guard = Guard(resolve=Resolver(servers))

    for host in ("silent.example.com", "gone.example.com") * 2:
        await found(guard, host)

    assert servers.asked == ["silent.example.com", "gone.example.com", "gone.example.com"]


@in_virtual_time
async def test_who_gives_up_takes_no_look_up_from_who_waits() -> None:
    servers = Servers(slow_example_com=[3])
    resolver = Resolver(servers)
    impatient = asyncio.create_task(resolver("slow.example.com"))
    patient = asyncio.create_task(resolver("slow.example.com"))
    await asyncio.sleep(2)
    impatient.cancel()

    assert await patient == [PUBLIC]
    assert servers.asked == ["slow.example.com"]
    assert await resolver("slow.example.com") == [PUBLIC]


@in_virtual_time
async def test_a_look_up_that_is_canceled_gives_its_place_back() -> None:
    servers = Servers(slow_example_com=[NEVER])
    resolver = Resolver(servers, places=1)
    for _ in range(3):
        asked = asyncio.create_task(resolver("slow.example.com"))
        await asyncio.sleep(0.5)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    assert await resolver("honest.example.org") == [PUBLIC]


def test_the_memory_of_slow_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatch.lookup._MOST_NAMES", 4)
    memory = Memory()
    for number in range(9):
        memory.ran_over(f"a.d{number}.com", 0)

    assert [number for number in range(9) if memory.slow(f"a.d{number}.com")] == [5, 6, 7, 8]
    assert len(memory._siblings) == 4

    for number in range(9):
        memory.answered(f"a.d{number}.com")

    assert [number for number in range(9) if memory.proven(f"a.d{number}.com")] == [5, 6, 7, 8]
