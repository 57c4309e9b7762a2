"""The subscriptions a process keeps in memory, refreshed when their counter has moved."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, select

from store.conditions import BadFilterError, Condition, TooMuchToReadError, parse
from store.damaged import what_can_be_read
from store.database import unreadable
from store.events import Interest, wants
from store.tables import subscriptions

logger = logging.getLogger("taskbell.store")

COUNTER = "subscriptions"
SUBSCRIPTIONS_VERSION = "SELECT value FROM counters WHERE name = 'subscriptions'"
DEFAULT_MAX_IN_FLIGHT = 32


@dataclass(frozen=True, slots=True)
class Subscription:
    """A URL that wants events. secrets and headers are locked (store/vault.py).

    url is as it is shown; url_locked, where there is one, is the whole of it. skipped_through: the
    last of the deliveries that are being canceled since it was resumed without them.
    """

    id: str
    url: str
    format: str
    interest: Interest
    description: str | None
    header_names: tuple[str, ...]
    headers_locked: str | None
    secret_locked: str
    old_secret_locked: str | None
    old_secret_until: datetime | None
    max_in_flight: int | None
    rate_per_second: float | None
    active: bool
    disabled_reason: str | None
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    url_locked: str | None = None
    service_secret_locked: str | None = None
    language: str = "en"
    filter: Mapping[str, Any] | None = None
    condition: Condition | None = field(default=None, compare=False, repr=False)
    shape: str | None = None
    method: str | None = None
    skipped_through: str | None = None

    @property
    def paused(self) -> bool:
        """Whether a person switched it off, so that what it wants is kept for it."""
        return not self.active and self.disabled_reason is None

    @property
    def places(self) -> int:
        """How many of its deliveries may be in flight; one, from a failure until it takes one.

        So those that hang do not fill a dispatcher, however many they are: each hangs on to one.
        """
        if self.failing_since is not None:
            return 1
        return self.max_in_flight or DEFAULT_MAX_IN_FLIGHT


def subscription_from_row(row: Row[Any]) -> Subscription:
    values = row._mapping
    return Subscription(
        id=values["id"],
        url=values["url"],
        format=values["format"],
        interest=Interest(
            types=_tuple(values["types"]),
            providers=_tuple(values["providers"]),
            metadata=values["metadata"],
        ),
        filter=values["filter"],
        shape=values["shape"],
        method=values["method"],
        condition=_condition(values["filter"]),
        description=values["description"],
        header_names=tuple(values["header_names"]),
        headers_locked=values["headers_locked"],
        secret_locked=values["secret_locked"],
        old_secret_locked=values["old_secret_locked"],
        old_secret_until=values["old_secret_until"],
        max_in_flight=values["max_in_flight"],
        rate_per_second=values["rate_per_second"],
        active=values["active"],
        disabled_reason=values["disabled_reason"],
        failing_since=values["failing_since"],
        created_at=values["created_at"],
        updated_at=values["updated_at"],
        deleted_at=values["deleted_at"],
        url_locked=values["url_locked"],
        service_secret_locked=values["service_secret_locked"],
        language=values["language"],
        skipped_through=values["skipped_through"],
    )


def _condition(wish: object) -> Condition | None:
    """A filter that cannot be read (a newer version's, a damaged row) wants nothing."""
    if wish is None:
        return None
    try:
        return parse(wish)
    except BadFilterError:
        return lambda _event: False


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _all(connection: Connection) -> list[Subscription]:
    """Those that are not deleted and can be read: one bad row must not stop the others' events."""
    there = subscriptions.c.deleted_at.is_(None)
    try:
        rows = connection.execute(select(subscriptions).where(there)).all()
        return [subscription_from_row(row) for row in rows]
    except Exception as error:  # what cannot be read fails in many ways; the rest goes on up
        if not unreadable(error):
            raise
    ids = connection.execute(select(subscriptions.c.id).where(there)).scalars().all()
    return what_can_be_read(ids, partial(_one, connection), _report)


def _one(connection: Connection, subscription_id: str) -> Subscription:
    query = select(subscriptions).where(subscriptions.c.id == subscription_id)
    return subscription_from_row(connection.execute(query).one())


def _report(subscription_id: str, why: str) -> None:
    logger.error("subscription %s gets nothing, its row cannot be read: %s", subscription_id, why)


class SubscriptionBook:
    """All subscriptions that are not deleted, by id. Used by the writer's thread only."""

    def __init__(self) -> None:
        self._version: int | None = None
        self._all: dict[str, Subscription] = {}

    def current(self, connection: Connection, version: int | None) -> Mapping[str, Subscription]:
        """As the transaction sees them; read again only when the version is another."""
        if version is None or version != self._version:
            self._all = {one.id: one for one in _all(connection)}
            self._version = version
        return self._all

    def forget(self) -> None:
        """Read again next time: a transaction changed subscriptions and may yet be rolled back."""
        self._version = None


def interested(
    known: Mapping[str, Subscription],
    event_type: str,
    provider: str | None,
    metadata: Mapping[str, Any],
    body: bytes,
) -> list[Subscription]:
    """The subscriptions that want an event: active, or paused, which get it when they are resumed.

    body: read once, and only for a filter.
    """
    wanting = [
        subscription
        for subscription in known.values()
        if (subscription.active or subscription.paused)
        and wants(subscription.interest, event_type, provider, metadata)
    ]
    if all(subscription.condition is None for subscription in wanting):
        return wanting
    event = json.loads(body)
    return [s for s in wanting if s.condition is None or _fits(s, s.condition, event)]


def _fits(subscription: Subscription, condition: Condition, event: Mapping[str, Any]) -> bool:
    """Whether its filter holds. An event that is too large to be read for it is not sent to it."""
    try:
        return condition(event)
    except TooMuchToReadError as error:
        logger.warning("subscription %s: %s %s", subscription.id, error, event.get("id"))
        return False
