"""The states of providers as rows: what the pollers found, the same for every process.

The current state of a provider is its row without an end; the others are its history. Pollers
write a row when a state changes, and every some seconds when they last asked.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, select, text

from store.events import Failure, rfc3339
from store.ids import new_id
from store.matching import interested
from store.outbox import delivery_row, event_row, insert_events
from store.tables import UNENDED, provider_states, tasks, word
from store.text import clean
from store.writer import Operation, Tx

logger = logging.getLogger("taskbell.store")


class State(StrEnum):
    """How a provider is doing, as far as its answers tell."""

    OK = "ok"
    DEGRADED = "degraded"
    DOWN = "down"
    NO_KEY = "no_key"
    IDLE = "idle"  # nothing was asked lately


UNATTENDED = timedelta(minutes=3)
"""Without a note from any poller for so long, no running process polls the provider."""

QUIET = timedelta(minutes=15)
"""Longer than any wait between polls of a provider in trouble: without one, nothing is asked."""

NO_KEY = "no_key"
NOT_POLLED = "not_polled"
_REASON = 500
_TASKS_TOLD = 5_000


@dataclass(frozen=True, slots=True)
class ProviderState:
    """A row. until: None for the current one.

    polled_at: when a process that has the key and polls last said so. asked_at: the last poll;
    answered_at: the last good answer. All three are kept to some seconds.
    """

    provider: str
    state: State
    since: datetime
    reason: Failure | None = None
    until: datetime | None = None
    polled_at: datetime | None = None
    asked_at: datetime | None = None
    answered_at: datetime | None = None

    def attended(self, now: datetime) -> bool:
        """Return whether a running process has the key and polls."""
        if self.state is State.NO_KEY or self.polled_at is None:
            return False
        return now - self.polled_at <= UNATTENDED

    def at(self, now: datetime) -> ProviderState:
        """The state as it is to be shown now: one that nobody looks after is idle.

        >>> then = datetime(2026, 12, 1)
        >>> down = ProviderState("x", State.DOWN, then, polled_at=then, asked_at=then)
        >>> down.at(then).state, down.at(then + UNATTENDED + QUIET).state
        (<State.DOWN: 'down'>, <State.IDLE: 'idle'>)
        """
        if self.until is not None or self.state is State.NO_KEY:
            return self
        if not self.attended(now):
            since = self.polled_at or self.since
            return replace(self, state=State.IDLE, reason=_NOT_POLLED, since=since)
        if self.asked_at is None or now - self.asked_at > QUIET:
            since = self.asked_at or self.since
            return replace(self, state=State.IDLE, reason=None, since=since)
        return self


_NOT_POLLED = Failure(
    NOT_POLLED,
    "no running process polls this provider: one needs the role poll (TASKBELL_ROLES) and the key",
)


def never_polled(provider: str, now: datetime) -> ProviderState:
    """The state of a provider that no poller has noted anything about."""
    return ProviderState(provider, State.IDLE, now, _NOT_POLLED)


@dataclass(frozen=True, slots=True)
class Note:
    """What a poller knows of a provider.

    to: its new state, unless it is in one of `keep`; None: it stays as it is. lone_task: the only
    task that failed, which makes no provider `down` while it has another open one. has_key: False
    when this process has no key for it; one that has goes first. asked_ago, answered_ago: the time
    since the last poll, and since the last good answer; None: not known here.
    """

    provider: str
    title: str
    to: State | None = None
    keep: frozenset[State] = frozenset()
    reason: Failure | None = None
    lone_task: str | None = None
    has_key: bool = True
    asked_ago: timedelta | None = None
    answered_ago: timedelta | None = None


def _note(tx: Tx, notes: Sequence[Note]) -> list[ProviderState]:
    """Take notes; the current state after each."""
    names = sorted({note.provider for note in notes})
    query = select(provider_states).where(
        provider_states.c.provider.in_(names), provider_states.c.until.is_(None)
    )
    found = tx.connection.execute(
        tx.database.locked(query.order_by(provider_states.c.provider))
    ).all()
    current = {row.provider: (row.id, _state(row)) for row in found}
    answers = []
    for note in notes:
        row_id, before = current.get(note.provider, (None, None))
        row_id, after = _noted(tx, note, row_id, before)
        current[note.provider] = (row_id, after)
        answers.append(after)
    return answers


note_states: Operation[Note, ProviderState] = Operation("note_states", _note, order=2)


def _noted(
    tx: Tx, note: Note, row_id: str | None, before: ProviderState | None
) -> tuple[str, ProviderState]:
    seen = _seen(tx, note, before)
    if row_id is None or before is None or _changes(tx, note, before):
        return _begin(tx, note, row_id, before, seen)
    if note.to is before.state and note.reason != before.reason:
        seen = replace(seen, reason=_cut(note.reason))
    if seen != before:
        row = provider_states.update().where(provider_states.c.id == row_id)
        tx.connection.execute(row.values(_values(seen)))
    return row_id, seen


def _changes(tx: Tx, note: Note, before: ProviderState) -> bool:
    if note.to is None or note.to is before.state or before.state in note.keep:
        return False
    if not note.has_key and _polled_elsewhere(tx, before):
        return False
    return note.lone_task is None or not _others_open(tx, note.provider, note.lone_task)


def _polled_elsewhere(tx: Tx, before: ProviderState) -> bool:
    """Return whether another process has the key. A SQLite file has no other process."""
    return tx.database.postgresql and before.attended(tx.now)


def _others_open(tx: Tx, provider: str, task_id: str) -> bool:
    query = select(tasks.c.id).where(*_polled_tasks(provider), tasks.c.id != task_id).limit(1)
    return tx.connection.execute(query).first() is not None


def _polled_tasks(provider: str) -> list[Any]:
    return [
        tasks.c.provider == provider,
        tasks.c.next_poll_at.is_not(None),
        tasks.c.version > word(0),
        text(UNENDED),
    ]


def _seen(tx: Tx, note: Note, before: ProviderState | None) -> ProviderState:
    """Return the state with the times of this note, unless later ones are known."""
    known = before or ProviderState(note.provider, State.IDLE, tx.now)
    return replace(
        known,
        polled_at=tx.now if note.has_key else known.polled_at,
        asked_at=_later(tx, note.asked_ago, known.asked_at),
        answered_at=_later(tx, note.answered_ago, known.answered_at),
    )


def _later(tx: Tx, ago: timedelta | None, known: datetime | None) -> datetime | None:
    told = tx.now - ago if ago is not None else None
    return max(filter(None, (told, known)), default=None)


def _begin(
    tx: Tx, note: Note, row_id: str | None, before: ProviderState | None, seen: ProviderState
) -> tuple[str, ProviderState]:
    """End the current state and begin the next, with what follows from it."""
    to = note.to or State.IDLE
    after = replace(seen, state=to, since=tx.now, reason=_cut(note.reason))
    if row_id is not None:
        past = provider_states.update().where(provider_states.c.id == row_id)
        tx.connection.execute(past.values(until=tx.now))
    new = new_id("pst", tx.now)
    tx.connection.execute(provider_states.insert().values(id=new, **_values(after)))
    _tell(tx, note, before, after)
    _mark_tasks(tx, before, after)
    logger.log(
        logging.WARNING if to is State.DOWN else logging.INFO,
        "provider is %s",
        to,
        extra={"provider": note.provider, "code": note.reason.code if note.reason else None},
    )
    return new, after


def _values(state: ProviderState) -> dict[str, Any]:
    reason = state.reason
    return {
        "provider": state.provider,
        "state": state.state,
        "reason": {"code": reason.code, "message": reason.message} if reason else None,
        "since": state.since,
        "polled_at": state.polled_at,
        "asked_at": state.asked_at,
        "answered_at": state.answered_at,
    }


def _cut(reason: Failure | None) -> Failure | None:
    return Failure(clean(reason.code, 64), clean(reason.message, _REASON)) if reason else None


def _tell(tx: Tx, note: Note, before: ProviderState | None, after: ProviderState) -> None:
    """Record the event provider.down or provider.recovered, where this is one."""
    if after.state is State.DOWN:
        _record(tx, "provider.down", note, before, after)
    elif after.state is State.OK:
        down = _last_down(tx, after.provider)
        if down is not None:
            _record(tx, "provider.recovered", note, down, after)


def _last_down(tx: Tx, provider: str) -> ProviderState | None:
    """Return the state `down` that no good answer has followed yet, whatever came between."""
    query = (
        select(provider_states)
        .where(
            provider_states.c.provider == provider,
            provider_states.c.until.is_not(None),
            provider_states.c.state.in_((State.DOWN, State.OK)),
        )
        .order_by(provider_states.c.id.desc())
        .limit(1)
    )
    row = tx.connection.execute(query).first()
    return _state(row) if row and row.state == State.DOWN else None


def _record(
    tx: Tx, event_type: str, note: Note, before: ProviderState | None, after: ProviderState
) -> None:
    data = {
        "provider": {"name": note.provider, "title": note.title, **_told(after)},
        "previous": _told(before) if before else None,
    }
    event = event_row(event_type, data, tx.now, subject=note.provider, provider=note.provider)
    wanting = interested(tx.subscriptions, event_type, note.provider, {}, event["body"])
    insert_events(tx, [event], [delivery_row(event, each.id, tx.now) for each in wanting])


def _told(state: ProviderState) -> dict[str, Any]:
    reason = state.reason
    return {
        "state": state.state,
        "reason": {"code": reason.code, "message": reason.message} if reason else None,
        "since": rfc3339(state.since),
    }


def _mark_tasks(tx: Tx, before: ProviderState | None, after: ProviderState) -> None:
    """Say on the open tasks that nobody can ask about them, and that somebody can again."""
    which = _polled_tasks(after.provider)
    code, message = None, None
    if after.state is State.NO_KEY and after.reason:
        code, message = NO_KEY, after.reason.message
    elif before is not None and before.state is State.NO_KEY:
        which.append(tasks.c.poll_error_code == NO_KEY)
    else:
        return
    some = select(tasks.c.id).where(*which).limit(_TASKS_TOLD).scalar_subquery()
    changed = tasks.update().where(tasks.c.id.in_(some))
    tx.connection.execute(
        changed.values(poll_error=message, poll_error_code=code, updated_at=tx.now)
    )


def _state(row: Row[Any]) -> ProviderState:
    return ProviderState(
        provider=row.provider,
        state=State(row.state),
        since=row.since,
        reason=Failure(**row.reason) if row.reason else None,
        until=row.until,
        polled_at=row.polled_at,
        asked_at=row.asked_at,
        answered_at=row.answered_at,
    )


def read_states(connection: Connection) -> dict[str, ProviderState]:
    """Return the current state of each provider that a poller has noted something about."""
    current = select(provider_states).where(provider_states.c.until.is_(None))
    return {row.provider: _state(row) for row in connection.execute(current)}


def read_history(connection: Connection, provider: str, limit: int) -> list[ProviderState]:
    """Return the states of a provider, the current one first."""
    query = (
        select(provider_states)
        .where(provider_states.c.provider == provider)
        .order_by(provider_states.c.id.desc())
        .limit(limit)
    )
    return [_state(row) for row in connection.execute(query)]


def forget_states(tx: Tx, keep: timedelta, limit: int) -> int:
    """Delete up to so many states that ended longer ago than `keep`; return how many went."""
    some = (
        select(provider_states.c.id)
        .where(provider_states.c.until.is_not(None), provider_states.c.until < tx.now - keep)
        .order_by(provider_states.c.until)
        .limit(limit)
    )
    ids = list(tx.connection.execute(some).scalars())
    if ids:
        tx.connection.execute(provider_states.delete().where(provider_states.c.id.in_(ids)))
    return len(ids)
