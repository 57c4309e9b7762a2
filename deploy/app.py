"""The HTTP face of a service: callback door, management API, health."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import cache, partial
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from deploy import __version__
from deploy.admission import Admission
from deploy.headers import SECURITY_HEADERS, SecurityHeaders
from deploy.hosts import KnownHosts
from deploy.pages import make_frame, page_routes
from deploy.prefix import BelowPath
from deploy.rules import SubscriptionRules
from deploy.sample import sample_event
from deploy.service import Service, confirms, timeout_of
from deploy.settings import Settings
from dispatch.sink import Result
from receiver.api.audit import AuditApi
from receiver.api.callback_urls import CallbackUrlApi
from receiver.api.deliveries import DeliveryApi
from receiver.api.events import EventApi
from receiver.api.health import HealthApi
from receiver.api.keys import KeyApi
from receiver.api.metrics import MetricsApi
from receiver.api.providers import ProviderApi
from receiver.api.replays import ReplayApi
from receiver.api.sessions import SessionApi
from receiver.api.stream import StreamApi
from receiver.api.subscriptions import SubscriptionApi, Trial
from receiver.api.tasks import TaskApi
from receiver.api.waiting import WaitApi
from receiver.asking import HttpAsker
from receiver.auth import Authority
from receiver.callbacks import CallbackDoor, Entrance
from receiver.endpoint import Endpoint, serve
from receiver.keyring import JwksKeyRing
from receiver.logins import Logins
from receiver.manual import manual_of
from receiver.manual_page import manual_page
from receiver.openapi import openapi
from receiver.pages.frame import Frame
from receiver.problems import Problem, problem_response
from receiver.provider import providers
from receiver.revoked import RevokedTokens
from receiver.tokens import CallbackTokens
from receiver.uses import LastUses
from store.matching import Subscription
from store.text import clean

_ANSWER_SHOWN = 2_048


def make_app(service: Service) -> Starlette:
    """The ASGI app. Its lifespan runs the service's loops, and closes the service at its end."""
    authority = Authority(service.store, service.settings.api_key, service.access)
    revoked, uses = RevokedTokens(service.store), LastUses(service.store)
    endpoints = all_endpoints(service, revoked)
    routes = []
    if "receive" in service.settings.roles:
        door = _callback_door(service, revoked, uses)  # first: routes are tried one by one
        for slash in ("", "/"):  # there are proxies and providers that add one
            path = f"/callbacks/{{provider}}/{{token}}{slash}"
            routes.append(Route(path, door, methods=["POST"]))
        routes += _documents(endpoints, service.settings.public_url)
    routes += [serve(endpoint, authority, service.store) for endpoint in endpoints]
    frame = None
    if "receive" in service.settings.roles:
        logins = Logins(service.store, authority, service.access, service.clock)
        frame = make_frame(service, authority, logins, endpoints)
        routes += page_routes(service, frame)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        if "receive" in service.settings.roles:
            revoked.watch()
        service.access.watch()
        async with service.running():
            yield
            await uses.close()

    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[
            Middleware(BelowPath, path=urlsplit(service.settings.public_url).path),
            Middleware(SecurityHeaders),
            Middleware(KnownHosts, own=_own_names(service.settings)),
            Middleware(Admission, rooms=service.rooms),
        ],
        exception_handlers={
            Problem: _on_problem,
            HTTPException: partial(_on_http_exception, frame),
            Exception: partial(_on_bug, frame),
        },
    )
    # such a redirect would lead wherever the Host header says, and repeat a callback token
    app.router.redirect_slashes = False
    return app


def _own_names(settings: Settings) -> set[str]:
    public = str(urlsplit(settings.public_url).hostname)
    return {public.removesuffix("."), settings.host.lower()}


def all_endpoints(service: Service, revoked: RevokedTokens | None = None) -> list[Endpoint]:
    """The table of endpoints that this process's roles serve. revoked: as the door knows them."""
    health = HealthApi(service.store, lambda: service.draining).endpoints()
    health += MetricsApi(service.metrics.page).endpoints()
    if "receive" not in service.settings.roles:
        return health
    settings, store, adapters = service.settings, service.store, providers()
    subscriptions = SubscriptionApi(
        store,
        service.vault,
        SubscriptionRules(service.guard, partial(sample_event, service.clock)),
        partial(_try_out, service),
        service.rooms.strangers,
        settings.retention,
        adapters,
    )
    callback_urls = CallbackUrlApi(
        store=store,
        tokens=CallbackTokens(settings.secret_keys),
        revoked=revoked or RevokedTokens(store),
        providers=adapters,
        public_url=settings.public_url,
        clock=service.clock,
    )
    return [
        *callback_urls.endpoints(),
        *TaskApi(
            store,
            adapters,
            partial(timeout_of, settings),
            service.rooms.strangers,
            service.known_states.missing_key,
        ).endpoints(),
        *WaitApi(store, service.feed).endpoints(),
        # before the events: routes are tried in order
        *StreamApi(service.feed, adapters).endpoints(),
        *EventApi(store).endpoints(),
        *subscriptions.endpoints(),
        *ReplayApi(store).endpoints(),
        *DeliveryApi(store).endpoints(),
        *KeyApi(store, service.access).endpoints(),
        *SessionApi(store, service.access, service.clock).endpoints(),
        *AuditApi(store).endpoints(),
        *ProviderApi(store, adapters, service.clock).endpoints(),
        *health,
    ]


def _callback_door(service: Service, revoked: RevokedTokens, uses: LastUses) -> CallbackDoor:
    settings = service.settings
    return CallbackDoor(
        store=service.store,
        tokens=CallbackTokens(settings.secret_keys),
        revoked=revoked,
        entrances={
            name: Entrance(
                provider=provider,
                # a ring each: pages are named by their path at the provider
                keys=JwksKeyRing(partial(_page, service.askers[name])),
                confirm=confirms(settings.providers[name], provider),
                redact=service.askers[name].redact,
            )
            for name, provider in providers().items()
        },
        words=service.words,
        timeout=partial(timeout_of, settings),
        clock=service.clock,
        room=service.rooms.pushes,
        watch=service.lately,
        uses=uses,
    )


async def _page(asker: HttpAsker, path: str) -> Any:
    return (await asker.get(path)).body


async def _try_out(service: Service, subscription: Subscription) -> Trial:
    sent = await service.sender.send(sample_event(service.clock), subscription)
    return Trial(
        delivered=sent.outcome.result is Result.DELIVERED,
        status_code=sent.answer.status if sent.answer else None,
        reason=sent.outcome.reason or None,
        duration=sent.duration,
        answer=_shown(sent.answer.body) if sent.answer else None,
    )


def _shown(body: bytes) -> str:
    return clean(body[:_ANSWER_SHOWN].decode("utf-8", "replace"))


def _documents(endpoints: list[Endpoint], public_url: str) -> list[Route]:
    path = urlsplit(public_url).path
    # 30 ms that few processes need
    document = cache(partial(openapi, endpoints, __version__, server=public_url))
    page = cache(lambda: manual_page(manual_of(document()), path))

    async def openapi_json(_request: Request) -> Response:
        return JSONResponse(document())

    async def docs(_request: Request) -> Response:
        return page()

    return [Route("/openapi.json", openapi_json), Route("/docs", docs)]


async def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - Starlette hands over what was registered
    return problem_response(error)


async def _on_http_exception(frame: Frame | None, request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    details = {404: "no such page", 405: "this page does not take that method"}
    detail = details.get(error.status_code, "the request cannot be served")
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = _allowed(request)
    problem = Problem(error.status_code, detail, headers)
    if frame and _by_a_person(request):
        return await frame.error(request, problem)
    return problem_response(problem)


def _by_a_person(request: Request) -> bool:
    """Whether a browser asks for something to look at, and not a program for the API."""
    of_programs = request.url.path.startswith(("/v1/", "/callbacks/"))
    return "text/html" in request.headers.get("accept", "") and not of_programs


def _allowed(request: Request) -> str:
    """Every method of a page; Starlette names those of one route, and each of ours has one."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    fitting = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in fitting for method in route.methods or ()}))


async def _on_bug(frame: Frame | None, request: Request, error: Exception) -> Response:
    # these answers do not pass through our middleware
    if frame and _by_a_person(request):
        page = await frame.bug(request, error)
        page.headers.update({**SECURITY_HEADERS, **page.headers})
        return page
    detail = "Taskbell stumbled over this request; its log says more"
    return problem_response(Problem(500, detail, SECURITY_HEADERS))
