"""Recording: the one place that moves tasks.

Every update, whichever way it came (push, poll, API, time-out), goes through `record`: the state
machine decides, and the task, its event and one delivery for each subscription that wants the
event are written in one transaction.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, bindparam, select

from store.among import among
from store.bulk import Bulk
from store.callback_tokens import FOREIGN, ForeignPushError, Use, bind
from store.durations import Ending, learn, model_of
from store.errors import StoreError, TooLargeError
from store.events import (
    Change,
    Failure,
    Kind,
    Source,
    Status,
    Task,
    TaskUpdate,
    Verdict,
    advance,
    changed,
    judge,
)
from store.ids import new_id
from store.matching import interested
from store.outbox import delivery_row, insert_events, task_event_row
from store.rows import (
    TASK_STATE,
    clean_trouble,
    clean_update,
    new_task_row,
    task_from_row,
    task_state,
)
from store.tables import receipts, tasks
from store.text import clean, clean_json
from store.unconfirmed import UnconfirmedCounts
from store.writer import Operation, Tx

logger = logging.getLogger("taskbell.store")

POLLS = "polls"
"""The topic: a task may be due for a question."""

_SOON = timedelta(seconds=1)  # pollers look that often anyway

METADATA_BYTES = 16 * 1024
"""The most a task's metadata may have, as JSON in ASCII."""

HELD_FOR = timedelta(minutes=2)
"""How long an unsigned ending waits for a provider that cannot be reached."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What a task starts with when nobody has tracked it yet."""

    timeout: timedelta
    kind: Kind | None = None
    model: str | None = None
    family: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    expect_push: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """A push as it was received.

    metadata: the token's, for the task that is bound to it. single_task: its token is for the first
    task that was pushed with it. only_news: it is kept only when it moves its task or makes it known.
    """

    token_id: str
    raw: bytes
    metadata: Mapping[str, Any] = field(default_factory=dict)
    single_task: bool = False
    only_news: bool = False


@dataclass(frozen=True, slots=True)
class Polled:
    """The question that an update answers: its claim's fence, to be released."""

    fence: int


@dataclass(frozen=True, slots=True)
class Report:
    """An update and how it came.

    trusted: the provider itself vouches for it (a query's answer, a valid signature). hold: an
    ending must wait until the provider was asked, and so must a task nobody registered.
    registration: None means an unknown task is not created. ask_in: the next question about the
    task, if it is still open afterwards; None leaves the plan as it is. unseen: the time since an
    answer that found the task open; None: not known. trouble: what is odd about a good answer, or
    why a new task cannot be asked about, to be shown on the task; None ends what was shown.
    """

    provider: str
    provider_task_id: str
    update: TaskUpdate
    source: Source
    trusted: bool = True
    hold: bool = False
    registration: Registration | None = None
    receipt: Receipt | None = None
    polled: Polled | None = None
    ask_in: timedelta | None = None
    unseen: timedelta | None = None
    trouble: Failure | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a report. task is None when the task is unknown and was not to be created.

    amended: the registration of a known task changed it.
    """

    verdict: Verdict
    task: Task | None
    created: bool = False
    event_id: str | None = None
    amended: bool = False


def _record(tx: Tx, reports: Sequence[Report]) -> list[Recorded | StoreError]:
    bound = bind(tx, _uses(reports))
    book = _TaskBook(tx, reports)
    written = _Written(tx)
    counts = UnconfirmedCounts(tx, _unknown_tokens(book, reports))
    answers: list[Recorded | StoreError] = []
    for report in reports:
        if _foreign(report, bound):
            answers.append(_refuse(written, report))
        elif _one_too_many(book, counts, report):
            answers.append(Recorded(Verdict.STALE, None))
        else:
            answers.append(_take(tx, book, written, report))
    book.save()
    written.save()
    return answers


record: Operation[Report, Recorded] = Operation("record", _record)
"""A push whose token is for another task gets a ForeignPushError, and its receipt stays.

A push that must wait for the provider makes no task known when its token has made too many known
that nobody has confirmed; such a push leaves nothing. A registration whose metadata does not fit into the task's gets a TooLargeError.
"""


def _uses(reports: Sequence[Report]) -> list[Use]:
    return [
        Use(report.receipt.token_id, report.provider, report.provider_task_id)
        for report in reports
        if report.receipt and report.receipt.single_task
    ]


def _foreign(report: Report, bound: Mapping[str, str | None]) -> bool:
    receipt = report.receipt
    if receipt is None or not receipt.single_task:
        return False
    return bound[receipt.token_id] != report.provider_task_id


def _unknown_tokens(book: _TaskBook, reports: Sequence[Report]) -> set[str]:
    """Of pushes that would make a task known that nobody has confirmed."""
    return {
        report.receipt.token_id
        for report in reports
        if report.receipt and _unconfirmed(book, report)
    }


def _unconfirmed(book: _TaskBook, report: Report) -> bool:
    known = book.get((report.provider, report.provider_task_id))
    return report.hold and report.registration is not None and known is None


def _one_too_many(book: _TaskBook, counts: UnconfirmedCounts, report: Report) -> bool:
    if report.receipt is None or not _unconfirmed(book, report):
        return False
    return not counts.take(report.receipt.token_id)


def _refuse(written: _Written, report: Report) -> ForeignPushError:
    written.receipt(report, FOREIGN, None)
    return ForeignPushError("the callback token is for another task")


class _TaskBook:
    """The tasks a batch is about: read and locked once, changed in memory, written once."""

    def __init__(self, tx: Tx, reports: Iterable[Report]) -> None:
        self._tx = tx
        self._new: dict[tuple[str, str], Task] = {}
        self._changed: dict[tuple[str, str], Task] = {}
        self._known: dict[tuple[str, str], Task] = {}
        named: dict[str, set[str]] = {}
        for report in reports:
            named.setdefault(report.provider, set()).add(report.provider_task_id)
        for provider in sorted(named):  # one by one: SQLite would walk the table for pairs
            self._read(provider, sorted(named[provider]))

    def _read(self, provider: str, provider_task_ids: list[str]) -> None:
        query = self._tx.database.locked(_FIND_TASKS)
        which = {"provider": provider, "ids": provider_task_ids}
        for row in self._tx.connection.execute(query, which):
            self._known[provider, row.provider_task_id] = task_from_row(row)

    def get(self, key: tuple[str, str]) -> Task | None:
        return self._changed.get(key) or self._new.get(key) or self._known.get(key)

    def put(self, task: Task) -> None:
        key = (task.provider, task.provider_task_id)
        if key in self._known:
            self._changed[key] = task
        else:
            self._new[key] = task

    def save(self) -> None:
        # a task that another process registers at this moment breaks a unique key: the writer then
        # tries again, and finds it
        self._tx.write(_INSERT_TASKS, [new_task_row(task) for task in self._new.values()])
        self._tx.write(
            _UPDATE_TASKS,
            [{"task": task.id, **task_state(task)} for task in self._changed.values()],
        )


_FIND_TASKS = (
    select(tasks)
    .where(
        tasks.c.provider == bindparam("provider"),
        among(tasks.c.provider_task_id, "ids"),
    )
    .order_by(tasks.c.id)
)
_INSERT_TASKS = Bulk(
    tasks.insert(), *TASK_STATE, "id", "provider", "provider_task_id", "created_at"
)
_UPDATE_TASKS = Bulk(
    tasks.update()
    .where(tasks.c.id == bindparam("task"))
    .values({column: bindparam(column) for column in TASK_STATE})
)
_INSERT_RECEIPTS = Bulk(
    receipts.insert(),
    *("id", "provider", "token_id", "provider_task_id", "task_id", "received_at", "verdict"),
    "raw",
)


class _Written:
    """Events, deliveries and receipts of a batch, inserted together at its end."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._events: list[dict[str, Any]] = []
        self._deliveries: list[dict[str, Any]] = []
        self._receipts: list[dict[str, Any]] = []
        self._endings: list[Ending] = []

    def event(self, change: Change, task: Task) -> str:
        event = task_event_row(change, task, self._tx.now)
        self._events.append(event)
        for subscription in interested(
            self._tx.subscriptions, event["type"], task.provider, task.metadata, event["body"]
        ):
            self._deliveries.append(delivery_row(event, subscription.id, self._tx.now))
        return str(event["id"])

    def ending(self, task: Task, report: Report) -> None:
        """Learn how long a task took. task: as it was before."""
        ending = _ending(task, report, self._tx.now)
        if ending:
            self._endings.append(ending)

    def receipt(
        self, report: Report, verdict: str, task: Task | None, *, created: bool = False
    ) -> None:
        news = created or verdict == Verdict.RECORDED
        if report.receipt and (news or not report.receipt.only_news):
            self._receipts.append(
                receipt_row(
                    report.provider,
                    report.receipt,
                    verdict,
                    self._tx.now,
                    provider_task_id=report.provider_task_id,
                    task_id=task.id if task else None,
                )
            )

    def save(self) -> None:
        insert_events(self._tx, self._events, self._deliveries)
        self._tx.write(_INSERT_RECEIPTS, self._receipts)
        learn(self._tx, self._endings)  # under the events lock: an ending is an event


def _take(tx: Tx, book: _TaskBook, written: _Written, report: Report) -> Recorded | TooLargeError:
    update = clean_update(report.update)
    known = book.get((report.provider, report.provider_task_id))
    task = known or _new_task(report, tx.now)
    if task is None:
        written.receipt(report, Verdict.STALE, None)
        return Recorded(Verdict.STALE, None)
    if known and report.source is Source.API and report.registration:
        try:
            task = _adopted(known, report.registration)
        except TooLargeError as error:
            return error
    task = _bound(task, report.receipt)
    if _must_wait(task, report):
        recorded = _hold(tx, book, task, report, update, created=known is None)
    else:
        recorded = _move(tx, book, written, task, report, update, created=known is None)
    written.receipt(report, recorded.verdict, recorded.task, created=recorded.created)
    if known and report.registration and report.source is Source.API and task != known:
        return replace(recorded, amended=True)
    return recorded


def _bound(task: Task, receipt: Receipt | None) -> Task:
    """The task, bound to the callback URL that pushed it first, with the metadata of that one.

    Other URLs add nothing: whoever has one could otherwise put metadata on a task of somebody
    else's, and have its events sent to a subscription that filters by it.
    """
    if receipt is None or (task.token_id is not None and task.token_id != receipt.token_id):
        return task
    changes: dict[str, Any] = {} if task.token_id else {"token_id": receipt.token_id}
    if not receipt.metadata.keys() <= task.metadata.keys():
        merged = {**clean_json(receipt.metadata), **task.metadata}
        if metadata_size(merged) <= METADATA_BYTES:
            changes["metadata"] = merged
        elif changes:  # once: the push itself must not be lost
            logger.warning(
                "the metadata of callback URL %s does not fit into task %s: over %d bytes together",
                receipt.token_id,
                task.id,
                METADATA_BYTES,
            )
    return changed(task, changes) if changes else task


def metadata_size(metadata: Mapping[str, Any]) -> int:
    """The bytes that METADATA_BYTES limits.

    >>> metadata_size({"customer": "42"})
    17
    """
    return len(json.dumps(metadata, separators=(",", ":")))


def _cleaned(start: Registration) -> dict[str, Any]:
    """Callers' texts may hold what the event's body or PostgreSQL cannot, as providers' may."""
    return {
        "model": clean(start.model, 200) if start.model else None,
        "metadata": clean_json(start.metadata),
    }


def _must_wait(task: Task, report: Report) -> bool:
    """Nobody vouches for it: an ending of a known task, or anything about an unknown one."""
    if not report.hold:
        return False
    if task.version == 0:
        return True
    return report.update.status.final and judge(task, report.update.status) is Verdict.RECORDED


def _hold(
    tx: Tx, book: _TaskBook, task: Task, report: Report, update: TaskUpdate, *, created: bool
) -> Recorded:
    """Keep an unsigned ending aside and make the task due: the provider will be asked."""
    hint = update if update.status.final else task.hint
    held = replace(
        task,
        hint=hint,
        hint_at=task.hint_at or (tx.now if hint else None),
        expect_push=True,
        next_poll_at=min(filter(None, (task.next_poll_at, tx.now))),
        poll_fence=task.poll_fence + 1,  # an answer already on its way may be older than this push
        poll_claims=0,  # news: also a parked task is asked about again
        updated_at=tx.now,
    )
    if task.hint is None or created:
        book.put(held)
        tx.wake(POLLS)
        return Recorded(Verdict.HELD, held, created)
    if task != book.get((task.provider, task.provider_task_id)):
        book.put(task)
    return Recorded(Verdict.HELD, task)  # asked about already


def _move(
    tx: Tx,
    book: _TaskBook,
    written: _Written,
    task: Task,
    report: Report,
    update: TaskUpdate,
    *,
    created: bool,
) -> Recorded:
    verdict = judge(task, update.status)
    change = advance(task, update, source=report.source, confirmed=report.trusted, now=tx.now)
    if verdict is Verdict.CONTRADICTION and not (report.receipt and report.receipt.only_news):
        logger.warning(
            "task %s ended as %s, now %s says %s: kept as a receipt",
            task.id,
            task.status,
            report.source,
            update.status,
        )
    moved = change.task if change else task
    credit = _credit(moved, task) if change and report.source is Source.POLL else {}
    moved = _with(moved, credit | _plan(moved, report, tx.now) | _trouble(moved, report, change))
    if created or moved != book.get((task.provider, task.provider_task_id)):
        book.put(moved)
    if moved.next_poll_at is not None and moved.next_poll_at - tx.now < _SOON:
        tx.wake(POLLS)
    if change and moved.status is Status.SUCCEEDED and not created:
        written.ending(task, report)
    event_id = written.event(change, moved) if change and change.event_type else None
    return Recorded(verdict, moved, created, event_id)


def _ending(task: Task, report: Report, now: datetime) -> Ending | None:
    """Between which ages it ended; None when that is not known, or nobody vouches for it."""
    if not report.trusted or task.version == 0:
        return None
    pushed_at = now if report.source is Source.PUSH else task.hint_at
    by = ((pushed_at or now) - task.created_at).total_seconds()
    if pushed_at:
        return Ending(model_of(task), by, by)
    if report.unseen is None:
        return None
    return Ending(model_of(task), max(by - report.unseen.total_seconds(), 0.0), by)


def _with(task: Task, changes: Mapping[str, Any]) -> Task:
    """The task with these fields; itself when it has them already (a copy is not cheap)."""
    if all(getattr(task, name) == value for name, value in changes.items()):
        return task
    return changed(task, changes)


def _trouble(moved: Task, report: Report, change: Change | None) -> dict[str, Any]:
    """What a report changes about the task's trouble: an answer, or a push with news, ends it."""
    if moved.status.final:
        return {"trouble": None}
    if report.polled or (change and (report.trouble or report.source is Source.PUSH)):
        return {"trouble": clean_trouble(report.trouble)}
    return {}


def _credit(moved: Task, before: Task) -> dict[str, Any]:
    """A poll found it: was that a push confirmed, or a push that never came?"""
    if not moved.status.final:
        return {}
    if before.hint is not None:
        return {"source": Source.PUSH}
    return {"rescued_by_poll": before.expect_push}


def _plan(task: Task, report: Report, now: datetime) -> dict[str, Any]:
    """What a report changes about asking: the claim behind it released, the next question set."""
    plan: dict[str, Any] = {}
    if report.source is Source.PUSH and not task.status.final:
        plan["expect_push"] = True
    mine = report.polled is not None and report.polled.fence == task.poll_fence
    if mine:
        plan |= {
            "polls": task.polls + 1,
            "poll_failures": 0,
            "poll_refusals": 0,
            "poll_claims": 0,
            # a new fence: whoever else still holds the old claim releases nothing
            "poll_fence": task.poll_fence + 1,
            "hint_at": now if task.hint else None,  # the provider is within reach
        }
    plan["next_poll_at"] = _next_question(task, report, mine, now)
    return plan


def _next_question(task: Task, report: Report, mine: bool, now: datetime) -> datetime | None:
    if task.status.final:
        return None
    if report.ask_in is None or (report.polled and not mine):
        return task.next_poll_at
    if task.hint is not None and not report.polled:
        return task.next_poll_at  # due already
    at = now + report.ask_in
    if task.status is not Status.TIMED_OUT and now < task.deadline_at:
        return min(at, task.deadline_at)  # one question right at the deadline
    return at


def _new_task(report: Report, now: datetime) -> Task | None:
    start = report.registration
    if start is None:
        return None
    return Task(
        id=new_id("task", now),
        provider=report.provider,
        provider_task_id=report.provider_task_id,
        created_at=now,
        updated_at=now,
        deadline_at=now + start.timeout,
        kind=start.kind,
        family=start.family,
        **_cleaned(start),
        expect_push=start.expect_push,
        source=report.source,
    )


def _adopted(task: Task, start: Registration) -> Task:
    """A known task takes what its registration adds. Raises TooLargeError."""
    told = _cleaned(start)
    metadata = {**task.metadata, **told["metadata"]}
    if metadata != task.metadata and metadata_size(metadata) > METADATA_BYTES:
        raise TooLargeError(
            f"task {task.id} has metadata already: both together have {metadata_size(metadata)}"
            f" bytes of JSON, at most {METADATA_BYTES} fit"
        )
    return replace(
        task,
        deadline_at=task.created_at + start.timeout if task.version == 0 else task.deadline_at,
        kind=task.kind or start.kind,
        model=task.model or told["model"],
        family=task.family or start.family,
        metadata=metadata,
    )


def receipt_row(
    provider: str,
    receipt: Receipt,
    verdict: str,
    now: datetime,
    *,
    provider_task_id: str | None = None,
    task_id: str | None = None,
) -> dict[str, Any]:
    return {
        "id": new_id("rcp", now),
        "provider": provider,
        "token_id": receipt.token_id,
        "provider_task_id": provider_task_id,
        "task_id": task_id,
        "received_at": now,
        "verdict": verdict,
        "raw": receipt.raw,
    }


@dataclass(frozen=True, slots=True)
class Unread:
    """A push that came with a good token and could not be read."""

    provider: str
    receipt: Receipt


def _keep_unread(tx: Tx, items: Sequence[Unread]) -> list[None]:
    """Keep them, and ask the provider at once about the open tasks their tokens pushed before."""
    rows = [receipt_row(item.provider, item.receipt, Verdict.UNREADABLE, tx.now) for item in items]
    tx.write(_INSERT_RECEIPTS, rows)
    _ask_about(tx, tasks.c.token_id.in_({item.receipt.token_id for item in items}))
    return [None] * len(items)


def _ask_about(tx: Tx, which: ColumnElement[bool]) -> None:
    due = tasks.update().where(which, tasks.c.next_poll_at > tx.now).values(next_poll_at=tx.now)
    tx.connection.execute(due)
    tx.wake(POLLS)


keep_unread: Operation[Unread, None] = Operation("keep_unread", _keep_unread)


@dataclass(frozen=True, slots=True)
class TooLarge:
    """A push that came with a good token and is too large. receipt: with its beginning.

    provider_task_id: the task it names, as far as that can be read. registration: None means an
    unknown task is not created.
    """

    provider: str
    receipt: Receipt
    provider_task_id: str | None
    registration: Registration | None


def _keep_too_large(tx: Tx, items: Sequence[TooLarge]) -> list[bool]:
    """Keep their beginnings, and ask the provider at once; True for each that made a task known."""
    return [_keep_one_too_large(tx, item) for item in items]


def _keep_one_too_large(tx: Tx, item: TooLarge) -> bool:
    task_id = item.provider_task_id
    known = _known(tx, item.provider, task_id)
    if task_id is not None and known is None and item.registration is not None:
        [made] = record.run(tx, [_unread_report(item, task_id)])
        if isinstance(made, Recorded) and made.task is not None:
            mine = receipts.c.task_id == made.task.id
            tx.connection.execute(receipts.update().where(mine).values(verdict=Verdict.TOO_LARGE))
            return made.created
        return False  # the token is for another task, which its receipt says
    row = receipt_row(
        item.provider,
        item.receipt,
        Verdict.TOO_LARGE,
        tx.now,
        provider_task_id=task_id,
        task_id=known,
    )
    tx.write(_INSERT_RECEIPTS, [row])
    about_it = tasks.c.token_id == item.receipt.token_id
    _ask_about(tx, about_it if known is None else about_it | (tasks.c.id == known))
    return False


def _known(tx: Tx, provider: str, provider_task_id: str | None) -> str | None:
    """The id of a task by its provider's id."""
    if provider_task_id is None:
        return None
    found = select(tasks.c.id).where(
        tasks.c.provider == provider, tasks.c.provider_task_id == provider_task_id
    )
    known: str | None = tx.connection.execute(found).scalar()
    return known


def _unread_report(item: TooLarge, provider_task_id: str) -> Report:
    """What makes a task known of which nothing was read but its id: the provider is to be asked."""
    return Report(
        provider=item.provider,
        provider_task_id=provider_task_id,
        update=TaskUpdate(Status.PROCESSING, ""),
        source=Source.PUSH,
        trusted=False,
        hold=True,
        registration=item.registration,
        receipt=item.receipt,
    )


keep_too_large: Operation[TooLarge, bool] = Operation("keep_too_large", _keep_too_large)


@dataclass(frozen=True, slots=True)
class Challenge:
    """A provider tried a callback URL out. What it sent is not kept."""

    provider: str
    token_id: str


def _keep_challenge(tx: Tx, items: Sequence[Challenge]) -> list[None]:
    rows = [
        receipt_row(item.provider, Receipt(item.token_id, b""), Verdict.CHALLENGE, tx.now)
        for item in items
    ]
    tx.write(_INSERT_RECEIPTS, rows)
    return [None] * len(items)


keep_challenge: Operation[Challenge, None] = Operation("keep_challenge", _keep_challenge)
