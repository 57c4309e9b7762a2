"""Providers: the state of each, and how its last day went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from receiver.endpoint import Call, Endpoint, Reply
from receiver.models import (
    ErrorView,
    Page,
    ProviderDetail,
    ProvidersQuery,
    ProviderStateView,
    ProviderView,
)
from receiver.provider import Provider
from store.clock import Clock
from store.errors import NotFoundError
from store.events import Failure
from store.nearest import not_known
from store.provider_day import ProviderDay, read_days
from store.provider_states import ProviderState, never_polled, read_history, read_states
from store.store import Store

HISTORY = 100


@dataclass(frozen=True, slots=True)
class ProviderApi:
    store: Store
    providers: Mapping[str, Provider]
    clock: Clock

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                "GET",
                "/v1/providers",
                "List providers with their states",
                self.list,
                {200: Page[ProviderView]},
                query=ProvidersQuery,
            ),
            Endpoint(
                "GET",
                "/v1/providers/{name}",
                "Show a provider, with the states it was in",
                self.show,
                {200: ProviderDetail},
                problems=(404,),
            ),
        ]

    async def list(self, call: Call) -> Reply:
        query, now = call.query(ProvidersQuery), self.clock()
        names = [name for name in sorted(self.providers) if name > (query.cursor or "")]
        page = names[: query.limit]
        states = await self.store.read(read_states)
        days = (await self.store.read(read_days, page, now)).of
        views = [
            ProviderView(**_fields(self.providers[name], states.get(name), days[name], now))
            for name in page
        ]
        cursor = page[-1] if len(names) > len(page) else None
        return Reply(200, Page[ProviderView](data=views, next_cursor=cursor))

    async def show(self, call: Call) -> Reply:
        name, now = call.path["name"], self.clock()
        if name not in self.providers:
            raise NotFoundError(not_known(name, "a provider", sorted(self.providers)))
        history = await self.store.read(read_history, name, HISTORY)
        days = (await self.store.read(read_days, [name], now)).of
        current = history[0] if history else None
        fields = _fields(self.providers[name], current, days[name], now)
        return Reply(200, ProviderDetail(**fields, history=[_past(each) for each in history]))


def _fields(
    provider: Provider, state: ProviderState | None, day: ProviderDay, now: datetime
) -> dict[str, Any]:
    shown = state.at(now) if state else never_polled(provider.name, now)
    return {
        "name": provider.name,
        "title": provider.title,
        "state": shown.state,
        "reason": reason_view(shown.reason),
        "since": shown.since if state else None,
        "last_asked_at": shown.asked_at,
        "last_answer_at": shown.answered_at,
        "open_tasks": day.open.count,
        "pushes": day.pushes,
        "polls": day.ends.polls,
        "ended_by_push": day.ends.by_push,
        "ended_by_poll": day.ends.by_poll,
        "rescued_by_poll": day.ends.rescued,
    }


def _past(state: ProviderState) -> ProviderStateView:
    return ProviderStateView(
        state=state.state,
        reason=reason_view(state.reason),
        since=state.since,
        until=state.until,
    )


def reason_view(reason: Failure | None) -> ErrorView | None:
    return ErrorView(code=reason.code, message=reason.message) if reason else None
