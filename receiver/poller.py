"""The poller: asks providers about the tasks that are due, within each provider's budget."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from receiver.budget import Health, Inquiry, Quota, RateLimiter, ShiftOver
from receiver.failures import Blame
from receiver.pacing import Plans
from receiver.provider import Answer, Asker, Provider, ProviderError
from receiver.watch import Heard, Watch
from receiver.words import UnknownWords, unknown_word
from store.clock import Clock
from store.durations import known_durations
from store.errors import StoreError
from store.events import Failure, Source, Status, Task, TaskUpdate, advance
from store.records import HELD_FOR, POLLS, Polled, Report, record
from store.rounds import LOOK_SECONDS, Rounds
from store.shifts import FIRST_TERM, leave
from store.store import Store
from store.tasks import (
    Agenda,
    Later,
    Overdue,
    PollClaim,
    claim_due,
    expire,
    held_tasks,
    read_agenda,
    refute,
    reschedule,
    timed_out,
)
from store.writer import tell_time

logger = logging.getLogger("taskbell.poller")

LEASE = timedelta(minutes=3)
"""Longer than the longest question: MiniMax may be asked for four families and a file, 20 s each."""

SHIFT = timedelta(seconds=5)
"""How long a process may start questions to a provider before it takes its shift anew."""

NOT_FOUND_TRIES = 5
"""A task just submitted may be unknown for a moment; unknown this often in a row, it failed."""

GRACE = timedelta(seconds=30)
UNVERIFIED_PER_MINUTE = 30
"""Requests about tasks that only an unsigned push has named, and that the provider does not know."""

_REQUESTS = 5  # that one question may make: MiniMax has four families, and a file
_LATE_PACE = timedelta(minutes=10)
_LATE_FOR = timedelta(days=7)  # MiniMax v2 forgets tasks after seven days
_HELD_AT_MOST = timedelta(minutes=15)  # by a provider that answers, but not about this task
_HELD_A_LOOK = 200
_BREATH_SECONDS = 0.05  # between looks while more is due than can be asked about
_WHILE_ASKING_SECONDS = 0.25  # between looks: answers make tasks due again
_LEARN_EVERY = timedelta(minutes=1)
_REMEMBERED = 50_000  # open tasks


@dataclass(slots=True)
class Line:
    """The line to one provider: whom we ask, how fast, and how it has been doing."""

    provider: Provider
    asker: Asker
    limiter: RateLimiter
    health: Health
    unverified: Quota = field(init=False)
    last_token: str = ""  # whose unverified task was claimed last
    answered_at: datetime | None = None  # the last answer that was no trouble
    silent_since: datetime | None = None  # the first of the questions it could not be reached for
    term: int = 0  # of this process's shifts
    elsewhere_until: float = -math.inf  # another process asks it; do not try before

    def __post_init__(self) -> None:
        self.unverified = Quota(UNVERIFIED_PER_MINUTE, _REQUESTS, self.limiter.monotonic)

    def room(self) -> int:
        """How many questions may be claimed now."""
        return 0 if self.elsewhere() else self.limiter.free()

    def elsewhere(self) -> bool:
        """Whether another process asks it, as far as is known."""
        return self.limiter.monotonic() < self.elsewhere_until

    def needs_shift(self) -> bool:
        """Whether a shift is to be taken before it is asked: in good time, so that none lapses."""
        return self.limiter.shift_left() < SHIFT.total_seconds() / 2 and not self.elsewhere()

    def begin_shift(self, began: float, term: int | None) -> None:
        """Note what became of taking a shift that began then. term: None when another has it."""
        if term is None:
            self.elsewhere_until = self.limiter.monotonic() + LOOK_SECONDS
            return
        ends = began + SHIFT.total_seconds()
        self.limiter.work_until(ends, taken_over=term not in (FIRST_TERM, self.term))
        self.term = term

    def begin(self, task: Task) -> Inquiry | None:
        """Note a question about a task that only an unsigned push has named."""
        return self.unverified.begin() if task.version == 0 else None

    def note_turns(self, claimed: Sequence[Task]) -> None:
        """Remember which callback token's turn it was last (store.tasks.PollClaim.after)."""
        tokens = [task.token_id or "" for task in claimed if task.version == 0]
        if tokens:
            self.last_token = max(tokens, key=lambda token: (token <= self.last_token, token))


@dataclass(slots=True)
class _Paced:
    """Asks for one question that has its slot: requests after the first wait for their turn too."""

    line: Line
    inquiry: Inquiry | None
    begun: bool = False

    async def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        raw_statuses: tuple[int, ...] = (),
    ) -> Answer:
        if self.begun:
            await self.line.limiter.turn()
        self.begun = True
        if self.inquiry:
            self.line.unverified.count(self.inquiry)
        return await self.line.asker.get(path, params, raw_statuses=raw_statuses)


class Poller:
    """Asks about what is due; a loop.

    Of several processes one at a time asks a provider, so that its rate is kept; see SHIFT.
    """

    def __init__(
        self,
        store: Store,
        lines: Mapping[str, Line],
        *,
        words: UnknownWords,
        clock: Clock,
        owner: str,
        jitter: Callable[[], float],
        watch: Watch | None = None,
    ) -> None:
        self._watch = watch or Watch()
        self._store = store
        self._lines = lines
        self._words = words
        self._clock = clock
        self._owner = owner
        self._jitter = jitter
        self._ahead = timedelta(0)  # of our clock, the store's
        self._looked_at = clock()
        self._plans, self._plans_of = Plans({}), datetime.min.replace(tzinfo=UTC)
        self._open_at: dict[str, datetime] = {}  # when tasks were seen open, longest ago first
        for line in lines.values():
            line.limiter.work_until(-math.inf, taken_over=False)
        self.rounds = Rounds(store, POLLS, self._look, logger=logger)

    async def run(self) -> None:
        await self.rounds.run()

    async def drain(self, seconds: float) -> None:
        """Let what is under way end; then leave the shifts to whoever wants them."""
        await self.rounds.drain(seconds)
        for line in self._lines.values():
            line.limiter.work_until(-math.inf, taken_over=False)
        with contextlib.suppress(StoreError):  # then they end by themselves
            await self._store.write(leave, self._owner)

    async def _look(self) -> float:
        before, self._looked_at = self._looked_at, self._clock()
        if self._looked_at < before:  # it was set back: what is due would seem far off
            self._ahead = await self._store.write(tell_time, None) - self._clock()
        agenda = await self._store.read(read_agenda, tuple(self._lines))
        now = self._clock() + self._ahead
        if agenda.deadline is not None and agenda.deadline <= now:
            overdue = Overdue(200, GRACE, frozenset(self._lines), _LATE_PACE)
            await self._store.write(expire, overdue)
        for line in self._lines.values():
            await self._give_up_confirming(line)
        if now - self._plans_of >= _LEARN_EVERY:
            self._plans, self._plans_of = Plans(await self._store.read(known_durations)), now
        claim = self._claim(agenda, now)
        if claim.wanted or claim.unverified or claim.shifts:
            await self._take(claim)
        return self._rest(agenda, now)

    def _claim(self, agenda: Agenda, now: datetime) -> PollClaim:
        """What there is room for, of what is due; and the shifts that this needs."""
        free = {name: line.room() for name, line in self._lines.items()}
        wanted = _due(agenda.verified, free, now)
        unverified = {
            name: min(places, self._lines[name].unverified.room())
            for name, places in _due(agenda.unverified, free, now).items()
        }
        shifts = frozenset(
            name
            for name, line in self._lines.items()
            if line.needs_shift() and (name in wanted or name in unverified or line.limiter.busy())
        )
        after = {name: self._lines[name].last_token for name in unverified}
        return PollClaim(self._owner, wanted, unverified, LEASE, shifts, SHIFT, after)

    async def _take(self, claim: PollClaim) -> None:
        # counted from before the store does, a shift never ends later here than there
        began = {name: self._lines[name].limiter.monotonic() for name in claim.shifts}
        claimed = await self._store.write(claim_due, claim)
        self._ahead = claimed.now - self._clock()
        for name in claim.shifts:
            self._lines[name].begin_shift(began[name], claimed.terms.get(name))
        for task in claimed.tasks:
            line = self._lines[task.provider]
            self.rounds.start(self._ask(line, task, line.begin(task)), task.id)
        for name, line in self._lines.items():
            line.note_turns([task for task in claimed.tasks if task.provider == name])

    def _rest(self, agenda: Agenda, now: datetime) -> float:
        """Seconds until something is due that can be done; more often while questions run."""
        waits = [_WHILE_ASKING_SECONDS if self.rounds.under_way else LOOK_SECONDS]
        if agenda.deadline is not None and agenda.deadline > now:
            waits.append((agenda.deadline - now).total_seconds())
        for name, line in self._lines.items():
            if not line.elsewhere():
                dues = [agenda.verified.get(name)]
                if line.unverified.room() > 0:
                    dues.append(agenda.unverified.get(name))
                earliest = max(_BREATH_SECONDS, line.limiter.room_in())
                waits += [max(earliest, (at - now).total_seconds()) for at in dues if at]
        return min(waits)

    async def _give_up_confirming(self, line: Line) -> None:
        """Record what waits for the word of a provider that has been out of reach too long."""
        long_ago = self._clock() - HELD_FOR
        if line.silent_since is None or line.silent_since > long_ago:
            return
        held = await self._store.read(held_tasks, line.provider.name, long_ago, _HELD_A_LOOK)
        writes = [self._store.write(record, _as_it_came(task)) for task in held]
        await asyncio.gather(*writes)

    async def _ask(self, line: Line, task: Task, inquiry: Inquiry | None) -> None:
        try:
            await self._put(line, task, inquiry)
        finally:
            if inquiry:
                line.unverified.end(inquiry)

    async def _put(self, line: Line, task: Task, inquiry: Inquiry | None) -> None:
        early = self._too_early(line.provider, task)
        if early is not None:
            later = Later(task.id, task.poll_fence, early, reached=False, asked=False)
            await self._store.write(reschedule, later)
            return
        name, began = line.provider.name, line.limiter.monotonic()
        try:
            async with line.limiter.slot():
                self._watch.waited(name, line.limiter.monotonic() - began)
                update = await line.provider.query(_Paced(line, inquiry), task, self._clock())
        except ShiftOver:
            at_once = Later(task.id, task.poll_fence, timedelta(0), reached=False, asked=False)
            await self._store.write(reschedule, at_once)
        except ProviderError as error:
            trouble = Failure(error.code, str(error))
            self._watch.asked(name, error.code)
            self._watch.verdict(Heard(task, self._clock(), error.blame, trouble))
            await self._failed(line, task, error, trouble)
        else:
            oddity = unknown_word(line.provider, update.provider_status)
            self._watch.asked(name, update.status)
            self._watch.verdict(Heard(task, self._clock(), trouble=oddity))
            if inquiry:
                inquiry.exists = True
            await self._answered(line, task, update, oddity)

    async def _answered(
        self, line: Line, task: Task, update: TaskUpdate, trouble: Failure | None
    ) -> None:
        line.answered_at, line.silent_since = self._clock(), None
        if line.health.recovered():
            logger.warning("provider answers again", extra={"provider": line.provider.name})
        self._words.note(line.provider, update.provider_status)
        now = self._clock()
        overdue = task.deadline_at <= now and task.status is not Status.TIMED_OUT
        if overdue and not update.status.final and task.version > 0:
            await self._store.write(record, timed_out(task, _LATE_PACE))
            return
        unseen = self._unseen(task, update, now)
        ask_in = self._pace(line.provider, task, now)
        if advance(task, update, source=Source.POLL, confirmed=True, now=now) is None:
            await self._store.write(
                reschedule, Later(task.id, task.poll_fence, ask_in, trouble=trouble)
            )
            return
        await self._store.write(
            record,
            Report(
                provider=task.provider,
                provider_task_id=task.provider_task_id,
                update=update,
                source=Source.POLL,
                polled=Polled(task.poll_fence),
                ask_in=ask_in,
                unseen=unseen,
                trouble=trouble,
            ),
        )

    def _unseen(self, task: Task, update: TaskUpdate, now: datetime) -> timedelta | None:
        """The time since it was last seen open, if we know it; and note when that was now."""
        first = task.created_at - self._ahead if not task.polls else None
        before = self._open_at.pop(task.id, first)
        if not update.status.final:
            self._open_at[task.id] = now
            if len(self._open_at) > _REMEMBERED:
                del self._open_at[next(iter(self._open_at))]
        return now - before if before else None

    async def _failed(self, line: Line, task: Task, error: ProviderError, trouble: Failure) -> None:
        wait = self._slow_down(line, error) if error.blame is not Blame.TASK else timedelta(0)
        now = self._clock()
        if error.blame in (Blame.WAY, Blame.PROVIDER):
            line.silent_since = line.silent_since or now
        else:
            line.silent_since = None
        if error.permanent and task.poll_failures + 1 >= NOT_FOUND_TRIES:
            await self._give_up(task, trouble)
            return
        if _hint_is_due(line, task, error, now):
            await self._store.write(record, _as_it_came(task))
            return
        ask_in = self._pace(line.provider, task, now)
        if ask_in is not None and error.blame is Blame.TASK:
            ask_in *= 2 ** min(task.poll_failures, 4)
            wait = error.retry_after or wait
        if ask_in is not None:
            ask_in = max(ask_in, wait)
        # trouble with the provider says nothing about the task, and is not counted against it
        own = error.blame is Blame.TASK
        later = Later(task.id, task.poll_fence, ask_in, own, trouble, reached=own)
        await self._store.write(reschedule, later)

    def _slow_down(self, line: Line, error: ProviderError) -> timedelta:
        """Slow the provider down, not the task; questions that failed together count as one."""
        left = line.limiter.delay_left()
        if left > 0:
            return timedelta(seconds=left)
        slowdown = line.health.trouble(error.code, error.retry_after)
        line.limiter.slow_down(slowdown.delay)
        if slowdown.changed:
            logger.warning(
                "provider trouble: %s; asking again in %.0f s",
                error,
                slowdown.delay.total_seconds(),
                extra={"provider": line.provider.name, "code": error.code},
            )
        return slowdown.delay

    async def _give_up(self, task: Task, failure: Failure) -> None:
        if task.version == 0:
            await self._store.write(refute, task)
            return
        await self._store.write(
            record,
            Report(
                provider=task.provider,
                provider_task_id=task.provider_task_id,
                update=TaskUpdate(Status.FAILED, task.provider_status or "", error=failure),
                source=Source.POLL,
                polled=Polled(task.poll_fence),
            ),
        )

    def _pace(self, provider: Provider, task: Task, now: datetime) -> timedelta | None:
        """The wait before the next question; None when it is too late for any answer."""
        if _plannable(task):
            asked = task.polls + 1
            planned = self._plans.wait(provider, task, now + self._ahead, asked)
            if planned is not None:
                return planned
        wait = pace(provider, task, now)
        return None if wait is None else wait * (1 + 0.1 * self._jitter())

    def _too_early(self, provider: Provider, task: Task) -> timedelta | None:
        """How long to leave a task alone whose model takes longer than it is old."""
        if not _plannable(task):
            return None
        return self._plans.too_early(provider, task, self._clock() + self._ahead)


def _plannable(task: Task) -> bool:
    """Whether it is found by asking alone, and what was learned of its model counts."""
    return task.status is not Status.TIMED_OUT and not task.expect_push and task.hint is None


def _due(dues: Mapping[str, datetime], free: Mapping[str, int], now: datetime) -> dict[str, int]:
    """What is due and can be asked about; the others would make us look again at once."""
    return {name: free[name] for name, at in dues.items() if at <= now and free[name] > 0}


def pace(provider: Provider, task: Task, now: datetime) -> timedelta | None:
    """How long to leave a task alone after an answer, before jitter. None: for ever."""
    if task.status is Status.TIMED_OUT:
        late = now - task.deadline_at
        if late > _LATE_FOR:
            return None
        return min(max(_LATE_PACE, late / 4), timedelta(hours=1))
    if task.expect_push and task.hint is None:
        young = now - task.created_at < timedelta(minutes=10)
        return timedelta(seconds=60 if young else 120)
    return provider.pace(task, now)


def _hint_is_due(line: Line, task: Task, error: ProviderError, now: datetime) -> bool:
    """An unsigned ending waited long enough: the provider cannot be reached, or not about this task.

    Only for tasks somebody registered, and not when the provider answers but refuses our key:
    then nobody has confirmed anything, and a forged push must not become an event.
    """
    if task.hint is None or task.hint_at is None or task.version == 0:
        return False
    if error.permanent or error.blame is Blame.KEY:
        return False
    silent_since = max(task.hint_at, line.answered_at or task.hint_at)
    return now - silent_since >= HELD_FOR or now - task.hint_at >= _HELD_AT_MOST


def _as_it_came(task: Task) -> Report:
    assert task.hint is not None  # noqa: S101 - _hint_is_due said so
    return Report(
        provider=task.provider,
        provider_task_id=task.provider_task_id,
        update=task.hint,
        source=Source.PUSH,
        trusted=False,
        polled=Polled(task.poll_fence),
    )
