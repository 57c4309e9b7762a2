"""Providers: how the last day went with each, how it is set up, and the callback URLs that work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from starlette.responses import Response

from receiver.lately import CHALLENGE_LIMIT, Lately
from receiver.pages.frame import Page
from receiver.pages.visit import Visit
from receiver.provider import Provider
from receiver.words import UnknownWords
from store.callback_urls import list_callback_urls
from store.provider_day import STRETCH, read_days
from store.provider_states import never_polled, read_states
from store.store import Store

_URLS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Setup:
    """How a provider is set up here. host: where it is asked. key: whether there is one.

    confirm: the setting; confirms: what it comes to.
    """

    provider: Provider
    host: str
    key: bool
    confirm: str
    confirms: bool
    requests_per_second: float
    concurrency: int


@dataclass(frozen=True, slots=True)
class ProviderPages:
    """asks: whether this process asks providers at all."""

    store: Store
    setups: Sequence[Setup]
    lately: Lately
    unknown: UnknownWords
    asks: bool

    def pages(self) -> list[Page]:
        return [
            Page("/providers", self.show),
            Page("/providers/callback-urls/{id}/revoke", self.revoke, "POST"),
        ]

    async def show(self, visit: Visit) -> Response:
        names = [setup.provider.name for setup in self.setups]
        days = await self.store.read(read_days, names, visit.now)
        states = await self.store.read(read_states)
        shown = {
            name: states[name].at(visit.now) if name in states else never_polled(name, visit.now)
            for name in names
        }
        urls = await self.store.read(list_callback_urls, now=visit.now, limit=_URLS_SHOWN + 1)
        running = max(visit.now - self.lately.since, timedelta(seconds=1))
        return visit.page(
            "providers.html",
            setups=self.setups,
            days=days,
            states=shown,
            day_ago=visit.now - timedelta(hours=24),
            seen=self.lately.of,
            unknown=self.unknown.of,
            since=self.lately.since,
            minutes=running / timedelta(minutes=1),
            asks=self.asks,
            limit=CHALLENGE_LIMIT,
            stretch=f"{STRETCH:,}",
            urls=urls[:_URLS_SHOWN],
            more_urls=len(urls) > _URLS_SHOWN,
        )

    async def revoke(self, visit: Visit) -> Response:
        await visit.act("callback_url.deleted")
        return visit.see_other("/providers#callback-urls", "callback_url.deleted")
