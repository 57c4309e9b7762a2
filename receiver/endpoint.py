"""One entry of the management API: what it takes, what it answers, who may call it.

The same table serves the requests (`serve`) and writes the OpenAPI document (receiver/openapi.py),
so the two cannot drift apart. What changes something leaves a row in the audit, whatever it is.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive

from receiver.auth import Authority, Holder
from receiver.body import BadBody, BodyTooLarge, BodyTooSlow, parse_json, read_body
from receiver.models import PATTERN_RULES, Input
from receiver.places import Places
from receiver.problems import Problem, no_such_cursor, store_away
from store.audit import Audited, Entry, audited, note
from store.errors import ConflictError, CursorError, NotFoundError, StoreUnavailableError
from store.keys import Scope
from store.nearest import nearest, not_known, quoted
from store.store import Store
from store.writer import Answer, Item, Operation

logger = logging.getLogger("taskbell.api")

BODY_LIMIT = 256 * 1024
BODY_SECONDS = 10.0

M = TypeVar("M", bound=BaseModel)

_ID = re.compile(r"[a-z]{2,5}_[0-9a-z]{26}")
_LOOKS = {"name": re.compile(r"[a-z][a-z0-9_]{0,39}")}  # of a provider


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: a status, and a model when the status has a body."""

    status: int
    body: BaseModel | None = None


@dataclass(slots=True)
class Call:
    """A request that was let in and read. holder: whose it is; None when no key is needed.

    receive: tells whether the client is still there. admit: raises Problem when its key is no
    longer good, for an answer that takes long.
    """

    path: Mapping[str, str]
    headers: Mapping[str, str]
    receive: Receive
    admit: Callable[[], Awaitable[object]]
    holder: Holder | None
    _action: str | None
    _query: BaseModel | None
    _body: BaseModel | None
    _audited: bool = False

    @property
    def key_id(self) -> str | None:
        return self.holder.key_id if self.holder else None

    def required(self) -> Holder:
        """Whose it is, where a key is needed."""
        assert self.holder is not None  # noqa: S101 - `serve` lets nobody in without one
        return self.holder

    def query(self, model: type[M]) -> M:
        """The query, read with the endpoint's own query model."""
        assert isinstance(self._query, model)  # noqa: S101 - the endpoint's own declaration
        return self._query

    def body(self, model: type[M]) -> M:
        """The body, read with the endpoint's own body model."""
        assert isinstance(self._body, model)  # noqa: S101 - the endpoint's own declaration
        return self._body

    async def write(
        self,
        store: Store,
        operation: Operation[Item, Answer],
        item: Item,
        changed: Callable[[Answer], str | None] | None = None,
        remarks: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Change something, and say so in the audit in the same transaction.

        changed: the id of what was changed, by the answer, or None when nothing was; when it is
        left out, the path has the id. remarks: added to the entry's detail, without secrets.
        """
        self._audited = True
        entry = self._entry(None)
        if remarks:
            entry = replace(entry, detail={**(entry.detail or {}), **remarks})
        item_and_who = Audited(item, entry, changed or self._id_in_path)
        return await store.write(audited(operation), item_and_who)

    async def note(self, store: Store, made: BaseModel | None) -> None:
        """Say it in the audit now, unless a write has done so."""
        if self._action is not None and not self._audited:
            object_id = self.path.get("id") or getattr(made, "id", None)
            await store.write(note, self._entry(object_id))

    def _entry(self, object_id: str | None) -> Entry:
        assert self._action is not None  # noqa: S101
        return Entry(self.required().actor, self._action, object_id, _detail(self._body))

    def _id_in_path(self, _answer: object) -> str:
        return self.path["id"]


def _detail(body: BaseModel | None) -> dict[str, Any] | None:
    """Which fields were given, and the values of those that may be read by anyone."""
    if not isinstance(body, Input) or not body.model_fields_set:
        return None
    fields = sorted(body.model_fields_set)
    values = {name: getattr(body, name) for name in fields if name in body.shown_in_audit}
    return {"fields": fields, "values": values}


Handler = Callable[[Call], Awaitable[Reply | ASGIApp]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method and a path. answers maps a status to the model of its body, or None for none.

    A handler that answers otherwise than in JSON makes an ASGI app; answers has its media type.
    scope None means that no key is needed. room: bounds the calls that wait for strangers.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    answers: Mapping[int, type[BaseModel] | str | None]
    scope: Scope | None = Scope.READ
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    problems: tuple[int, ...] = field(default=())
    room: Places | None = None


def serve(endpoint: Endpoint, authority: Authority, store: Store) -> Route:
    """The Starlette route of an endpoint."""
    action = action_of(endpoint)

    async def answer(request: Request) -> Response | ASGIApp:

        async def admit() -> Holder | None:
            if endpoint.scope is None:
                return None
            return await authority.require(request, endpoint.scope)

        holder = await admit()
        call = Call(
            path=ids_in_path(request),
            headers=request.headers,
            receive=request.receive,
            admit=admit,
            holder=holder,
            _action=action,
            _query=_query(endpoint, request),
            _body=await _body(endpoint, request),
        )
        reply = await perform(endpoint, call, store)
        if not isinstance(reply, Reply):
            return reply
        if reply.body is None:
            return Response(status_code=reply.status)
        return Response(reply.body.model_dump_json(), reply.status, media_type="application/json")

    return Route(endpoint.path, answer, methods=[endpoint.method])


async def perform(endpoint: Endpoint, call: Call, store: Store) -> Reply | ASGIApp:
    """Have it done, with its row in the audit. Raises Problem."""
    room = endpoint.room.one(call.key_id) if endpoint.room else contextlib.nullcontext()
    try:
        with room:
            reply = await endpoint.handler(call)
            await call.note(store, reply.body if isinstance(reply, Reply) else None)
    except NotFoundError as error:
        raise Problem(404, str(error)) from None
    except ConflictError as error:
        raise Problem(409, str(error)) from None
    except CursorError as error:
        raise no_such_cursor(error) from None
    except StoreUnavailableError:
        raise store_away() from None
    return reply


def call_for(
    endpoint: Endpoint,
    request: Request,
    holder: Holder,
    ids: Mapping[str, str],
    value: Mapping[str, Any],
) -> Call:
    """The call that a form on a page stands for. value: the body, as JSON would have it.

    Raises Problem 422 when that is not what the endpoint takes.
    """

    async def admit() -> Holder:
        return holder  # was let in a moment ago; only streams ask again

    return Call(
        path=ids,
        headers=request.headers,
        receive=request.receive,
        admit=admit,
        holder=holder,
        _action=action_of(endpoint),
        _query=None,
        _body=None if endpoint.body is None else validated(endpoint.body, value, "field"),
    )


def action_of(endpoint: Endpoint) -> str | None:
    """What the audit calls it: subscription.created, task.canceled; None for what only reads."""
    if endpoint.method == "GET":
        return None
    things, _, call = endpoint.path.removeprefix("/v1/").partition("/{id}")
    thing = _SINGULAR.get(things, things.removesuffix("s")).replace("-", "_")
    return f"{thing}.{_DONE[call.removeprefix('/') or endpoint.method]}"


_SINGULAR = {"deliveries": "delivery"}
_DONE = {
    "POST": "created",
    "PATCH": "changed",
    "DELETE": "deleted",
    "cancel": "canceled",
    "pause": "paused",
    "refresh": "refreshed",
    "replay": "replayed",
    "resume": "resumed",
    "retry": "retried",
    "rotate-secret": "secret_rotated",
    "test": "tested",
}


def ids_in_path(request: Request) -> dict[str, str]:
    """Its ids by their names. Raises Problem 404 for what no id looks like."""
    ids: dict[str, str] = request.path_params
    # what no id looks like is not asked for: PostgreSQL fails on a NUL, and answers repeat ids
    if not all(_LOOKS.get(name, _ID).fullmatch(text) for name, text in ids.items()):
        raise Problem(404, "nothing has that id")
    return ids


def _query(endpoint: Endpoint, request: Request) -> BaseModel | None:
    if endpoint.query is None:
        if request.query_params:
            raise Problem(422, f"{endpoint.path} takes no query parameters")
        return None
    pairs = request.query_params.multi_items()
    for name, times in Counter(name for name, _ in pairs).items():
        if times > 1:
            raise Problem(422, f"query parameter {quoted(name)} is there twice")
    return validated(endpoint.query, dict(pairs), "query parameter")


async def _body(endpoint: Endpoint, request: Request) -> BaseModel | None:
    if endpoint.body is None:
        return None
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if media_type.lower() != "application/json":
        raise Problem(415, "send the body as application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "send the body without a content encoding")
    try:
        raw = await read_body(request, BODY_LIMIT, BODY_SECONDS)
        value = parse_json(raw) if raw else {}
    except BodyTooLarge:
        raise Problem(413, f"the body is over {BODY_LIMIT} bytes") from None
    except BodyTooSlow:
        raise Problem(408, f"the body took longer than {BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        raise Problem(400, "the connection ended before the body did") from None
    except BadBody as error:
        raise Problem(400, str(error)) from None
    return validated(endpoint.body, value, "field")


def validated(model: type[M], value: Any, what: str) -> M:
    """The value as its model. Raises Problem 422 that names the place and the rule."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Problem(422, _mistakes(error, what, model)) from None


def _mistakes(error: ValidationError, what: str, model: type[BaseModel]) -> str:
    """Return one line that names the places and their rules, and never a value.

    A field that is missing is often the one that is not known, misspelt: both are named.
    """
    found = error.errors(include_url=False)
    names = [mistake for mistake in found if mistake["type"] in ("missing", "extra_forbidden")]
    told = names[:_MOST_MISTAKES] or found[:1]
    return "; ".join(_mistake(mistake, what, model) for mistake in told)


def _mistake(mistake: ErrorDetails, what: str, model: type[BaseModel]) -> str:
    place = quoted(".".join(str(part) for part in mistake["loc"]))
    if mistake["type"] == "extra_forbidden":
        near = nearest(str(mistake["loc"][-1]), model.model_fields)
        return f"{what} {place} is not known here" + (f"; did you mean {near!r}?" if near else "")
    if mistake["type"] == "missing":
        return f"{what} {place} is missing"
    if mistake["type"] == "model_type":  # pydantic names our class
        return "the body must be a JSON object"
    rule = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] in ("enum", "literal_error"):
        choices = re.findall(r"'([^']+)'", mistake["ctx"]["expected"])
        rule = not_known(str(mistake["input"]), "one of these", choices) if choices else rule
    if mistake["type"] == "string_pattern_mismatch":
        rule = PATTERN_RULES.get(mistake["ctx"]["pattern"], rule)
    return f"{what} {place}: {rule}" if mistake["loc"] else rule


_MOST_MISTAKES = 5
"""Of the fields that are missing or not known, as many as one line names."""
