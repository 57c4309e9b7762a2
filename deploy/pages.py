"""The dashboard joined: every screen, its frame, and the files beside it."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import Route

from deploy.rendering import render
from deploy.service import Service
from receiver.auth import Authority
from receiver.endpoint import Endpoint
from receiver.pages.assets import static_route
from receiver.pages.deliveries import DeliveryPages
from receiver.pages.events import EventPages
from receiver.pages.frame import Frame
from receiver.pages.live import LivePage
from receiver.pages.login import LoginPages
from receiver.pages.session import Sessions
from receiver.pages.tasks import TaskPages
from receiver.provider import providers


def make_frame(service: Service, authority: Authority, endpoints: Sequence[Endpoint]) -> Frame:
    settings = service.settings
    return Frame(
        store=service.store,
        authority=authority,
        sessions=Sessions(settings.secret_keys, settings.public_url, service.clock),
        endpoints=endpoints,
        public_url=settings.public_url,
        clock=service.clock,
    )


def page_routes(service: Service, frame: Frame) -> list[Route]:
    pages = [
        *LivePage(service.feed).pages(),
        *EventPages(service.store, providers(), service.settings.public_url).pages(),
        *DeliveryPages(service.store, render).pages(),
        *TaskPages(service.store, providers()).pages(),
        *LoginPages(frame, service.once_links).pages(),
    ]
    return [static_route(), *map(frame.route, pages)]
