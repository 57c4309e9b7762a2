"""The dashboard joined: every screen, its frame, and the files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from urllib.parse import urlsplit

from starlette.routing import Route

from deploy.rendering import preview_of, render
from deploy.service import Service, confirms
from dispatch.hooks import format_at
from dispatch.sink import sinks
from receiver.auth import Authority
from receiver.endpoint import Endpoint
from receiver.logins import Logins
from receiver.pages.assets import static_route
from receiver.pages.deliveries import DeliveryPages
from receiver.pages.events import EventPages
from receiver.pages.frame import Frame
from receiver.pages.live import LivePage
from receiver.pages.login import LoginPages
from receiver.pages.providers import ProviderPages, Setup
from receiver.pages.session import Sessions
from receiver.pages.subscriptions import SubscriptionPages
from receiver.pages.tasks import TaskPages
from receiver.provider import providers


def make_frame(
    service: Service, authority: Authority, logins: Logins, endpoints: Sequence[Endpoint]
) -> Frame:
    settings = service.settings
    return Frame(
        store=service.store,
        authority=authority,
        logins=logins,
        sessions=Sessions(settings.secret_keys, settings.public_url, service.clock),
        endpoints=endpoints,
        public_url=settings.public_url,
        clock=service.clock,
        states=service.known_states,
        providers=providers(),
    )


def page_routes(service: Service, frame: Frame) -> list[Route]:
    pages = [
        *LivePage(service.feed).pages(),
        *EventPages(service.store, providers(), service.settings.public_url).pages(),
        *DeliveryPages(service.store, render).pages(),
        *TaskPages(service.store, providers(), service.known_states.missing_key).pages(),
        *_subscription_pages(service).pages(),
        *_provider_pages(service).pages(),
        *LoginPages(frame, service.once_links).pages(),
    ]
    return [static_route(), *map(frame.route, pages)]


def _subscription_pages(service: Service) -> SubscriptionPages:
    return SubscriptionPages(
        service.store,
        formats={name: s.service.title if s.service else name for name, s in sinks().items()},
        signing=[name for name, sink in sinks().items() if sink.service is None],
        preview=partial(preview_of, service),
        chat_at=format_at,
        retention=service.settings.retention,
    )


def _provider_pages(service: Service) -> ProviderPages:
    setups = []
    for name, provider in providers().items():
        chosen = service.settings.providers[name]
        setups.append(
            Setup(
                provider=provider,
                host=str(urlsplit(chosen.base_url).hostname),
                key=bool(chosen.api_key),
                confirm=chosen.confirm,
                confirms=confirms(chosen, provider),
                requests_per_second=chosen.requests_per_second,
                concurrency=chosen.concurrency,
            )
        )
    polls = "poll" in service.settings.roles
    return ProviderPages(service.store, setups, service.lately, service.words, polls)
