"""Look names up so that those whose name servers are silent hold up no others.

A look-up cannot be cut off: getaddrinfo waits for silent name servers as long as the system is
told to, half a minute and more, in a thread that nobody can stop. So threads are bounded, a look-up
keeps its place only for a second, and names that have shown to be slow have a few places of their
own. So have names that answered in time before: new ones, however many, cannot keep them waiting.
What a slow name's look-up came to is remembered for a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from dispatch.refused import NoSuchHost

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""All addresses of a name, as text. Raises NoSuchHost."""

PROMPT_SECONDS = 1
"""A look-up that takes longer makes room for others, and goes on beside them."""

LIMIT_SECONDS = 4.5
"""A look-up that takes longer has run over, a moment before the guard gives up."""

REMEMBERED_SECONDS = 60
"""How long a name that ran over is answered from memory."""

_PLACES = 32
_BESIDE = 128
_PROVEN_PLACES = 16
_PROVEN_BESIDE = 32
_SLOW_PLACES = 4
_SLOW_BESIDE = 32
_MOST_NAMES = 10_000
_SLOW_SIBLINGS = 3  # names under one domain that ran over: its other names count as slow, too


class Resolver:
    """Asks once for a name, however many want to know; slow names wait for each other only."""

    def __init__(self, ask: Resolve, places: int = _PLACES) -> None:
        self._ask = ask
        self._new = _Lane(places, _BESIDE)
        self._proven = _Lane(_PROVEN_PLACES, _PROVEN_BESIDE)
        self._slow = _Lane(_SLOW_PLACES, _SLOW_BESIDE)
        self._memory = Memory()
        self._running: dict[str, asyncio.Task[Sequence[str]]] = {}

    async def __call__(self, host: str) -> list[str]:
        """Return its addresses. Raises NoSuchHost, at once when the name ran over a moment ago."""
        known = self._memory.recall(host, _now())
        if known is not None:
            return list(known)
        running = self._running.get(host)
        if running is None:
            running = self._running[host] = asyncio.create_task(self._look_up(host))
            running.add_done_callback(partial(self._ended, host))
        return list(await asyncio.shield(running))

    async def _look_up(self, host: str) -> Sequence[str]:
        lane = self._lane(host)
        await lane.enter()
        began = _now()
        asked = asyncio.ensure_future(self._ask(host))
        moved = False
        try:
            await asyncio.wait((asked,), timeout=PROMPT_SECONDS)
            if not asked.done():
                moved = lane.move_aside()
                await asyncio.wait((asked,), timeout=LIMIT_SECONDS - PROMPT_SECONDS)
            if not asked.done():
                self._memory.ran_over(host, _now())
                self._running.pop(host)  # another may be asked when this one never ends
            return await self._outcome(host, asked, began)
        finally:
            asked.cancel()
            lane.leave(moved)

    def _lane(self, host: str) -> _Lane:
        if self._memory.slow(host):
            return self._slow
        return self._proven if self._memory.proven(host) else self._new

    async def _outcome(
        self, host: str, asked: asyncio.Future[Sequence[str]], began: float
    ) -> Sequence[str]:
        """Wait for the answer, and remember what came late."""
        over = not asked.done()
        try:
            found = await asked
        except NoSuchHost:
            if _now() - began < PROMPT_SECONDS:
                self._memory.answered(host)
            elif not over:
                self._memory.ran_over(host, _now())
            raise
        if over:
            self._memory.came_late(host, found, _now())
        else:
            self._memory.answered(host)
        return found

    def _ended(self, host: str, running: asyncio.Task[Sequence[str]]) -> None:
        if self._running.get(host) is running:
            del self._running[host]
        if not running.cancelled():
            running.exception()  # nobody may be waiting for it any more


class SystemResolver(Resolver):
    """getaddrinfo in threads of its own.

    The loop's own lookup shares a handful of threads (uvloop: four) with everything else, where
    a few names with dead name servers would hold up every delivery.
    """

    def __init__(
        self, threads: int = _PLACES, look_up: Callable[[str], list[str]] | None = None
    ) -> None:
        look_up = look_up or _look_up
        super().__init__(lambda host: _in_a_daemon(partial(look_up, host)), threads)


@dataclass(frozen=True, slots=True)
class _Remembered:
    """What is said of a name until then: that nobody answered, or what came too late."""

    until: float
    found: Sequence[str] | None


class Memory:
    """Which names are slow, and what the last look-up of each came to. Times are seconds.

    A name is slow from the moment it ran over until it answers in time, and so are the others of a
    domain of which three names are.
    """

    def __init__(self) -> None:
        self._slow: dict[str, _Remembered] = {}
        self._siblings: dict[str, set[str]] = {}
        self._proven: dict[str, None] = {}

    def recall(self, host: str, now: float) -> Sequence[str] | None:
        """Return what came late, or None when the name is to be looked up. Raises NoSuchHost."""
        known = self._slow.get(host)
        if known is None or known.until <= now:
            return None
        if known.found is None:
            wait = max(1, round(known.until - now))
            raise NoSuchHost(
                f"the name servers gave no answer for {host} in time; it is looked up again in {wait} s"
            )
        return known.found

    def slow(self, host: str) -> bool:
        return host in self._slow or any(
            len(self._siblings.get(domain, ())) >= _SLOW_SIBLINGS for domain in _domains(host)
        )

    def proven(self, host: str) -> bool:
        return host in self._proven

    def ran_over(self, host: str, now: float) -> None:
        self._note(host, _Remembered(now + REMEMBERED_SECONDS, None))

    def came_late(self, host: str, found: Sequence[str], now: float) -> None:
        self._note(host, _Remembered(now + REMEMBERED_SECONDS, found))

    def answered(self, host: str) -> None:
        """The name servers of its domain are there: only names that ran over stay slow."""
        self._slow.pop(host, None)
        for domain in _domains(host):
            self._siblings.pop(domain, None)
        self._proven.pop(host, None)
        if len(self._proven) >= _MOST_NAMES:
            del self._proven[next(iter(self._proven))]
        self._proven[host] = None

    def _note(self, host: str, remembered: _Remembered) -> None:
        self._proven.pop(host, None)
        self._slow.pop(host, None)
        if len(self._slow) >= _MOST_NAMES:
            self._forget(next(iter(self._slow)))
        self._slow[host] = remembered
        for domain in _domains(host):
            self._siblings.setdefault(domain, set()).add(host)

    def _forget(self, host: str) -> None:
        del self._slow[host]
        for domain in _domains(host):
            siblings = self._siblings.get(domain, set())
            siblings.discard(host)
            if not siblings:
                self._siblings.pop(domain, None)


def _domains(host: str) -> list[str]:
    """The domains that a name is in, without itself and the top one.

    >>> _domains("a.b.example.com")
    ['b.example.com', 'example.com']
    """
    labels = host.split(".")
    return [".".join(labels[start:]) for start in range(1, len(labels) - 1)]


class _Lane:
    """Places for look-ups, and some room beside them for those that take long."""

    def __init__(self, places: int, beside: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._beside = beside

    async def enter(self) -> None:
        await self._places.acquire()

    def move_aside(self) -> bool:
        """Make room for another; False when there is none beside, and the place is kept."""
        if not self._beside:
            return False
        self._beside -= 1
        self._places.release()
        return True

    def leave(self, moved: bool) -> None:
        if moved:
            self._beside += 1
        else:
            self._places.release()


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _in_a_daemon(work: Callable[[], list[str]]) -> list[str]:
    """Do it in a thread that the end of the process does not wait for, as it does for a pool's."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def end(found: list[str] | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found or [])

    def run() -> None:
        found, error = None, None
        try:
            found = work()
        except Exception as raised:  # noqa: BLE001 - whatever it is, it is the asker's
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(end, found, error)

    threading.Thread(target=run, name="lookup", daemon=True).start()
    return await answer


def _look_up(host: str) -> list[str]:
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise NoSuchHost(f"the name servers gave no answer for {host}") from None
        raise NoSuchHost(f"no such host: {host}") from None
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))
