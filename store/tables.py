"""The tables. Times are UTC, ids sort by time, JSON is text, provider bodies are bytes.

What is waiting (open deliveries, tasks due for a question) is found through partial indexes, so
that finished rows cost nothing.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import Field, SQLModel

from store.events import rfc3339
from store.text import json_bytes

OPEN = "status IN ('pending', 'in_flight')"
# said as NOT IN: an IN would let SQLite, which has no statistics, walk ix_tasks_status_id instead
UNENDED = "status NOT IN ('succeeded', 'failed', 'canceled', 'timed_out')"
ENDED = "status NOT IN ('queued', 'processing')"


class UtcTime(TypeDecorator[datetime]):
    """timestamptz on PostgreSQL; on SQLite, which knows no zones, text that sorts by time."""

    impl = String(32)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(String(32))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return rfc3339(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return (value if isinstance(value, datetime) else datetime.fromisoformat(value)).astimezone(
            UTC
        )


class JsonText(TypeDecorator[Any]):
    """JSON as text: JSONB would refuse or blow up some of what providers send."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else json_bytes(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Base(SQLModel):
    metadata: ClassVar[MetaData] = metadata


def _partial(name: str, *columns: str, where: str) -> Index:
    condition = text(where)
    return Index(name, *columns, postgresql_where=condition, sqlite_where=condition)


class TaskRow(Base, table=True):
    __tablename__ = "tasks"
    __table_args__ = (
        UniqueConstraint("provider", "provider_task_id"),
        _partial(
            "ix_tasks_due",
            "provider",
            "next_poll_at",
            where="next_poll_at IS NOT NULL AND version > 0",
        ),
        _partial(
            "ix_tasks_unverified",
            "provider",
            "next_poll_at",
            where="next_poll_at IS NOT NULL AND version = 0",
        ),
        _partial("ix_tasks_deadline", "deadline_at", where=UNENDED),
        _partial("ix_tasks_ended", "updated_at", where=ENDED),
        _partial("ix_tasks_held", "provider", "hint_at", where="hint_at IS NOT NULL"),
        _partial(
            "ix_tasks_token", "token_id", where="next_poll_at IS NOT NULL AND token_id IS NOT NULL"
        ),
        _partial("ix_tasks_unconfirmed", "token_id", where="version = 0"),
        Index("ix_tasks_status_id", "status", "id"),
    )

    id: str = Field(primary_key=True, max_length=40)
    provider: str = Field(max_length=40)
    provider_task_id: str = Field(max_length=128)
    family: str | None = Field(default=None, max_length=40)
    kind: str | None = Field(default=None, max_length=10)
    model: str | None = Field(default=None, sa_type=Text)
    status: str = Field(max_length=12)
    provider_status: str | None = Field(default=None, sa_type=Text)
    progress: float | None = None
    outputs: Any = Field(sa_type=JsonText)
    error: Any = Field(default=None, sa_type=JsonText, nullable=True)
    usage: Any = Field(default=None, sa_type=JsonText, nullable=True)
    meta: Any = Field(sa_column=Column("metadata", JsonText, nullable=False))
    version: int
    created_at: datetime = Field(sa_type=UtcTime)
    updated_at: datetime = Field(sa_type=UtcTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcTime)
    deadline_at: datetime = Field(sa_type=UtcTime)
    source: str = Field(max_length=8)
    confirmed: bool
    expect_push: bool
    rescued_by_poll: bool
    # next_poll_at is also the lease: a claim moves it to the lease's end
    next_poll_at: datetime | None = Field(default=None, sa_type=UtcTime)
    polls: int
    poll_claims: int  # since the last one that was finished
    poll_failures: int
    poll_refusals: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    poll_fence: int
    poll_owner: str | None = Field(default=None, max_length=64)
    poll_error: str | None = Field(default=None, sa_type=Text)
    poll_error_code: str | None = Field(default=None, max_length=64)
    hint: Any = Field(default=None, sa_type=JsonText, nullable=True)
    hint_at: datetime | None = Field(default=None, sa_type=UtcTime)
    token_id: str | None = Field(default=None, max_length=64)


class EventRow(Base, table=True):
    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("id"),
        Index("ix_events_task_id", "task_id"),
        Index("ix_events_type_cursor", "type", "cursor"),
        # never hand out a cursor again, also after the newest rows were deleted
        {"sqlite_autoincrement": True},
    )

    cursor: int | None = Field(
        default=None,
        sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    )
    id: str = Field(max_length=40)
    type: str = Field(max_length=40)
    provider: str | None = Field(default=None, max_length=40)
    task_id: str | None = Field(default=None, max_length=40)
    subject: str = Field(max_length=40)
    version: int  # of the task
    created_at: datetime = Field(sa_type=UtcTime)
    body: bytes = Field(sa_type=LargeBinary)


class SubscriptionRow(Base, table=True):
    __tablename__ = "subscriptions"

    id: str = Field(primary_key=True, max_length=40)
    url: str = Field(sa_type=Text)  # as it is shown: masked where url_locked has it whole
    url_locked: str | None = Field(default=None, sa_type=Text)
    format: str = Field(max_length=40)
    language: str = Field(default="en", max_length=8, sa_column_kwargs={"server_default": "en"})
    service_secret_locked: str | None = Field(default=None, sa_type=Text)
    types: Any = Field(default=None, sa_type=JsonText, nullable=True)
    providers: Any = Field(default=None, sa_type=JsonText, nullable=True)
    meta: Any = Field(default=None, sa_column=Column("metadata", JsonText, nullable=True))
    filter: Any = Field(default=None, sa_type=JsonText, nullable=True)
    shape: str | None = Field(default=None, sa_type=Text)
    method: str | None = Field(default=None, max_length=5)
    description: str | None = Field(default=None, sa_type=Text)
    headers_locked: str | None = Field(default=None, sa_type=Text)
    header_names: Any = Field(sa_type=JsonText)
    secret_locked: str = Field(sa_type=Text)
    old_secret_locked: str | None = Field(default=None, sa_type=Text)
    old_secret_until: datetime | None = Field(default=None, sa_type=UtcTime)
    max_in_flight: int | None = None
    rate_per_second: float | None = None
    next_send_at: datetime | None = Field(default=None, sa_type=UtcTime)  # the rate's next turn
    active: bool
    disabled_reason: str | None = Field(default=None, sa_type=Text)
    skipped_through: str | None = Field(default=None, max_length=40)  # store/backlog.py
    failing_since: datetime | None = Field(default=None, sa_type=UtcTime)
    created_at: datetime = Field(sa_type=UtcTime)
    updated_at: datetime = Field(sa_type=UtcTime)
    deleted_at: datetime | None = Field(default=None, sa_type=UtcTime)


class DeliveryRow(Base, table=True):
    __tablename__ = "deliveries"
    __table_args__ = (
        # No condition follows from another one's. PostgreSQL takes a partial index for empty when it
        # last saw no such rows, and any that fits for as good: it would walk one of what waits for
        # each row that does.
        _partial("ix_deliveries_due", "subscription_id", "due_at", where="finished_at IS NULL"),
        _partial("ix_deliveries_lane", "task_id", where=f"{OPEN} AND task_id IS NOT NULL"),
        _partial(
            "ix_deliveries_in_flight", "subscription_id", "due_at", where="status = 'in_flight'"
        ),
        # what is kept for paused subscriptions: store/backlog.py
        _partial(
            "ix_deliveries_kept",
            *("subscription_id", "created_at", "id"),
            where="status = 'pending' AND due_at IS NULL",
        ),
        _partial("ix_deliveries_dead", "id", where="status IN ('dead', 'canceled')"),
        Index("ix_deliveries_event_id", "event_id"),
        Index("ix_deliveries_subscription_id_id", "subscription_id", "id"),
    )

    id: str = Field(primary_key=True, max_length=40)
    event_id: str = Field(max_length=40)
    subscription_id: str = Field(
        sa_column=Column(String(40), ForeignKey("subscriptions.id"), nullable=False)
    )
    task_id: str | None = Field(default=None, max_length=40)
    task_version: int
    status: str = Field(max_length=12)
    # when it may be sent; while in flight, the lease's end; none while it is kept for a paused one
    due_at: datetime | None = Field(default=None, sa_type=UtcTime)
    owner: str | None = Field(default=None, max_length=64)
    fence: int
    attempts: int
    failures: int  # attempts that failed since it was last put on the schedule's start
    claims: int  # since the last one that was finished
    last_error: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = Field(sa_type=UtcTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcTime)


class AttemptRow(Base, table=True):
    __tablename__ = "attempts"
    __table_args__ = (Index("ix_attempts_delivery_id", "delivery_id"),)

    id: str = Field(primary_key=True, max_length=40)
    delivery_id: str = Field(max_length=40)
    number: int
    started_at: datetime = Field(sa_type=UtcTime)
    duration_ms: int
    result: str = Field(max_length=12)
    status_code: int | None = None
    error: str | None = Field(default=None, sa_type=Text)
    answer: str | None = Field(default=None, sa_type=Text)  # the first 2 KiB, cleaned


class AttemptHourRow(Base, table=True):
    """How many attempts of a subscription's took how long in an hour: store/pulse.py."""

    __tablename__ = "attempt_hours"
    __table_args__ = (Index("ix_attempt_hours_hour", "hour"),)

    subscription_id: str = Field(primary_key=True, max_length=40)
    hour: datetime = Field(sa_type=UtcTime, primary_key=True)  # its beginning
    bucket: int = Field(primary_key=True)
    delivered: int
    failed: int


class ReceiptRow(Base, table=True):
    __tablename__ = "receipts"
    __table_args__ = (
        _partial("ix_receipts_task_id", "task_id", where="task_id IS NOT NULL"),
        _partial("ix_receipts_received_at", "received_at", where="task_id IS NULL"),
        _partial("ix_receipts_refuted", "token_id", "id", where="verdict = 'refuted'"),
    )

    id: str = Field(primary_key=True, max_length=40)
    provider: str = Field(max_length=40)
    token_id: str = Field(max_length=64)
    provider_task_id: str | None = Field(default=None, max_length=128)
    task_id: str | None = Field(default=None, max_length=40)
    received_at: datetime = Field(sa_type=UtcTime)
    verdict: str = Field(max_length=16)
    raw: bytes = Field(sa_type=LargeBinary)


class ApiKeyRow(Base, table=True):
    __tablename__ = "api_keys"

    id: str = Field(primary_key=True, max_length=40)
    name: str = Field(sa_type=Text)
    scope: str = Field(max_length=8)
    digest: str = Field(max_length=64, unique=True)
    created_at: datetime = Field(sa_type=UtcTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcTime)


class DurationRow(Base, table=True):
    """How long a model's tasks take: store/durations.py says how the counts are read."""

    __tablename__ = "durations"

    provider: str = Field(primary_key=True, max_length=40)
    model: str = Field(primary_key=True, sa_type=Text)  # '' when unknown, kind likewise
    kind: str = Field(primary_key=True, max_length=10)
    counts: Any = Field(sa_type=JsonText)
    learned_at: datetime = Field(sa_type=UtcTime)


class ShiftRow(Base, table=True):
    """Who asks a provider, until when; store/shifts.py. The term is raised with each new owner."""

    __tablename__ = "shifts"

    provider: str = Field(primary_key=True, max_length=40)
    owner: str = Field(max_length=64)
    until: datetime = Field(sa_type=UtcTime)
    term: int = Field(sa_type=BigInteger)


class ProviderStateRow(Base, table=True):
    """A state that a provider was in, from `since` until `until`; store/provider_states.py.

    The current state of a provider is the row without an end.
    """

    __tablename__ = "provider_states"
    __table_args__ = (
        Index(
            "ix_provider_states_current",
            "provider",
            unique=True,
            postgresql_where=text("until IS NULL"),
            sqlite_where=text("until IS NULL"),
        ),
        _partial("ix_provider_states_past", "until", where="until IS NOT NULL"),
        Index("ix_provider_states_provider_id", "provider", "id"),
    )

    id: str = Field(primary_key=True, max_length=40)
    provider: str = Field(max_length=40)
    state: str = Field(max_length=12)
    reason: Any = Field(default=None, sa_type=JsonText, nullable=True)  # a code and words
    since: datetime = Field(sa_type=UtcTime)
    until: datetime | None = Field(default=None, sa_type=UtcTime)
    # when a process that polls it last said so, put a poll, got a good answer: to some seconds
    polled_at: datetime | None = Field(default=None, sa_type=UtcTime)
    asked_at: datetime | None = Field(default=None, sa_type=UtcTime)
    answered_at: datetime | None = Field(default=None, sa_type=UtcTime)


class CallbackTokenRow(Base, table=True):
    """What is known of a callback token beyond what it carries; most have no row.

    provider_task_id: the task that a token for a single task was first used for.
    """

    __tablename__ = "callback_tokens"
    __table_args__ = (_partial("ix_callback_tokens_revoked", "id", where="revoked_at IS NOT NULL"),)

    id: str = Field(primary_key=True, max_length=64)
    provider: str = Field(max_length=40)
    provider_task_id: str | None = Field(default=None, max_length=128)
    seen_at: datetime = Field(sa_type=UtcTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcTime)


class CallbackUrlRow(Base, table=True):
    """A callback URL that somebody made; store/callback_urls.py. The token itself is stored nowhere."""

    __tablename__ = "callback_urls"
    __table_args__ = (UniqueConstraint("place"),)

    id: str = Field(primary_key=True, max_length=64)
    place: str = Field(max_length=40)  # in the list
    provider: str = Field(max_length=40)
    meta: Any = Field(sa_column=Column("metadata", JsonText, nullable=False))
    single_task: bool
    created_by: str = Field(max_length=40)
    created_at: datetime = Field(sa_type=UtcTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcTime)
    last_used_at: datetime | None = Field(default=None, sa_type=UtcTime)


class AuditRow(Base, table=True):
    """A change made through the API: who, what, when. Never a secret."""

    __tablename__ = "audit"

    id: str = Field(primary_key=True, max_length=40)
    at: datetime = Field(sa_type=UtcTime)
    key_id: str = Field(max_length=40)
    action: str = Field(max_length=40)
    object_id: str | None = Field(default=None, max_length=64)
    detail: Any = Field(default=None, sa_type=JsonText, nullable=True)
    # of the API key, or of the session that a key signed in; null in rows from before they were kept
    actor_id: str | None = Field(default=None, max_length=40)
    actor_name: str | None = Field(default=None, sa_type=Text)


class SessionRow(Base, table=True):
    """Somebody who signed in to the pages; store/logins.py. digest: of the cookie's secret."""

    __tablename__ = "sessions"

    id: str = Field(primary_key=True, max_length=40)
    digest: str = Field(max_length=64, unique=True)
    key_id: str = Field(max_length=40)
    ticket: str = Field(max_length=64)
    name: str = Field(sa_type=Text)
    created_at: datetime = Field(sa_type=UtcTime)
    last_seen_at: datetime = Field(sa_type=UtcTime)
    expires_at: datetime = Field(sa_type=UtcTime)


class CounterRow(Base, table=True):
    """Numbers that tell a process its memory is stale: name 'subscriptions', raised per change."""

    __tablename__ = "counters"

    name: str = Field(primary_key=True, max_length=40)
    value: int = Field(sa_type=BigInteger)


def word(value: str | int) -> ColumnElement[Any]:
    """A constant written into the statement itself: a partial index serves no bound parameter."""
    return literal_column(str(value) if isinstance(value, int) else f"'{value}'")


def _table(model: type[SQLModel]) -> Table:
    return metadata.tables[str(model.__tablename__)]


tasks = _table(TaskRow)
events = _table(EventRow)
subscriptions = _table(SubscriptionRow)
deliveries = _table(DeliveryRow)
attempts = _table(AttemptRow)
attempt_hours = _table(AttemptHourRow)
receipts = _table(ReceiptRow)
api_keys = _table(ApiKeyRow)
counters = _table(CounterRow)
durations = _table(DurationRow)
shifts = _table(ShiftRow)
provider_states = _table(ProviderStateRow)
callback_tokens = _table(CallbackTokenRow)
callback_urls = _table(CallbackUrlRow)
audit = _table(AuditRow)
sessions = _table(SessionRow)
