"""What the answers of a provider say about its state. Pure: no I/O, no clock of its own.

    idle ──▶ ok ◀──▶ degraded
              ▲          │
              └── down ◀─┘

`down`: five failed answers over at least a minute with none between that shows that the provider
is there, from two tasks when two are open; a refused key, an empty balance and a connection that
fails concern every task, so one is enough. `down` ends with the first good answer. `degraded`: more
than a fifth of the answers of ten minutes failed; it ends at a tenth, so that it does not flap.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from receiver.failures import Blame, Code
from receiver.watch import Heard
from store.events import Failure
from store.provider_states import State

FAILURES = 5
FAILING_FOR = timedelta(seconds=60)
WINDOW = timedelta(minutes=10)
ENOUGH = 10
"""Answers in the window, before their share tells anything."""

TOO_MANY, FEW = 0.2, 0.1
"""Shares of failed answers: above the first `degraded` begins, at the second it ends."""

_BUCKET = timedelta(seconds=30)
_ASK_AGAIN = timedelta(seconds=15)  # the store, whether another task is open


@dataclass(frozen=True, slots=True)
class Step:
    """A state that a provider is now in, unless the store knows that it is in one of `keep`.

    lone_task: the only task that failed; it is a step only while no other one is open.
    """

    to: State
    keep: frozenset[State]
    reason: Failure | None = None
    lone_task: str | None = None


@dataclass(slots=True)
class _Streak:
    """Failed answers in a row."""

    began: datetime
    count: int = 0
    tasks: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Bucket:
    began: datetime
    answers: int = 0
    failed: int = 0


class Evidence:
    """What this process has heard of one provider.

    state: the one that is written down; None while another process may have changed it.
    """

    def __init__(self, state: State | None = None) -> None:
        self.state = state
        self.asked_at: datetime | None = None
        self.answered_at: datetime | None = None
        self._reason_code: str | None = None
        self._streak: _Streak | None = None
        self._buckets: deque[_Bucket] = deque()
        self._began: datetime | None = None  # of the window
        self._asked_store_at: datetime | None = None

    def heard(self, heard: Heard) -> Step | None:
        """Take an answer into account; the step it leads to, if any."""
        self.asked_at = heard.at
        if heard.provider_is_there:
            return self._good(heard)
        return self._failed(heard)

    def forget_state(self) -> None:
        """Another process polled meanwhile: what is written down may be another state by now."""
        self.state = None
        self._streak = None
        self._forget_window()

    def _good(self, heard: Heard) -> Step | None:
        self.answered_at = heard.at
        self._streak = None
        if self.state is State.DOWN:
            self._forget_window()
        self._count(heard.at, failed=False)
        if self.state is State.DEGRADED:
            return self._better(heard.at)
        if self.state is not State.OK:
            return self._step(State.OK, {State.DEGRADED})
        return self._worse(None)

    def _failed(self, heard: Heard) -> Step | None:
        streak = self._streak = self._streak or _Streak(heard.at)
        streak.count += 1
        if len(streak.tasks) < 2:
            streak.tasks.add(heard.task.id)
        self._count(heard.at, failed=True)
        if self.state is State.DOWN:
            return self._other_reason(heard)
        if streak.count >= FAILURES and heard.at - streak.began >= FAILING_FOR:
            return self._down(heard, streak)
        return self._worse(heard.trouble)

    def _down(self, heard: Heard, streak: _Streak) -> Step | None:
        alone = len(streak.tasks) < 2 and not _concerns_all(heard)
        if alone and self._asked_store_at and heard.at - self._asked_store_at < _ASK_AGAIN:
            return None
        self._asked_store_at = heard.at
        self._reason_code = heard.trouble.code if heard.trouble else None
        return self._step(State.DOWN, set(), heard.trouble, heard.task.id if alone else None)

    def _other_reason(self, heard: Heard) -> Step | None:
        """The network came back and the key is refused, say: no new state, but told."""
        code = heard.trouble.code if heard.trouble else None
        if code == self._reason_code:
            return None
        self._reason_code = code
        return self._step(State.DOWN, set(), heard.trouble)

    def _worse(self, trouble: Failure | None) -> Step | None:
        answers, failed = self._window()
        if self.state is State.DEGRADED or answers < ENOUGH or failed <= TOO_MANY * answers:
            return None
        return self._step(State.DEGRADED, {State.DOWN}, _some_failed(answers, failed, trouble))

    def _better(self, now: datetime) -> Step | None:
        answers, failed = self._window()
        known = answers >= ENOUGH or (self._began is not None and now - self._began >= WINDOW)
        if not known or failed > FEW * answers:
            return None
        return self._step(State.OK, {State.DOWN})

    def _step(
        self,
        to: State,
        keep: set[State],
        reason: Failure | None = None,
        lone_task: str | None = None,
    ) -> Step:
        self.state = to
        return Step(to, frozenset(keep), reason, lone_task)

    def _count(self, at: datetime, *, failed: bool) -> None:
        self._began = self._began or at
        if not self._buckets or at - self._buckets[-1].began >= _BUCKET:
            self._buckets.append(_Bucket(at))
        while at - self._buckets[0].began >= WINDOW:
            self._buckets.popleft()
        self._buckets[-1].answers += 1
        self._buckets[-1].failed += failed

    def _window(self) -> tuple[int, int]:
        """The answers of the last ten minutes, and how many of them failed."""
        return (
            sum(bucket.answers for bucket in self._buckets),
            sum(bucket.failed for bucket in self._buckets),
        )

    def _forget_window(self) -> None:
        self._buckets.clear()
        self._began = None


def _concerns_all(heard: Heard) -> bool:
    """Return whether a failure concerns every task, whichever it was met with."""
    code = heard.trouble.code if heard.trouble else None
    return heard.blame is Blame.KEY or code == Code.UNREACHABLE


def _some_failed(answers: int, failed: int, trouble: Failure | None) -> Failure:
    last = f"; the last one: {trouble.message}" if trouble else ""
    said = f"{failed} of the last {answers} polls failed{last}"
    return Failure(trouble.code if trouble else "failures", said)
