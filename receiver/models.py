"""The management API's bodies and queries, as pydantic models: they check, and document."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.json_schema import SkipJsonSchema

from store.conditions import parse
from store.events import EVENT_TYPES, FAMILIES, Kind, Source, Status, rfc3339
from store.keys import Scope
from store.nearest import not_known
from store.provider_states import State
from store.records import METADATA_BYTES, metadata_size
from store.text import clean_json

T = TypeVar("T")

Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
"""RFC 3339, UTC, with Z."""

TimeText = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""The same, written already."""


def _small(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value is None:
        return None
    if metadata_size(value) > METADATA_BYTES:
        raise ValueError(f"has more than {METADATA_BYTES} bytes of JSON")
    if clean_json(value) != value:
        raise ValueError("holds NUL, half a surrogate pair, or too many or too deep values")
    return value


def _storable(text: str) -> str:
    if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("holds NUL or half a surrogate pair")
    return text


Text = Annotated[str, AfterValidator(_storable)]
_LIKE_A_NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}$"
_PROVIDER_NAME = r"^[a-z][a-z0-9_]{0,39}$"
# at least one letter or digit: "." and ".." would move through a path
_TASK_ID = r"^[._:-]*[A-Za-z0-9][A-Za-z0-9._:-]*$"
_ID = r"^[a-z]{2,5}_[0-9a-z]{26}$"
_FAMILY = r"^[a-z0-9_-]{1,40}$"
_ACTION = r"^[a-z_]{1,20}\.[a-z_]{1,19}$"
PATTERN_RULES = {
    _LIKE_A_NAME: "not a provider's name: lower-case letters, digits and _",
    _PROVIDER_NAME: "not a provider's name: lower-case letters, digits and _",
    _TASK_ID: "not a task's id: give the one that the provider answered, of letters, digits and . _ : -",
    _ID: "not an id of Taskbell's, like task_01kb3x0e5x…",
    _FAMILY: "not a family's name: lower-case letters, digits, _ and -",
    _ACTION: "not an action, like subscription.created",
}
"""What is said of a value that does not fit a pattern, instead of the pattern."""

_LARGEST_NUMBER = 2**63 - 1


def _text_of_number(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if whole and 0 <= value <= _LARGEST_NUMBER else value


ProviderName = Annotated[str, StringConstraints(pattern=_PROVIDER_NAME)]
AnyName = Annotated[
    str,
    StringConstraints(pattern=_LIKE_A_NAME),
    WithJsonSchema({"type": "string", "pattern": _PROVIDER_NAME}),
]
"""A provider's name as people write it. An unknown one is answered with the nearest known name."""

ProviderTaskId = Annotated[
    str,
    BeforeValidator(_text_of_number),
    StringConstraints(pattern=_TASK_ID, max_length=128),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": _TASK_ID, "maxLength": 128},
                {"type": "integer", "minimum": 0, "maximum": _LARGEST_NUMBER},
            ]
        }
    ),
]
"""As the provider answered it: some answer a JSON number."""

Id = Annotated[str, StringConstraints(pattern=_ID)]
Metadata = Annotated[dict[str, Any], AfterValidator(_small)]
Limit = Annotated[int, Field(ge=1, le=200)]
Seconds = Annotated[float, Field(gt=0, le=30 * 86400)]


class Input(BaseModel):
    """What clients send: unknown fields are refused, so that a misspelt one is noticed.

    shown_in_audit: fields whose values may be read by anyone: never free text, never a URL.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    shown_in_audit: ClassVar[frozenset[str]] = frozenset()


class Query(BaseModel):
    """A query string: texts are read as numbers where numbers are meant."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ProblemView(BaseModel):
    """RFC 9457. Some problems have a code, and what a program needs beside it."""

    type: str
    title: str
    status: int
    detail: str
    code: Literal["cursor_ahead", "cursor_expired"] | SkipJsonSchema[None] = None
    newest: int | SkipJsonSchema[None] = None
    oldest: int | SkipJsonSchema[None] = None


class Page(BaseModel, Generic[T]):
    """A part of a list. next_cursor is null at its end."""

    data: list[T]
    next_cursor: str | None


class CallbackUrlInput(Input):
    """single_task: for the first task that is pushed to it; then it ends after 7 days by itself."""

    shown_in_audit = frozenset({"provider", "expires_in", "single_task"})

    provider: AnyName
    expires_in: Annotated[int, Field(ge=1, le=10 * 365 * 86400)] | None = None
    metadata: Metadata | None = None
    single_task: bool = False


class CallbackUrlView(BaseModel):
    """The URL is the secret; the id is not, and revokes it."""

    id: str
    url: str
    expires_at: Time | None
    single_task: bool


class CallbackUrlItem(BaseModel):
    """A callback URL in the list. last_used_at is written down every few minutes at the most."""

    id: str
    provider: str
    metadata: dict[str, Any]
    single_task: bool
    created_by: str
    created_at: Time
    expires_at: Time | None
    last_used_at: Time | None


class TaskInput(Input):
    shown_in_audit = frozenset({"provider", "kind", "timeout_seconds", "expect_push"})

    provider: AnyName
    task_id: ProviderTaskId
    kind: Annotated[Kind | None, Field(strict=False)] = None
    model: Annotated[Text, Field(max_length=200)] | None = None
    family: Annotated[str, StringConstraints(pattern=_FAMILY)] | None = None
    metadata: Metadata | None = None
    timeout_seconds: Seconds | None = None
    expect_push: bool = False


class OutputView(BaseModel):
    url: str | None
    kind: Kind | None
    file_id: str | None
    expires_at: TimeText | None
    note: str | None = None


class ErrorView(BaseModel):
    code: str
    message: str


class TaskView(BaseModel):
    id: str
    provider: str
    provider_task_id: str
    family: str | None
    kind: Kind | None
    model: str | None
    status: Status
    provider_status: str | None
    progress: float | None
    outputs: list[OutputView]
    error: ErrorView | None
    usage: dict[str, Any] | None
    metadata: dict[str, Any]
    version: int
    created_at: TimeText
    updated_at: TimeText
    finished_at: TimeText | None
    deadline_at: TimeText
    source: Source
    confirmed: bool
    rescued_by_poll: bool
    trouble: ErrorView | None


class TrackedView(TaskView):
    """warnings: what keeps the task from being followed; left out when nothing does."""

    warnings: list[ErrorView] = []


class ProvidersQuery(Query):
    limit: Limit = 50
    cursor: ProviderName | None = None


class ProviderStateView(BaseModel):
    """until: null for the state it is in now."""

    state: State
    reason: ErrorView | None
    since: Time
    until: Time | None


class ProviderView(BaseModel):
    """pushes, polls and endings: of the last 24 hours.

    since: when it came into this state; null when nothing is known.
    """

    name: str
    title: str
    state: State
    reason: ErrorView | None
    since: Time | None
    last_asked_at: Time | None
    last_answer_at: Time | None
    open_tasks: int
    pushes: int
    polls: int
    ended_by_push: int
    ended_by_poll: int
    rescued_by_poll: int


class ProviderDetail(ProviderView):
    """history: its states, the current one first; at most 100."""

    history: list[ProviderStateView]


class TasksQuery(Query):
    status: Status | None = None
    provider: ProviderName | None = None
    limit: Limit = 50
    cursor: Id | None = None


class EventView(BaseModel):
    id: str
    type: str
    timestamp: TimeText
    data: dict[str, Any]
    cursor: int


EventType = Literal[
    "task.queued",
    "task.processing",
    "task.succeeded",
    "task.failed",
    "task.canceled",
    "task.timed_out",
    "subscription.disabled",
    "delivery.dead",
    "provider.down",
    "provider.recovered",
]


class EventsQuery(Query):
    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    type: EventType | None = None
    task: Id | None = None
    limit: Limit = 50


_STREAMED = (*FAMILIES, "task.progress", *EVENT_TYPES)


def _parts(text: Any) -> Any:
    return text.split(",") if isinstance(text, str) else text


def _streamed(types: list[str]) -> list[str]:
    for name in types:
        if name not in _STREAMED:
            raise ValueError(not_known(name, "an event type", _STREAMED))
    return types


def _with_commas(most: int) -> WithJsonSchema:
    shape = {"type": "string", "description": f"one or more, with commas; at most {most}"}
    return WithJsonSchema(shape)


StreamTypes = Annotated[
    list[str],
    BeforeValidator(_parts),
    Field(max_length=20),
    AfterValidator(_streamed),
    _with_commas(20),
]
StreamTasks = Annotated[list[Id], BeforeValidator(_parts), Field(max_length=50), _with_commas(50)]
StreamProviders = Annotated[
    list[AnyName], BeforeValidator(_parts), Field(max_length=50), _with_commas(50)
]


_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)


def _moment(value: Any) -> datetime:
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise ValueError("is not a time like 2026-11-21T12:00:00Z")
    moment = datetime.fromisoformat(value)
    if not 1970 < moment.year < 9999:  # ids begin then, and UTC ends
        raise ValueError("is not in the years 1971 to 9998")
    return moment


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""RFC 3339 with its zone."""


class StreamQuery(Query):
    after: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    since: Moment | None = None
    type: StreamTypes | None = None
    task: StreamTasks | None = None
    provider: StreamProviders | None = None


class WaitQuery(Query):
    timeout: Annotated[float, Field(ge=0, le=120)] = 30


class ReplayInput(Input):
    shown_in_audit = frozenset({"subscription"})

    subscription: Id | None = None


class ReplayView(BaseModel):
    deliveries: list[str]


class SpanReplayView(ReplayView):
    """count: how many deliveries were made, or would be in a dry run (deliveries is empty then).

    next_cursor: send the same call again with it as `cursor`, until it is null.
    """

    count: int
    next_cursor: str | None


def _known_types(types: list[str] | None) -> list[str] | None:
    known = (*FAMILIES, *EVENT_TYPES)
    for name in types or ():
        if name not in known:
            raise ValueError(not_known(name, "an event type", known))
    return types


def _readable(wish: dict[str, Any]) -> dict[str, Any]:
    parse(wish)
    return wish


Types = Annotated[list[str], Field(min_length=1, max_length=20), AfterValidator(_known_types)]

Providers = Annotated[list[AnyName], Field(min_length=1, max_length=50)]
Url = Annotated[str, Field(min_length=1, max_length=2048)]
Headers = dict[str, str]
Filter = Annotated[dict[str, Any], AfterValidator(_readable)]
Shape = Annotated[Text, Field(min_length=1, max_length=2000)]
Method = Literal["POST", "PUT", "PATCH"]
Description = Annotated[Text, Field(max_length=500)]
InFlight = Annotated[int, Field(ge=1, le=1000)]
Rate = Annotated[float, Field(gt=0.001, le=10_000)]
Language = Literal["en", "zh"]
ServiceSecret = Annotated[Text, Field(min_length=1, max_length=200)]


_SHOWN_OF_SUBSCRIPTIONS = frozenset(
    {"types", "providers", "format", "max_in_flight", "rate_per_second", "active"}
)


class SubscriptionInput(Input):
    """service_secret is what a Feishu, Lark or DingTalk robot wants its messages signed with.

    Without format, the URL's host chooses it: a chat's own, else webhook.
    """

    shown_in_audit = _SHOWN_OF_SUBSCRIPTIONS

    url: Url
    types: Types | None = None
    providers: Providers | None = None
    metadata: Metadata | None = None
    filter: Filter | None = None
    format: str | None = None
    language: Language = "en"
    service_secret: ServiceSecret | None = None
    shape: Shape | None = None
    method: Method | None = None
    headers: Headers | None = None
    description: Description | None = None
    max_in_flight: InFlight | None = None
    rate_per_second: Rate | None = None
    active: bool = True
    allow_duplicate: bool = False


class SubscriptionPatch(Input):
    """Fields that are left out stay; null takes a condition or a limit away.

    A chat format's own pace stands in for a limit that was taken away. headers and service_secret
    stay with the place they were given for: when the URL's scheme, host or port change (with a
    chat format any part of it), give them again, or null.
    """

    shown_in_audit = _SHOWN_OF_SUBSCRIPTIONS

    url: Url | None = None
    types: Types | None = None
    providers: Providers | None = None
    metadata: Metadata | None = None
    filter: Filter | None = None
    format: str | None = None
    language: Language | None = None
    service_secret: ServiceSecret | None = None
    shape: Shape | None = None
    method: Method | None = None
    headers: Headers | None = None
    description: Description | None = None
    max_in_flight: InFlight | None = None
    rate_per_second: Rate | None = None
    active: bool | None = None
    allow_duplicate: bool = False


class SpanReplayInput(Input):
    """Events recorded from since until (not including) until, of types.

    status: those whose newest delivery to the subscription ended so; without it all that the
    subscription wants. What is on its way already is left out.
    """

    shown_in_audit = frozenset({"types", "status", "dry_run"})

    since: Moment | None = None
    until: Moment | None = None
    types: Types | None = None
    status: Literal["delivered", "dead", "canceled"] | None = None
    dry_run: bool = False
    cursor: Id | None = None


class ResumeInput(Input):
    """backlog: send (the default) delivers what was kept, in order; skip cancels it."""

    shown_in_audit = frozenset({"backlog"})

    backlog: Literal["send", "skip"] = "send"


class SubscriptionView(BaseModel):
    """headers shows the names alone: their values may be secrets.

    So may a chat's URL, which shows its host, and service_secret, of which ••• says that it is set.
    """

    id: str
    url: str
    types: list[str] | None
    providers: list[str] | None
    metadata: dict[str, Any] | None
    filter: dict[str, Any] | None
    format: str
    language: str
    service_secret: str | None
    shape: str | None
    method: str
    headers: dict[str, str]
    description: str | None
    max_in_flight: int | None
    rate_per_second: float | None
    active: bool
    disabled_reason: str | None
    failing_since: Time | None
    waiting: int
    waiting_expires_at: Time | None
    warnings: list[str]
    created_at: Time
    updated_at: Time


class SubscriptionWithSecret(SubscriptionView):
    """The only time the secret is shown."""

    secret: str


class ListQuery(Query):
    limit: Limit = 50
    cursor: Id | None = None


class TrialView(BaseModel):
    """What a test delivery came to. Of the answer only the status is told, never the body."""

    delivered: bool
    status_code: int | None
    reason: str | None
    duration_ms: int
    hint: str | None = Field(default=None, description="what most often is the cause")
    # the body's beginning, for the page that only admins see: it is in no JSON
    answer: SkipJsonSchema[str | None] = Field(default=None, exclude=True)


DeliveryStatus = Literal["pending", "in_flight", "delivered", "dead", "canceled"]


class DeliveriesQuery(Query):
    status: DeliveryStatus | None = None
    subscription: Id | None = None
    event: Id | None = None
    limit: Limit = 50
    cursor: Id | None = None


class DeliveryItem(BaseModel):
    id: str
    event_id: str
    event_type: str
    subscription_id: str
    task_id: str | None
    status: DeliveryStatus
    attempt_count: int
    last_error: str | None
    next_attempt_at: Time | None
    created_at: Time
    finished_at: Time | None


class AttemptItem(BaseModel):
    number: int
    started_at: Time
    duration_ms: int
    result: str
    status_code: int | None
    error: str | None
    answer: str | None


class DeliveryDetail(DeliveryItem):
    attempts: list[AttemptItem]


class ApiKeyInput(Input):
    shown_in_audit = frozenset({"scope"})

    name: Annotated[Text, Field(min_length=1, max_length=200)]
    scope: Annotated[Scope, Field(strict=False)] = Scope.READ


class ApiKeyView(BaseModel):
    id: str
    name: str
    scope: Scope
    created_at: Time


class ApiKeyWithSecret(ApiKeyView):
    """The only time the key is shown."""

    key: str


class SessionItem(BaseModel):
    """Somebody who signed in. last_seen_at is written down every few minutes at the most."""

    id: str
    key_id: str
    name: str
    created_at: Time
    last_seen_at: Time
    expires_at: Time


class AuditQuery(Query):
    action: Annotated[str, StringConstraints(pattern=_ACTION)] | None = None
    object: Id | None = None
    limit: Limit = 50
    cursor: Id | None = None


class AuditItem(BaseModel):
    """key_id: the API key that did it, or `first` for TASKBELL_API_KEY.

    The actor is that key, or the session of somebody who signed in with it; null in old rows.
    detail: the names of the fields that were given, and the values of harmless ones.
    """

    id: str
    at: Time
    key_id: str
    actor_id: str | None
    actor_name: str | None
    action: str
    object_id: str | None
    detail: dict[str, Any] | None


class HealthView(BaseModel):
    status: Literal["ok"]
