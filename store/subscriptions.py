"""Subscriptions: made, changed, disabled, deleted. Every change raises their counter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from store.backlog import STEP, keep, newest_waiting, skip
from store.errors import ChangedMeanwhileError, ConflictError, NotFoundError, StoreError
from store.ids import new_id
from store.matching import Subscription, interested, subscription_from_row
from store.outbox import DELIVERIES, delivery_row, event_row, insert_events
from store.tables import subscriptions
from store.vault import Vault, VaultError
from store.writer import Operation, Tx


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """What a subscription starts with. Secrets come locked (store/vault.py).

    url: as it may be shown; url_locked: the whole of it, where it is a secret.
    """

    url: str
    format: str
    secret_locked: str
    types: tuple[str, ...] | None = None
    providers: tuple[str, ...] | None = None
    metadata: Mapping[str, Any] | None = None
    filter: Mapping[str, Any] | None = None
    shape: str | None = None
    method: str | None = None
    description: str | None = None
    headers_locked: str | None = None
    header_names: tuple[str, ...] = ()
    max_in_flight: int | None = None
    rate_per_second: float | None = None
    active: bool = True
    url_locked: str | None = None
    service_secret_locked: str | None = None
    language: str = "en"
    twin: Twin | None = None


Twin = Callable[[Subscription], bool]
"""Tell whether a subscription has the same URL and wants: there must not be such a one."""


def _create(tx: Tx, items: Sequence[NewSubscription]) -> list[Subscription | StoreError]:
    answers: list[Subscription | StoreError] = []
    for item in items:
        twin = _first_twin(tx, item.twin)
        if twin is not None:
            answers.append(_duplicate(twin))
            continue
        subscription_id = new_id("sub", tx.now)
        tx.connection.execute(subscriptions.insert(), _row(item, subscription_id, tx.now))
        tx.subscriptions_changed()
        answers.append(tx.subscriptions[subscription_id])
    return answers


def _first_twin(tx: Tx, twin: Twin | None, other_than: str | None = None) -> Subscription | None:
    """Return the oldest subscription that is a twin, also one that another process just made."""
    if twin is None:
        return None
    tx.subscriptions_changed()  # holds the counter's row: whoever makes another one waits
    known = sorted(tx.subscriptions.values(), key=lambda each: each.id)
    return next((each for each in known if each.id != other_than and twin(each)), None)


def _duplicate(twin: Subscription) -> ConflictError:
    return ConflictError(
        f"{twin.id} sends the same events to this URL already: change or resume that one, or give"
        " allow_duplicate to have another"
    )


create: Operation[NewSubscription, Subscription] = Operation("create_subscription", _create)


def _row(item: NewSubscription, subscription_id: str, now: datetime) -> dict[str, Any]:
    return {
        "id": subscription_id,
        "url": item.url,
        "url_locked": item.url_locked,
        "format": item.format,
        "language": item.language,
        "service_secret_locked": item.service_secret_locked,
        "types": item.types,
        "providers": item.providers,
        "metadata": item.metadata,
        "filter": item.filter,
        "shape": item.shape,
        "method": item.method,
        "description": item.description,
        "headers_locked": item.headers_locked,
        "header_names": item.header_names,
        "secret_locked": item.secret_locked,
        "max_in_flight": item.max_in_flight,
        "rate_per_second": item.rate_per_second,
        "active": item.active,
        "created_at": now,
        "updated_at": now,
    }


@dataclass(frozen=True, slots=True)
class Edit:
    """New values, by the names of the columns.

    seen: the subscription that they were decided by. When it has gone elsewhere meanwhile, or has
    other secrets, the edit fails with ChangedMeanwhileError: secrets given for one place must not
    meet another one's URL. twin: of another subscription that it must not become the same as.
    """

    subscription_id: str
    values: Mapping[str, Any] = field(default_factory=dict)
    seen: Subscription | None = None
    twin: Twin | None = None


def _edit(tx: Tx, items: Sequence[Edit]) -> list[Subscription | StoreError]:
    answers: list[Subscription | StoreError] = []
    for item in items:
        if item.seen is not None and not _still(tx, item.seen):
            answers.append(ChangedMeanwhileError(f"{item.subscription_id} was changed meanwhile"))
            continue
        if item.subscription_id not in tx.subscriptions:
            answers.append(NotFoundError(f"no subscription {item.subscription_id}"))
            continue
        twin = _first_twin(tx, item.twin, other_than=item.subscription_id)
        if twin is not None:
            answers.append(_duplicate(twin))
            continue
        values = dict(item.values)
        if values.get("active"):
            values |= _RESUMED
        _update(tx, item.subscription_id, values)
        _pace(tx, item.subscription_id)
        answers.append(tx.subscriptions[item.subscription_id])
    return answers


_RESUMED = {"active": True, "disabled_reason": None, "failing_since": None}


def _pace(tx: Tx, subscription_id: str) -> None:
    """See to what waits for a subscription that was paused or resumed; claims do the rest."""
    if tx.subscriptions[subscription_id].paused:
        keep(tx, subscription_id)
    elif tx.outlet:
        # what comes now must not overtake what was kept
        tx.outlet.behind = {*tx.outlet.behind, subscription_id}
    tx.wake(DELIVERIES)


edit: Operation[Edit, Subscription] = Operation("edit_subscription", _edit)

_BOUND = ("url", "url_locked", "format", "headers_locked", "service_secret_locked", "shape")


def _still(tx: Tx, seen: Subscription) -> bool:
    """Return whether a subscription leads where it led, with the same secrets; hold its row."""
    columns = [subscriptions.c[name] for name in _BOUND]
    query = select(*columns).where(subscriptions.c.id == seen.id)
    row = tx.connection.execute(tx.database.locked(query)).first()
    return row is not None and all(getattr(seen, name) == row._mapping[name] for name in _BOUND)


def _pause(tx: Tx, ids: Sequence[str]) -> list[Subscription | StoreError]:
    answers: list[Subscription | StoreError] = []
    for subscription_id in ids:
        known = tx.subscriptions.get(subscription_id)
        if known is None:
            answers.append(NotFoundError(f"no subscription {subscription_id}"))
        elif known.disabled_reason is not None:
            answers.append(
                ConflictError(
                    f"the subscription is disabled ({known.disabled_reason}) and nothing is kept"
                    " for it: resume it first"
                )
            )
        else:
            if known.active:
                _update(tx, subscription_id, {"active": False})
                _pace(tx, subscription_id)
            answers.append(tx.subscriptions[subscription_id])
    return answers


pause: Operation[str, Subscription] = Operation("pause_subscription", _pause)
"""Send nothing more, and keep what it wants until it is resumed."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Send again: what was kept first and in order, or, with skip, only what comes from now on."""

    subscription_id: str
    skip: bool = False


def _resume(tx: Tx, items: Sequence[Resume]) -> list[Subscription | StoreError]:
    answers: list[Subscription | StoreError] = []
    for item in items:
        known = tx.subscriptions.get(item.subscription_id)
        if known is None:
            answers.append(NotFoundError(f"no subscription {item.subscription_id}"))
            continue
        values: dict[str, Any] = dict(_RESUMED)
        if item.skip and skip(tx, known.id) == STEP:  # there may be more: claims go on
            values["skipped_through"] = newest_waiting(tx.connection, known.id)
        _update(tx, known.id, values)
        _pace(tx, known.id)
        answers.append(tx.subscriptions[known.id])
    return answers


resume: Operation[Resume, Subscription] = Operation("resume_subscription", _resume)
"""It enables a disabled subscription as well."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new signing secret; the old one keeps signing beside it for `overlap`."""

    subscription_id: str
    secret_locked: str
    overlap: timedelta


def _rotate(tx: Tx, items: Sequence[Rotation]) -> list[Subscription | StoreError]:
    answers: list[Subscription | StoreError] = []
    for item in items:
        known = tx.subscriptions.get(item.subscription_id)
        if known is None:
            answers.append(NotFoundError(f"no subscription {item.subscription_id}"))
            continue
        values = {
            "secret_locked": item.secret_locked,
            "old_secret_locked": known.secret_locked,
            "old_secret_until": tx.now + item.overlap,
        }
        _update(tx, known.id, values)
        answers.append(tx.subscriptions[known.id])
    return answers


rotate: Operation[Rotation, Subscription] = Operation("rotate_secret", _rotate)


def _delete(tx: Tx, ids: Sequence[str]) -> list[StoreError | None]:
    answers: list[StoreError | None] = []
    for subscription_id in ids:
        if subscription_id not in tx.subscriptions:
            answers.append(NotFoundError(f"no subscription {subscription_id}"))
            continue
        _update(tx, subscription_id, {"deleted_at": tx.now, "active": False})
        answers.append(None)
    return answers


delete: Operation[str, None] = Operation("delete_subscription", _delete)
"""Its deliveries stay as history; what is still owed is canceled in steps."""


@dataclass(frozen=True, slots=True)
class HideUrl:
    """Show a URL masked, and keep the whole of it locked, while it is still that one."""

    subscription_id: str
    url: str
    masked: str
    locked: str


def _hide_url(tx: Tx, items: Sequence[HideUrl]) -> list[None]:
    for item in items:
        tx.connection.execute(
            subscriptions.update()
            .where(subscriptions.c.id == item.subscription_id, subscriptions.c.url == item.url)
            .where(subscriptions.c.url_locked.is_(None))
            .values(url=item.masked, url_locked=item.locked)
        )
    tx.subscriptions_changed()
    return [None] * len(items)


hide_url: Operation[HideUrl, None] = Operation("hide_url", _hide_url)


def open_urls(connection: Connection) -> dict[str, str]:
    """Return the URLs that are stored as they are, by subscription, deleted ones' too."""
    query = select(subscriptions.c.id, subscriptions.c.url)
    rows = connection.execute(query.where(subscriptions.c.url_locked.is_(None)))
    return {row.id: row.url for row in rows}


@dataclass(frozen=True, slots=True)
class Relock:
    """Have secrets under the vault's newest key: of up to `limit` subscriptions behind an id."""

    vault: Vault
    after: str
    limit: int


@dataclass(frozen=True, slots=True)
class Relocked:
    """How many secrets were moved, and how many lay under the newest key already.

    lost: what no key opens. last: the id to go on after, None at the end.
    """

    moved: int
    already: int
    lost: tuple[str, ...]
    last: str | None


def _relock(tx: Tx, items: Sequence[Relock]) -> list[Relocked]:
    return [_relock_some(tx, item) for item in items]


relock: Operation[Relock, Relocked] = Operation("relock_secrets", _relock)
"""Deleted ones too: what they hold would otherwise need the old key for ever."""

_LOCKED = {
    "secret_locked": "secret",
    "old_secret_locked": "old secret",
    "headers_locked": "headers",
    "url_locked": "URL",
    "service_secret_locked": "service secret",
}


def lost_secrets(connection: Connection, vault: Vault) -> tuple[int, tuple[str, ...]]:
    """How many secrets are stored, deleted subscriptions' too, and which ones no key opens."""
    columns = [subscriptions.c[name] for name in _LOCKED]
    found, lost = 0, []
    for row in connection.execute(select(subscriptions.c.id, *columns)).mappings():
        for name in [name for name in _LOCKED if row[name] is not None]:
            found += 1
            try:
                vault.open(row[name])
            except VaultError:
                lost.append(f"{row['id']} ({_LOCKED[name]})")
    return found, tuple(lost)


def _relock_some(tx: Tx, item: Relock) -> Relocked:
    query = (
        select(subscriptions.c.id, *(subscriptions.c[name] for name in _LOCKED))
        .where(subscriptions.c.id > item.after)
        .order_by(subscriptions.c.id)
        .limit(item.limit)
    )
    rows = tx.connection.execute(tx.database.locked(query)).mappings().all()
    moved, already, lost = 0, 0, []
    for row in rows:
        values = {}
        for name in [name for name in _LOCKED if row[name] is not None]:
            try:
                values[name] = item.vault.relock(row[name])
            except VaultError:
                lost.append(f"{row['id']} ({_LOCKED[name]})")
        changed = {name: value for name, value in values.items() if value != row[name]}
        if changed:
            chosen = subscriptions.c.id == row["id"]
            tx.connection.execute(subscriptions.update().where(chosen).values(changed))
        moved += len(changed)
        already += len(values) - len(changed)
    if moved:
        tx.subscriptions_changed()
    last = rows[-1]["id"] if len(rows) == item.limit else None
    return Relocked(moved, already, tuple(lost), last)


def disable(tx: Tx, subscription: Subscription, reason: str) -> None:
    """Switch a subscription off and say so in an event subscription.disabled."""
    _update(tx, subscription.id, {"active": False, "disabled_reason": reason[:500]})
    data = {"subscription": {"id": subscription.id, "reason": reason[:500]}}
    event = event_row("subscription.disabled", data, tx.now, subject=subscription.id)
    rows = [
        delivery_row(event, other.id, tx.now)
        for other in interested(tx.subscriptions, "subscription.disabled", None, {}, event["body"])
    ]
    insert_events(tx, [event], rows)


def _update(tx: Tx, subscription_id: str, values: Mapping[str, Any]) -> None:
    tx.connection.execute(
        subscriptions.update()
        .where(subscriptions.c.id == subscription_id)
        .values({**values, "updated_at": tx.now})
    )
    tx.subscriptions_changed()


def get_subscription(connection: Connection, subscription_id: str) -> Subscription | None:
    row = connection.execute(
        select(subscriptions).where(
            subscriptions.c.id == subscription_id, subscriptions.c.deleted_at.is_(None)
        )
    ).first()
    return subscription_from_row(row) if row else None


def list_subscriptions(
    connection: Connection, *, limit: int, before: str | None = None
) -> list[Subscription]:
    """Newest first; `before` is the id of the last one already seen."""
    query = (
        select(subscriptions)
        .where(subscriptions.c.deleted_at.is_(None))
        .order_by(subscriptions.c.id.desc())
        .limit(limit)
    )
    if before:
        query = query.where(subscriptions.c.id < before)
    return [subscription_from_row(row) for row in connection.execute(query)]
