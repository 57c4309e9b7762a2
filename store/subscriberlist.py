"""The list of subscriptions as people look through it, each with how its last day went."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, or_, select

from store.matching import Subscription, subscription_from_row
from store.owed import Owed, read_owed
from store.pulse import Pulse, read_pulses
from store.subscriptions import get_subscription
from store.tables import subscriptions


class State(StrEnum):
    """How a subscription stands, in a word."""

    ACTIVE = "active"
    FAILING = "failing"  # active, and its last attempt failed
    PAUSED = "paused"  # by a person
    DISABLED = "disabled"  # by Taskbell, for a reason


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which subscriptions; None: no condition. text: part of the URL as shown, or of the description."""

    state: State | None = None
    format: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A subscription, how its last day went, and what waits for it."""

    subscription: Subscription
    pulse: Pulse
    owed: Owed

    @property
    def state(self) -> State:
        known = self.subscription
        if known.disabled_reason is not None:
            return State.DISABLED
        if not known.active:
            return State.PAUSED
        return State.FAILING if known.failing_since is not None else State.ACTIVE


@dataclass(frozen=True, slots=True)
class SubscriberList:
    """A page of them, newest first. older: the id to go on from, None at the end."""

    subscribers: list[Subscriber]
    older: str | None = None


def list_subscribers(
    connection: Connection,
    wanted: Wanted,
    now: datetime,
    *,
    limit: int,
    before: str | None = None,
) -> SubscriberList:
    """The subscriptions older than `before`, or the newest ones."""
    query = (
        select(subscriptions)
        .where(subscriptions.c.deleted_at.is_(None), *_conditions(wanted))
        .order_by(subscriptions.c.id.desc())
        .limit(limit + 1)
    )
    if before:
        query = query.where(subscriptions.c.id < before)
    found = [subscription_from_row(row) for row in connection.execute(query)]
    page = found[:limit]
    older = page[-1].id if len(found) > limit else None
    return SubscriberList(_subscribers(connection, page, now), older)


def get_subscriber(
    connection: Connection, subscription_id: str, now: datetime
) -> Subscriber | None:
    known = get_subscription(connection, subscription_id)
    return _subscribers(connection, [known], now)[0] if known else None


def _subscribers(
    connection: Connection, known: list[Subscription], now: datetime
) -> list[Subscriber]:
    ids = [each.id for each in known]
    pulses, owed = read_pulses(connection, ids, now), read_owed(connection, ids)
    return [Subscriber(each, pulses[each.id], owed[each.id]) for each in known]


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions = [] if wanted.state is None else _STATES[wanted.state]
    if wanted.format is not None:
        conditions = [*conditions, subscriptions.c.format == wanted.format]
    if wanted.text is not None:
        shown = (subscriptions.c.url, subscriptions.c.description)
        parts = (column.icontains(wanted.text, autoescape=True) for column in shown)
        conditions = [*conditions, or_(*parts)]
    return conditions


_ENABLED = subscriptions.c.disabled_reason.is_(None)
_STATES: dict[State, list[ColumnElement[bool]]] = {
    State.ACTIVE: [_ENABLED, subscriptions.c.active, subscriptions.c.failing_since.is_(None)],
    State.FAILING: [_ENABLED, subscriptions.c.active, subscriptions.c.failing_since.is_not(None)],
    State.PAUSED: [_ENABLED, ~subscriptions.c.active],
    State.DISABLED: [subscriptions.c.disabled_reason.is_not(None)],
}
