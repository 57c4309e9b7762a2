"""Pushes at a steady pace, and what their sender knows of each: acknowledged, refused, or unknown."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from tests.faults.wire import Connection

CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """To one push: when it left, in monotonic seconds, and how long its answer took."""

    number: int
    status: int
    began: float
    seconds: float


@dataclass(slots=True)
class Told:
    """sent: every task pushed. acknowledged: those answered 200, and so never to be lost."""

    sent: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    answers: list[Answer] = field(default_factory=list)

    def note(self, answer: Answer) -> None:
        self.answers.append(answer)
        self.sent.add(task_name(answer.number))
        if answer.status == 200:
            self.acknowledged.add(task_name(answer.number))

    def statuses(self, since: float = 0.0, until: float = float("inf")) -> Counter[int]:
        """Of the pushes that left in between."""
        return Counter(a.status for a in self.answers if since <= a.began < until)

    def odd(self, seconds: float) -> list[str]:
        """What a provider would complain of: answers that are neither yes nor later, or too late."""
        wrong = Counter(a.status for a in self.answers if a.status not in (200, 503))
        late = [a.seconds for a in self.answers if a.seconds > seconds]
        said = [f"{count} pushes were answered {status}" for status, count in wrong.items()]
        return said + ([f"{len(late)} answers took up to {max(late):.1f} s"] if late else [])


class Pushes:
    """Sends to each URL in turn. Every other push that was not acknowledged is sent again.

    So some outcomes stay unknown, and some pushes come more than once.
    """

    def __init__(self, doors: Sequence[tuple[int, str]], per_second: float) -> None:
        """doors: ports and paths."""
        self.told = Told()
        self._doors = doors
        self._per_second = per_second
        self._numbers = itertools.count(1)
        self._again: deque[int] = deque()
        self._due: asyncio.Queue[None] = asyncio.Queue()
        self._stopping = False

    @contextlib.asynccontextmanager
    async def going(self) -> AsyncIterator[Told]:
        """Push all the while; at the end wait for the answers that are on their way."""
        doors = itertools.islice(itertools.cycle(self._doors), CONNECTIONS)
        workers = [asyncio.create_task(self._push(*door)) for door in doors]
        pacing = asyncio.create_task(self._pace())
        try:
            yield self.told
        finally:
            pacing.cancel()
            self._stopping = True
            for _ in workers:
                self._due.put_nowait(None)
            _, late = await asyncio.wait(workers, timeout=20)
            for worker in late:
                worker.cancel()

    async def _pace(self) -> None:
        began, done = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * self._per_second)
            for _ in range(due - done):
                self._due.put_nowait(None)
            done = max(done, due)
            await asyncio.sleep(0.005)

    async def _push(self, port: int, path: str) -> None:
        with contextlib.closing(Connection(port)) as connection:
            while True:
                await self._due.get()
                if self._stopping:
                    return
                await self._send(connection, path, self._next())

    async def _send(self, connection: Connection, path: str, number: int) -> None:
        began = time.monotonic()
        status = await connection.post(path, _body(number))
        self.told.note(Answer(number, status, began, time.monotonic() - began))
        if status != 200 and number % 2:
            self._again.append(number)

    def _next(self) -> int:
        return self._again.popleft() if self._again else next(self._numbers)


def task_name(number: int) -> str:
    return f"t{number}"


def _body(number: int) -> dict[str, str]:
    return {"task_id": task_name(number), "status": "Success", "file_id": str(number)}


@dataclass(slots=True)
class Challenges:
    """How a provider's challenges were answered, and the slowest answer's seconds."""

    statuses: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0

    def broken(self, seconds: float) -> list[str]:
        """How they were not answered as they must be."""
        said = [f"{n} challenges were answered {s}" for s, n in self.statuses.items() if s != 200]
        if not self.statuses:
            said += ["no challenge was answered"]
        if self.slowest > seconds:
            said += [f"a challenge took {self.slowest:.1f} s"]
        return said


@contextlib.asynccontextmanager
async def challenging(port: int, path: str, *, every: float = 0.1) -> AsyncIterator[Challenges]:
    """Challenge it all the while."""
    seen = Challenges()
    asking = asyncio.create_task(_challenge(port, path, every, seen))
    try:
        yield seen
    finally:
        asking.cancel()


async def _challenge(port: int, path: str, every: float, seen: Challenges) -> None:
    with contextlib.closing(Connection(port)) as connection:
        for number in itertools.count(1):
            began = time.monotonic()
            status = await connection.post(path, {"challenge": f"c{number}"})
            seen.statuses[status] += 1
            seen.slowest = max(seen.slowest, time.monotonic() - began)
            await asyncio.sleep(every)
