"""What the simulated providers know: their tasks, and how often they were asked and pushed.

A task's fate (how long it takes, how it ends) is drawn when it is submitted, from the seed and its
number, so a run can be repeated. Where it stands is then a function of the time alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from typing import TypeVar

from deploy.demo.faults import Dice, Faults
from store.clock import Clock
from store.events import Failure, Kind

T = TypeVar("T")

_QUEUED_SHARE = 0.25
SUFFIX = {Kind.VIDEO: "mp4", Kind.IMAGE: "png", Kind.AUDIO: "mp3"}


class Phase(StrEnum):
    """Where a simulated task stands."""

    QUEUED = "queued"
    PROCESSING = "processing"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Order:
    """What a provider accepts at submission.

    family tells apart a provider's kinds of tasks that are queried at different paths. succeeded
    lists the provider's words for a good end; tasks take turns with them.
    """

    provider: str
    family: str
    kind: Kind
    model: str
    succeeded: tuple[str, ...]
    failed: str
    failures: tuple[Failure, ...]
    make_id: Callable[[Random], str]
    callback_url: str | None = None


@dataclass(frozen=True, slots=True)
class SimulatedTask:
    """One task and its fate. Moments are seconds of the injected monotonic time.

    number counts the provider's tasks from 1; ending is the provider's word it ends with; output
    is the URL it makes, None when it fails.
    """

    id: str
    number: int
    provider: str
    family: str
    kind: Kind
    model: str
    file_id: int
    ending: str
    output: str | None
    failure: Failure | None
    submitted_at: datetime
    ended_at: datetime
    runs_from: float
    ends_from: float
    callback_url: str | None

    def phase(self, now: float) -> Phase:
        if now < self.runs_from:
            return Phase.QUEUED
        return Phase.PROCESSING if now < self.ends_from else Phase.ENDED


@dataclass(slots=True)
class Stats:
    """What happened so far. A push that is retried or repeated counts each time it is sent."""

    challenges_sent: int = 0
    challenges_answered: int = 0
    challenge_seconds: list[float] = field(default_factory=list)
    pushes_sent: int = 0
    pushes_dropped: int = 0
    pushes_repeated: int = 0
    pushes_forged: int = 0  # counted here only, not as sent
    pushes_refused: int = 0  # sent, and answered with something else than 2xx or not at all
    queries: Counter[str] = field(default_factory=Counter)  # by provider
    queries_by_task: Counter[str] = field(default_factory=Counter)
    rate_limited: int = 0


class Book:
    """The simulated providers' shared memory."""

    def __init__(
        self,
        *,
        seed: int,
        durations: tuple[float, float],
        faults: Faults,
        provider_faults: Mapping[str, Faults],
        clock: Clock,
        monotonic: Callable[[], float],
        pictures: str | None = None,
    ) -> None:
        self.tasks: list[SimulatedTask] = []
        self.stats = Stats()
        self.clock = clock
        self.monotonic = monotonic
        self._seed = seed
        self._durations = durations
        self._pictures = pictures
        self._numbers: Counter[str] = Counter()
        self._by_id: dict[tuple[str, str], SimulatedTask] = {}
        self._by_file: dict[int, SimulatedTask] = {}
        self._dice = Dice(faults, self.random("polls"))
        self._provider_dice = {
            name: Dice(own, self.random("polls", name)) for name, own in provider_faults.items()
        }

    def random(self, *purpose: object) -> Random:
        """Random numbers of their own for a purpose, the same in every run with this seed."""
        return Random(repr((self._seed, *purpose)))  # noqa: S311 - a play, not a secret

    def dice(self, provider: str) -> Dice:
        return self._provider_dice.get(provider, self._dice)

    def change_faults(self, faults: Faults, provider: str | None = None) -> None:
        """From now on these faults: for one provider, or for all that have none of their own."""
        if provider is None:
            self._dice = Dice(faults, self.random("polls"))
        else:
            self._provider_dice[provider] = Dice(faults, self.random("polls", provider))

    def submit(self, order: Order) -> SimulatedTask:
        self._numbers[order.provider] += 1
        number = self._numbers[order.provider]
        task = self._fated(order, number, self.random(order.provider, number))
        self.tasks.append(task)
        self._by_id[task.provider, task.id] = task
        self._by_file[task.file_id] = task
        return task

    def _fated(self, order: Order, number: int, random: Random) -> SimulatedTask:
        task_id = order.make_id(random)
        seconds = random.uniform(*self._durations)
        fails = self.dice(order.provider).fails(random)
        now, started = self.clock(), self.monotonic()
        return SimulatedTask(
            id=task_id,
            number=number,
            provider=order.provider,
            family=order.family,
            kind=order.kind,
            model=order.model,
            file_id=random.randrange(10**14, 10**15),
            ending=order.failed if fails else turn(order.succeeded, number),
            output=None if fails else self._output(order, task_id),
            failure=turn(order.failures, number) if fails else None,
            submitted_at=now,
            ended_at=now + timedelta(seconds=seconds),
            runs_from=started + seconds * _QUEUED_SHARE,
            ends_from=started + seconds,
            callback_url=order.callback_url,
        )

    def _output(self, order: Order, task_id: str) -> str:
        host = f"https://cdn.{order.provider}.example"
        if order.kind is Kind.IMAGE and self._pictures is not None:
            host = self._pictures
        return f"{host}/{task_id}.{SUFFIX[order.kind]}"

    def phase(self, task: SimulatedTask) -> Phase:
        return task.phase(self.monotonic())

    def find(self, provider: str, task_id: str, *families: str) -> SimulatedTask | None:
        task = self._by_id.get((provider, task_id))
        return task if task and task.family in families else None

    def file(self, file_id: str) -> SimulatedTask | None:
        """The MiniMax task that made this file, whether or not it is done."""
        return self._by_file.get(int(file_id)) if file_id.isascii() and file_id.isdigit() else None

    def asked(self, provider: str, task_id: str) -> None:
        self.stats.queries[provider] += 1
        self.stats.queries_by_task[task_id] += 1

    def variant(self, task: SimulatedTask) -> int:
        """Counts a task's queries, each task starting elsewhere: picks one of documented shapes."""
        return task.number + self.stats.queries_by_task[task.id]


def turn(choices: tuple[T, ...], number: int) -> T:
    """Take turns; number counts from 1.

    >>> turn(("completed", "succeeded"), 1)
    'completed'
    """
    return choices[(number - 1) % len(choices)]
