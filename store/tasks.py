"""Questions about tasks: which are due to be asked about, and what the API shows."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Executable,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    case,
    func,
    literal,
    null,
    select,
    text,
    union_all,
)

from store.among import among
from store.bulk import Bulk
from store.damaged import what_can_be_read
from store.database import unreadable
from store.events import Failure, Source, Status, Task, TaskUpdate
from store.records import POLLS, Report, record
from store.rows import clean_trouble, task_from_row
from store.shifts import take
from store.tables import UNENDED, tasks, word
from store.text import clean
from store.unconfirmed import drop_unconfirmed
from store.writer import Operation, Tx

logger = logging.getLogger("taskbell.store")

PARKED_AFTER = 5
"""A task whose claims were never finished this often crashes its poller: it is asked no more."""


@dataclass(frozen=True, slots=True)
class Agenda:
    """When something is first to be done: questions, by provider, and time-outs.

    unverified: about tasks that only an unsigned push has named.
    """

    verified: Mapping[str, datetime]
    unverified: Mapping[str, datetime]
    deadline: datetime | None


def read_agenda(connection: Connection, providers: Sequence[str]) -> Agenda:
    """One small look at the ends of a few indexes: an idle poller asks no more than that."""
    found: tuple[dict[str, datetime], dict[str, datetime]] = {}, {}
    deadline = None
    for provider, verified, at in connection.execute(_firsts(tuple(providers))):
        if provider is None:
            deadline = at
        elif at is not None:
            found[1 - verified][provider] = at
    return Agenda(*found, deadline)


_FIRST_DEADLINE = select(
    null().label("provider"), word(1).label("verified"), func.min(tasks.c.deadline_at).label("at")
).where(text(UNENDED))


@cache  # the same each second; to put it together takes longer than to ask
def _firsts(providers: tuple[str, ...]) -> CompoundSelect[Any]:
    dues = [_first_due(name, verified) for name in providers for verified in (True, False)]
    return union_all(_FIRST_DEADLINE, *dues)


def _first_due(provider: str, verified: bool) -> Select[Any]:
    return select(
        literal(provider).label("provider"),
        word(int(verified)).label("verified"),
        func.min(tasks.c.next_poll_at).label("at"),
    ).where(*_waiting(provider, verified))


@dataclass(frozen=True, slots=True)
class PollClaim:
    """Who asks, and how many tasks of each provider it can take.

    unverified: of these providers, how many tasks that only an unsigned push has named. shifts: of
    which providers a shift is to be taken or prolonged, for `shift` from now; where another process
    has it, nothing is claimed. after: whose unverified task of a provider was claimed last: callback
    tokens take turns, so that one that leaked keeps nobody waiting. suspects: of `wanted`, how many
    may be tasks whose last question failed. probes: of these providers one task that did not fail
    last, if one is due, and the named one only when no other is.
    """

    owner: str
    wanted: Mapping[str, int]
    unverified: Mapping[str, int]
    lease: timedelta
    shifts: frozenset[str] = frozenset()
    shift: timedelta = timedelta(0)
    after: Mapping[str, str] = field(default_factory=dict)
    suspects: Mapping[str, int] = field(default_factory=dict)
    probes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claimed:
    """Tasks to ask about, leased; the terms of the shifts that were got; the store's time."""

    tasks: tuple[Task, ...]
    terms: Mapping[str, int]
    now: datetime


def _claim_due(tx: Tx, claims: Sequence[PollClaim]) -> list[Claimed]:
    return [_claim_one(tx, claim) for claim in claims]


claim_due: Operation[PollClaim, Claimed] = Operation("claim_due", _claim_due)


def _claim_one(tx: Tx, claim: PollClaim) -> Claimed:
    terms = take(tx, claim.owner, claim.shifts, claim.shift)
    not_ours = claim.shifts - terms.keys()
    ids: list[str] = []
    for provider, limit in claim.wanted.items():
        if limit > 0 and provider not in not_ours:
            ids.extend(_lock_due(tx, provider, limit, claim))
    for provider, limit in claim.unverified.items():
        if limit > 0 and provider not in not_ours:
            ids.extend(_lock_unverified(tx, provider, limit, claim.after.get(provider, "")))
    return Claimed(_lease(tx, ids, claim) if ids else (), terms, tx.now)


def _waiting(provider: str, verified: bool) -> list[ColumnElement[bool]]:
    version = tasks.c.version > word(0) if verified else tasks.c.version == word(0)
    return [tasks.c.provider == provider, tasks.c.next_poll_at.is_not(None), version]


def _lock_due(tx: Tx, provider: str, limit: int, claim: PollClaim) -> list[str]:
    if provider in claim.probes:
        return _lock_probe(tx, provider, claim.probes[provider])
    due = _lock(tx, provider, limit)
    suspects = [task_id for task_id, failures in due if failures]
    passed_over = suspects[max(0, claim.suspects.get(provider, limit)) :]
    chosen = [task_id for task_id, _ in due if task_id not in passed_over]
    if passed_over:
        chosen += _ids(_lock(tx, provider, len(passed_over), _SOUND, tasks.c.id.not_in(chosen)))
    return chosen


def _lock_probe(tx: Tx, provider: str, last_failed: str) -> list[str]:
    """One task to try a provider with that was stopped."""
    for condition in ([_SOUND], [tasks.c.id != last_failed], []):
        found = _lock(tx, provider, 1, *condition)
        if found:
            return _ids(found)
    return []


_SOUND = tasks.c.poll_failures == word(0)


def _lock(
    tx: Tx, provider: str, limit: int, *conditions: ColumnElement[bool]
) -> list[tuple[str, int]]:
    query = (
        select(tasks.c.id, tasks.c.poll_failures)
        .where(*_waiting(provider, verified=True), tasks.c.next_poll_at <= tx.now, *conditions)
        .order_by(tasks.c.next_poll_at)
        .limit(limit)
    )
    rows = tx.connection.execute(tx.database.locked(query, skip=True))
    return [(row.id, row.poll_failures) for row in rows]


def _ids(found: Sequence[tuple[str, int]]) -> list[str]:
    return [task_id for task_id, _ in found]


def _lock_unverified(tx: Tx, provider: str, limit: int, after: str) -> list[str]:
    """One task of each callback token in turn, from the token behind `after` on."""
    due = [*_waiting(provider, verified=False), tasks.c.next_poll_at <= tx.now]
    token = func.coalesce(tasks.c.token_id, word(""))
    turn = func.row_number().over(partition_by=token, order_by=(tasks.c.next_poll_at, tasks.c.id))
    lines = select(tasks.c.id, token.label("token"), turn.label("turn")).where(*due).subquery()
    first = (
        select(lines.c.id)
        .order_by(lines.c.turn, lines.c.token <= after, lines.c.token)
        .limit(limit)
    )
    query = select(tasks.c.id).where(tasks.c.id.in_(first.scalar_subquery()), *due)
    return list(tx.connection.execute(tx.database.locked(query, skip=True)).scalars())


def _lease(tx: Tx, ids: list[str], claim: PollClaim) -> tuple[Task, ...]:
    leased = (
        tasks.update()
        .where(tasks.c.id.in_(ids))
        .values(
            next_poll_at=tx.now + claim.lease,
            poll_fence=tasks.c.poll_fence + 1,
            poll_claims=tasks.c.poll_claims + 1,
            poll_owner=claim.owner,
        )
        .returning(*tasks.c)
    )
    claimed = _read(tx, leased, ids)
    parked = [task.id for task in claimed if task.poll_claims > PARKED_AFTER]
    if parked:
        tx.connection.execute(
            tasks.update()
            .where(tasks.c.id.in_(parked))
            .values(
                next_poll_at=None,
                poll_error=f"parked: {PARKED_AFTER} questions were started and never finished",
                poll_error_code="parked",
            )
        )
    place = {task_id: number for number, task_id in enumerate(ids)}  # longest due first
    claimed.sort(key=lambda task: place[task.id])
    return tuple(task for task in claimed if task.poll_claims <= PARKED_AFTER)


def _read(tx: Tx, statement: Executable, ids: Collection[str]) -> list[Task]:
    """The tasks that it finds, all of them with these ids; what cannot be read is parked."""
    try:
        return [task_from_row(row) for row in tx.connection.execute(statement).all()]
    except Exception as error:  # what cannot be read fails in many ways; the rest goes on up
        if not unreadable(error):
            raise
    return what_can_be_read(ids, partial(_read_one, tx), partial(_park_unreadable, tx))


def _read_one(tx: Tx, task_id: str) -> Task:
    return task_from_row(tx.connection.execute(select(tasks).where(tasks.c.id == task_id)).one())


def _park_unreadable(tx: Tx, task_id: str, why: str) -> None:
    logger.error("task %s is asked about no more, its row cannot be read: %s", task_id, why)
    error = clean(f"parked: its row cannot be read: {why}", 500)
    tomorrow = tx.now + timedelta(days=1)  # to time out: not every second until somebody mends it
    tx.connection.execute(
        tasks.update()
        .where(tasks.c.id == task_id)
        .values(
            next_poll_at=None,
            poll_error=error,
            poll_error_code="parked",
            deadline_at=tomorrow,
        )
    )


@dataclass(frozen=True, slots=True)
class Later:
    """A question that brought no news: when to ask again (None: never), and what went wrong.

    failed counts against the task; reached says that the provider answered at all. refused: the
    provider itself will not answer this question; such failures in a row are counted apart. asked:
    False when the question was not put after all. trouble: what to show on the task, a code and words;
    None ends what was shown. trouble_changed: nobody has been shown that yet.
    """

    task_id: str
    fence: int
    ask_in: timedelta | None
    failed: bool = False
    trouble: Failure | None = None
    reached: bool = True
    asked: bool = True
    refused: bool = False
    trouble_changed: bool = False


_TIME = tasks.c.next_poll_at.type
_AT = bindparam("at", type_=_TIME)
_NOT_PUT = bindparam("questions", type_=Integer) == word(0)
_RESCHEDULE = Bulk(
    tasks.update()
    .where(tasks.c.id == bindparam("task"), tasks.c.poll_fence == bindparam("held_fence"))
    .values(
        next_poll_at=case(
            # one question right at the deadline
            (
                and_(
                    text(UNENDED),
                    tasks.c.deadline_at > bindparam("at_present", type_=_TIME),
                    tasks.c.deadline_at < _AT,
                ),
                tasks.c.deadline_at,
            ),
            else_=_AT,
        ),
        polls=tasks.c.polls + bindparam("questions", type_=Integer),
        poll_claims=word(0),
        # a question that was not put changes neither; failures of other kinds end no row of refusals
        poll_failures=tasks.c.poll_failures * bindparam("goes_on") + bindparam("failed"),
        poll_refusals=tasks.c.poll_refusals * bindparam("goes_on") + bindparam("refused"),
        poll_error=case((_NOT_PUT, tasks.c.poll_error), else_=bindparam("trouble", type_=Text)),
        poll_error_code=case(
            (_NOT_PUT, tasks.c.poll_error_code), else_=bindparam("trouble_code", type_=Text)
        ),
        # a held ending waits for a provider that is out of reach, from its last answer on
        hint_at=case(
            (
                tasks.c.hint_at.is_not(None),
                func.coalesce(bindparam("reached_at", type_=_TIME), tasks.c.hint_at),
            )
        ),
    )
)


_TROUBLE_IS_NEWS = Bulk(
    tasks.update()
    .where(tasks.c.id == bindparam("task"), tasks.c.poll_fence == bindparam("held_fence"))
    .values(updated_at=bindparam("at_present", type_=_TIME))
)
"""Whoever follows the task is shown what was written at that time."""


def _reschedule(tx: Tx, items: Sequence[Later]) -> list[None]:
    rows = [
        {
            "task": item.task_id,
            "held_fence": item.fence,
            "at": tx.now + item.ask_in if item.ask_in is not None else None,
            "at_present": tx.now,
            "reached_at": tx.now if item.reached else None,
            "questions": int(item.asked),
            "goes_on": int(item.failed or not item.asked),
            "failed": int(item.failed),
            "refused": int(item.refused),
            "trouble": trouble.message if trouble else None,
            "trouble_code": trouble.code if trouble else None,
        }
        for item in sorted(items, key=lambda item: item.task_id)
        for trouble in [clean_trouble(item.trouble)]
    ]
    tx.write(_RESCHEDULE, rows)
    new = {item.task_id for item in items if item.trouble_changed}
    tx.write(_TROUBLE_IS_NEWS, [row for row in rows if row["task"] in new])
    return [None] * len(items)


reschedule: Operation[Later, None] = Operation("reschedule", _reschedule, order=1)


@dataclass(frozen=True, slots=True)
class Overdue:
    """Time out open tasks past their deadline.

    grace: extra time for tasks of these providers, which a question right at the deadline may
    still find ended. ask_in: the next question to a timed-out task.
    """

    limit: int
    grace: timedelta
    askable: frozenset[str]
    ask_in: timedelta


def _expire(tx: Tx, items: Sequence[Overdue]) -> list[int]:
    answers = []
    for item in items:
        overdue = (tasks.c.deadline_at <= tx.now - item.grace) | (
            (tasks.c.deadline_at <= tx.now) & tasks.c.provider.not_in(item.askable)
        )
        late = tx.connection.execute(
            select(tasks.c.id)
            .where(text(UNENDED), overdue)
            .where(tasks.c.deadline_at <= tx.now)
            .order_by(tasks.c.deadline_at)
            .limit(item.limit)
        )
        ids = list(late.scalars())
        found = _read(tx, select(tasks).where(tasks.c.id.in_(ids)), ids)
        drop_unconfirmed(tx, [task for task in found if task.version == 0])
        reports = [timed_out(task, item.ask_in) for task in found if task.version > 0]
        if reports:
            record.run(tx, reports)
        answers.append(len(found))
    return answers


expire: Operation[Overdue, int] = Operation("expire", _expire)


def timed_out(task: Task, ask_in: timedelta) -> Report:
    return Report(
        provider=task.provider,
        provider_task_id=task.provider_task_id,
        update=TaskUpdate(Status.TIMED_OUT, task.provider_status or ""),
        source=Source.POLL,
        trusted=False,
        ask_in=ask_in,
    )


def _refute(tx: Tx, items: Sequence[Task]) -> list[None]:
    """The provider does not know what an unsigned push named: forget it, but for some receipts."""
    drop_unconfirmed(tx, items)
    return [None] * len(items)


refute: Operation[Task, None] = Operation("refute", _refute)


def _ask_now(tx: Tx, ids: Sequence[str]) -> list[bool]:
    rows = tx.connection.execute(
        tasks.update()
        .where(tasks.c.id.in_(ids), tasks.c.status.not_in(_FINAL))
        .values(next_poll_at=tx.now, poll_claims=0)
        .returning(tasks.c.id)
    )
    due = set(rows.scalars())
    tx.wake(POLLS)
    return [task_id in due for task_id in ids]


ask_now: Operation[str, bool] = Operation("ask_now", _ask_now)
"""Make a task due for a question at once; False when it has ended or is unknown."""

_FINAL = [status for status in Status if status.final]


def held_tasks(connection: Connection, provider: str, before: datetime, limit: int) -> list[Task]:
    """Registered tasks whose unsigned ending has waited since `before`, longest waiting first."""
    query = (
        select(tasks)
        .where(tasks.c.provider == provider, tasks.c.hint_at <= before, tasks.c.version > 0)
        .order_by(tasks.c.hint_at)
        .limit(limit)
    )
    return [task_from_row(row) for row in connection.execute(query)]


def get_task(connection: Connection, task_id: str) -> Task | None:
    row = connection.execute(select(tasks).where(tasks.c.id == task_id)).first()
    return task_from_row(row) if row else None


def changed_tasks(connection: Connection, seen: Mapping[str, datetime | None]) -> list[Task]:
    """Those of these tasks that are open and were written after the time they were seen at."""
    stamps = connection.execute(_STAMPS, {"ids": list(seen)})
    changed = [row.id for row in stamps if seen[row.id] != row.updated_at]
    found = connection.execute(_OPEN_AMONG, {"ids": changed}) if changed else ()
    return [task_from_row(row) for row in found]


_OPEN_AMONG = select(tasks).where(among(tasks.c.id, "ids"), text(UNENDED))
_STAMPS = _OPEN_AMONG.with_only_columns(tasks.c.id, tasks.c.updated_at)


def list_tasks(
    connection: Connection,
    *,
    limit: int,
    before: str | None = None,
    status: Status | None = None,
    provider: str | None = None,
) -> list[Task]:
    """Newest first; `before` is the id of the last task already seen.

    What only an unsigned push has named so far is left out: anyone with the URL can name a lot.
    """
    query = select(tasks).where(tasks.c.version > 0).order_by(tasks.c.id.desc()).limit(limit)
    if before:
        query = query.where(tasks.c.id < before)
    if status:
        query = query.where(tasks.c.status == status)
    if provider:
        query = query.where(tasks.c.provider == provider)
    return [task_from_row(row) for row in connection.execute(query)]
