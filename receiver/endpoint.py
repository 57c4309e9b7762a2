"""One entry of the management API: what it takes, what it answers, who may call it.

The same table serves the requests (`serve`) and writes the OpenAPI document (receiver/openapi.py),
so the two cannot drift apart.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive

from receiver.auth import Authority
from receiver.body import BadBody, BodyTooLarge, BodyTooSlow, parse_json, read_body
from receiver.problems import Problem, store_away
from store.errors import ConflictError, NotFoundError, StoreUnavailableError
from store.keys import Scope

logger = logging.getLogger("taskbell.api")

BODY_LIMIT = 256 * 1024
BODY_SECONDS = 10.0

M = TypeVar("M", bound=BaseModel)

_ID = re.compile(r"[a-z]{2,5}_[0-9a-z]{26}")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: a status, and a model when the status has a body."""

    status: int
    body: BaseModel | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was let in and read.

    receive: tells whether the client is still there. admit: raises Problem when its key is no
    longer good, for an answer that takes long.
    """

    path: Mapping[str, str]
    headers: Mapping[str, str]
    receive: Receive
    admit: Callable[[], Awaitable[object]]
    _query: BaseModel | None
    _body: BaseModel | None

    def query(self, model: type[M]) -> M:
        """The query, read with the endpoint's own query model."""
        assert isinstance(self._query, model)  # noqa: S101 - the endpoint's own declaration
        return self._query

    def body(self, model: type[M]) -> M:
        """The body, read with the endpoint's own body model."""
        assert isinstance(self._body, model)  # noqa: S101 - the endpoint's own declaration
        return self._body


Handler = Callable[[Call], Awaitable[Reply | ASGIApp]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method and a path. answers maps a status to the model of its body, or None for none.

    A handler that answers otherwise than in JSON makes an ASGI app; answers has its media type.
    scope None means that no key is needed.
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


def serve(endpoint: Endpoint, authority: Authority) -> Route:
    """The Starlette route of an endpoint."""

    async def answer(request: Request) -> Response | ASGIApp:

        async def admit() -> None:
            if endpoint.scope is not None:
                await authority.require(request, endpoint.scope)

        await admit()
        call = Call(
            path=_path(request),
            headers=request.headers,
            receive=request.receive,
            admit=admit,
            _query=_query(endpoint, request),
            _body=await _body(endpoint, request),
        )
        try:
            reply = await endpoint.handler(call)
        except NotFoundError as error:
            raise Problem(404, str(error)) from None
        except ConflictError as error:
            raise Problem(409, str(error)) from None
        except StoreUnavailableError:
            raise store_away() from None
        if not isinstance(reply, Reply):
            return reply
        if reply.body is None:
            return Response(status_code=reply.status)
        return Response(reply.body.model_dump_json(), reply.status, media_type="application/json")

    return Route(endpoint.path, answer, methods=[endpoint.method])


def _path(request: Request) -> dict[str, str]:
    ids: dict[str, str] = request.path_params
    # what no id looks like is not asked for: PostgreSQL fails on a NUL, and answers repeat ids
    if not all(_ID.fullmatch(text) for text in ids.values()):
        raise Problem(404, "nothing has that id")
    return ids


def _query(endpoint: Endpoint, request: Request) -> BaseModel | None:
    if endpoint.query is None:
        if request.query_params:
            raise Problem(422, f"{endpoint.path} takes no query parameters")
        return None
    pairs = request.query_params.multi_items()
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise Problem(422, f"query parameter {name[:40]!r} is there twice")
    return _validated(endpoint.query, dict(pairs), "query parameter")


async def _body(endpoint: Endpoint, request: Request) -> BaseModel | None:
    if endpoint.body is None:
        return None
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if media_type.lower() != "application/json":
        raise Problem(415, "send the body as application/json")
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
    return _validated(endpoint.body, value, "field")


def _validated(model: type[M], value: Any, what: str) -> M:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Problem(422, _first_mistake(error, what)) from None


def _first_mistake(error: ValidationError, what: str) -> str:
    """One line that names the place and the rule, and never the value."""
    mistake = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in mistake["loc"])[:100]
    if mistake["type"] == "extra_forbidden":
        return f"{what} {place!r} is not known here"
    if mistake["type"] == "model_type":  # pydantic names our class
        return "the body must be a JSON object"
    rule = mistake["msg"].removeprefix("Value error, ")
    return f"{what} {place!r}: {rule}" if place else rule
