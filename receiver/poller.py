"""The poller: asks providers about the tasks that are due, within each provider's budget."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

from receiver.budget import (
    LONGEST_DELAY,
    LONGEST_RETRY_AFTER,
    Health,
    Inquiry,
    Quota,
    RateLimiter,
    ShiftOver,
)
from receiver.failures import Blame, Code
from receiver.pacing import Plans
from receiver.provider import Answer, Asker, Provider, ProviderError
from receiver.redaction import Redact, redacted
from receiver.trouble import in_words, trouble_of
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
"""A task just submitted may be unknown for a moment; refused this often in a row, it failed."""

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
_SUSPECTS_PART = 4  # of a provider's places: one in four
_TASKS_LONGEST = timedelta(minutes=5)
_REFUSED_MOST = 1_000
_REMEMBERED = 50_000  # open tasks


class DiscreetAsker(Asker, Protocol):
    """An Asker that knows which text must not be kept: the key it asks with."""

    @property
    def redact(self) -> Redact:
        """Cuts the key out of a text."""


@dataclass(slots=True)
class Line:
    """The line to one provider: whom we ask, how fast, and how it has been doing.

    refused: registered tasks that were refused since the last good answer. suspects: questions
    under way about tasks whose last one failed; they may take a part of the places, so that tasks
    whose questions hang keep the others waiting once and not again.
    """

    provider: Provider
    asker: DiscreetAsker
    limiter: RateLimiter
    health: Health
    unverified: Quota = field(init=False)
    last_token: str = ""  # whose unverified task was claimed last
    answered_at: datetime | None = None  # the last answer that was no trouble
    silent_since: datetime | None = None  # the first of the questions it could not be reached for
    refused: set[str] = field(default_factory=set)
    suspects: set[str] = field(default_factory=set)
    probe: str = ""  # the task under way that is to show whether a stopped provider is back
    term: int = 0  # of this process's shifts
    elsewhere_until: float = -math.inf  # another process asks it; do not try before

    def __post_init__(self) -> None:
        self.unverified = Quota(UNVERIFIED_PER_MINUTE, _REQUESTS, self.limiter.monotonic)

    def room(self) -> int:
        """How many questions may be claimed now."""
        if self.elsewhere():
            return 0
        free = self.limiter.free()
        return min(free, int(not self.probe)) if self.health.stopped else free

    def room_for_suspects(self) -> int:
        """How many of them may be about tasks whose last question failed."""
        return max(1, self.limiter.concurrency // _SUSPECTS_PART) - len(self.suspects)

    def elsewhere(self) -> bool:
        """Whether another process asks it, as far as is known."""
        return self.limiter.monotonic() < self.elsewhere_until

    def needs_shift(self) -> bool:
        """Whether a shift is to be taken before it is asked: in good time, so that none lapses."""
        return self.limiter.shift_left() < SHIFT.total_seconds() / 2 and not self.elsewhere()

    def begin_shift(self, began: float, term: int | None) -> bool:
        """Note what became of taking a shift that began then; return whether it was another's.

        term: None when another has it.
        """
        if term is None:
            self.elsewhere_until = self.limiter.monotonic() + LOOK_SECONDS
            return False
        taken_over = term not in (FIRST_TERM, self.term)
        self.limiter.work_until(began + SHIFT.total_seconds(), taken_over=taken_over)
        self.term = term
        return taken_over

    def begin(self, task: Task) -> Inquiry | None:
        """Note a question. An Inquiry: it is about a task that only an unsigned push has named."""
        if task.poll_failures:
            self.suspects.add(task.id)
        if self.health.stopped:
            self.probe = task.id
        return self.unverified.begin() if task.version == 0 else None

    def end(self, task: Task, inquiry: Inquiry | None) -> None:
        """Note the end of a question."""
        self.suspects.discard(task.id)
        if self.probe == task.id:
            self.probe = ""
        if inquiry:
            self.unverified.end(inquiry)

    def may_ask(self, task: Task) -> bool:
        """False for a question that was claimed before the provider was stopped.

        It is put again later, behind others: those that were claimed together may all be bad.
        """
        return not self.health.stopped or self.probe == task.id

    def refuse(self, task: Task) -> bool:
        """Note that the provider refused a question; True when it does so with this task alone."""
        if len(self.refused) < _REFUSED_MOST:
            self.refused.add(task.id)
        return self.refused == {task.id}

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
        self._in_vain: Set[str] = frozenset()  # of these providers nothing that is due was claimed
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
        claim, self._in_vain = self._claim(agenda, now), frozenset()
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
            if not (name in wanted and self._lines[name].health.stopped)
        }
        shifts = frozenset(
            name
            for name, line in self._lines.items()
            if line.needs_shift() and (name in wanted or name in unverified or line.limiter.busy())
        )
        after = {name: self._lines[name].last_token for name in unverified}
        suspects = {name: self._lines[name].room_for_suspects() for name in wanted}
        probes = {
            name: line.health.last_failed
            for name, line in self._lines.items()
            if line.health.stopped and name in wanted
        }
        return PollClaim(
            self._owner,
            wanted,
            unverified,
            LEASE,
            shifts,
            SHIFT,
            after,
            suspects,
            probes,
        )

    async def _take(self, claim: PollClaim) -> None:
        # counted from before the store does, a shift never ends later here than there
        began = {name: self._lines[name].limiter.monotonic() for name in claim.shifts}
        claimed = await self._store.write(claim_due, claim)
        self._ahead = claimed.now - self._clock()
        for name in claim.shifts:
            if self._lines[name].begin_shift(began[name], claimed.terms.get(name)):
                self._watch.took_over(name)
        for task in claimed.tasks:
            line = self._lines[task.provider]
            self.rounds.start(self._ask(line, task, line.begin(task)), task.id)
        for name, line in self._lines.items():
            line.note_turns([task for task in claimed.tasks if task.provider == name])
        self._in_vain = claim.wanted.keys() - {task.provider for task in claimed.tasks}

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
                breath = _WHILE_ASKING_SECONDS if name in self._in_vain else _BREATH_SECONDS
                earliest = max(breath, line.limiter.room_in())
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
            line.end(task, inquiry)

    async def _put(self, line: Line, task: Task, inquiry: Inquiry | None) -> None:
        early = self._too_early(line.provider, task)
        if early is not None:
            later = Later(task.id, task.poll_fence, early, reached=False, asked=False)
            await self._store.write(reschedule, later)
            return
        name, began = line.provider.name, line.limiter.monotonic()
        try:
            async with line.limiter.slot(partial(line.may_ask, task)):
                self._watch.waited(name, line.limiter.monotonic() - began)
                found = await line.provider.query(_Paced(line, inquiry), task, self._clock())
        except ShiftOver:
            at_once = Later(task.id, task.poll_fence, timedelta(0), reached=False, asked=False)
            await self._store.write(reschedule, at_once)
        except ProviderError as error:
            error.args = (line.asker.redact(str(error)),)
            error.code = line.asker.redact(error.code)
            trouble = trouble_of(line.provider, error)
            self._watch.asked(name, error.code)
            self._watch.verdict(Heard(task, self._clock(), error.blame, trouble))
            await self._failed(line, task, error, trouble)
        else:
            update = in_words(line.provider, redacted(found, line.asker.redact))
            oddity = unknown_word(line.provider, update.provider_status)
            self._watch.asked(name, update.status)
            self._watch.verdict(Heard(task, self._clock(), trouble=oddity))
            if inquiry:
                inquiry.exists = True
            await self._answered(line, task, update, oddity)

    async def _answered(
        self, line: Line, task: Task, update: TaskUpdate, trouble: Failure | None
    ) -> None:
        line.answered_at = self._clock()
        line.refused.clear()
        _note_sign(line)
        self._words.note(line.provider, update.provider_status)
        now = self._clock()
        overdue = task.deadline_at <= now and task.status is not Status.TIMED_OUT
        if overdue and not update.status.final and task.version > 0:
            await self._store.write(record, timed_out(task, _LATE_PACE))
            return
        unseen = self._unseen(task, update, now)
        ask_in = self._pace(line.provider, task, now)
        if advance(task, update, source=Source.POLL, confirmed=True, now=now) is None:
            changed = trouble != task.trouble
            later = Later(
                task.id, task.poll_fence, ask_in, trouble=trouble, trouble_changed=changed
            )
            await self._store.write(reschedule, later)
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
        now = self._clock()
        stop = timedelta(0)
        if error.blame is Blame.TASK:
            _note_sign(line)
        elif task.version > 0:  # anyone with the URL can name tasks that make answers fail
            line.silent_since = None if error.blame is Blame.KEY else line.silent_since or now
            stop = self._slow_down(line, task, error)
        refused = error.permanent and error.blame is Blame.TASK
        if refused and self._is_final(line, task, error):
            await self._give_up(task, trouble)
            line.refused.discard(task.id)
            return
        if _hint_is_due(line, task, error, now):
            await self._store.write(record, _as_it_came(task))
            return
        if task.poll_failures == 1:
            about = {"provider": task.provider, "task": task.id, "code": error.code}
            logger.info("no news of a task, twice in a row: %s", error, extra=about)
        pace = self._pace(line.provider, task, now)
        # an outage before says nothing about how often this task was refused
        failures = task.poll_refusals if refused else task.poll_failures
        ask_in = None if pace is None else max(backoff(pace, failures, error), stop)
        later = Later(
            task.id,
            task.poll_fence,
            ask_in,
            True,
            trouble,
            reached=error.blame is Blame.TASK,
            refused=refused,
            trouble_changed=task.trouble is None or trouble.code != task.trouble.code,
        )
        await self._store.write(reschedule, later)

    def _is_final(self, line: Line, task: Task, error: ProviderError) -> bool:
        """True when a refusal ends the task: it came often enough, and not for every task at once.

        A server at a wrong base URL may refuse in the very shape that the provider uses.
        """
        alone = task.version == 0 or line.refuse(task) or error.code == Code.TOO_LARGE
        return alone and task.poll_refusals + 1 >= NOT_FOUND_TRIES

    def _slow_down(self, line: Line, task: Task, error: ProviderError) -> timedelta:
        """Leave the provider alone if this is not the task's own trouble; for how long.

        Questions that failed together count as one.
        """
        left = line.limiter.delay_left()
        if left > 0:
            return timedelta(seconds=left)
        slowdown = line.health.failed(task.id, error.code, error.retry_after)
        if slowdown is None:
            return timedelta(0)
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


def _note_sign(line: Line) -> None:
    """Note that the provider itself answered."""
    line.silent_since = None
    if line.health.is_there():
        logger.warning("provider answers again", extra={"provider": line.provider.name})


def backoff(pace: timedelta, failures: int, error: ProviderError) -> timedelta:
    """How long to leave a task alone after one more failure than these in a row. Pure."""
    most = max(pace, _TASKS_LONGEST if error.blame is Blame.TASK else LONGEST_DELAY)
    times: int = 2 ** min(failures, 8)
    wait = min(pace * times, most)
    if error.retry_after is None:
        return wait
    if error.blame is Blame.TASK:
        return error.retry_after
    return max(wait, min(error.retry_after, LONGEST_RETRY_AFTER))


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
