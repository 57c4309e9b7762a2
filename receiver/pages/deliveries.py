"""Deliveries: what was sent where, why it failed, and another try for one or for all that died."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Annotated
from urllib.parse import urlencode

from pydantic import Field
from starlette.responses import Response

from receiver.endpoint import validated
from receiver.models import DeliveryStatus, Id, Moment, Query, SpanReplayView
from receiver.pages.bodies import body_of, visible
from receiver.pages.events import OFFERED
from receiver.pages.frame import Page
from receiver.pages.reasons import explanation
from receiver.pages.sendable import Render, Rendered
from receiver.pages.visit import Visit
from store.deliverylist import STRETCH, Filter, count_dead, look_through
from store.errors import NotFoundError
from store.events import rfc3339
from store.sent import MOST, DeliveryStory, read_delivery_story
from store.store import Store
from store.subscriptions import get_subscription, list_subscriptions

LIMIT = 50
AT_ONCE = 1_000
"""Deliveries that one press of a button makes again, give or take what one call of the API makes."""

SPANS = (1, 24, 7 * 24)
"""Hours back that dead deliveries are replayed over, besides all of them."""

_PARTS = 20  # calls of the API that one press makes

STATUSES = ("pending", "in_flight", "delivered", "dead", "canceled")


class DeliveriesFilter(Query):
    """What the form above the list sends. after: newer than this delivery; before: older."""

    status: DeliveryStatus | None = None
    subscription: Id | None = None
    event: Id | None = None
    before: Id | None = None
    after: Id | None = None

    @property
    def chosen(self) -> dict[str, str]:
        """The filters alone, by the names of their fields."""
        values = {"status": self.status, "subscription": self.subscription, "event": self.event}
        return {name: value for name, value in values.items() if value}

    def link(self, *without: str, **more: str | None) -> str:
        """The list with these filters, but for some, and from somewhere else."""
        query = {name: value for name, value in self.chosen.items() if name not in without}
        query |= {name: value for name, value in more.items() if value is not None}
        return f"/deliveries?{urlencode(query)}" if query else "/deliveries"


class DeadFilter(Query):
    """Which dead deliveries are to be replayed: a subscription's, of so many hours; None: of all."""

    subscription: Id
    hours: Annotated[int, Field(ge=1, le=24 * 366)] | None = None


class DeadSpan(Query):
    """The same as the confirmed form sends it: fixed when it was counted."""

    subscription: Id
    since: Moment
    until: Moment


@dataclass(frozen=True, slots=True)
class DeliveryPages:
    store: Store
    render: Render

    def pages(self) -> list[Page]:
        return [
            Page("/deliveries", self.list),
            Page("/deliveries/replay", self.count),
            Page("/deliveries/replay", self.replay, "POST"),
            Page("/deliveries/{id}", self.show),
            Page("/deliveries/{id}/retry", self.retry, "POST"),
        ]

    async def list(self, visit: Visit) -> Response:
        wanted = visit.query(DeliveriesFilter)
        found = await self.store.read(
            look_through,
            Filter(wanted.status, wanted.subscription, wanted.event),
            limit=LIMIT,
            before=wanted.before,
            after=wanted.after,
        )
        known = await self.store.read(list_subscriptions, limit=OFFERED)
        names = {each.id: visible(each.description or each.url) for each in known}
        return visit.page(
            "deliveries.html",
            wanted=wanted,
            found=found,
            dead=await self.store.read(count_dead, subscription_id=wanted.subscription),
            removals=[
                (visit.words(f"filter.{name}"), _shown(visit, names, value), wanted.link(name))
                for name, value in wanted.chosen.items()
            ],
            older=found.older and wanted.link(before=found.older),
            newer=found.newer and wanted.link(after=found.newer),
            stretch=f"{STRETCH:,}",
            subscription_names=list(names.items()),
            statuses=STATUSES,
            explain=_explain(visit),
        )

    async def show(self, visit: Visit) -> Response:
        story = await self.store.read(read_delivery_story, visit.id)
        if story is None:
            raise NotFoundError("no such delivery")
        request = self._request(visit, story)
        return visit.page(
            "delivery.html",
            story=story,
            line=story.line,
            request=request,
            body=body_of(request.body) if request else None,
            changed=bool(story.attempts)
            and story.subscription.updated_at > story.attempts[0].started_at,
            retriable=story.line.status in ("pending", "dead", "canceled"),
            explain=_explain(visit),
            visible=visible,
            most=MOST,
        )

    def _request(self, visit: Visit, story: DeliveryStory) -> Rendered | None:
        """As it was last sent, or would be sent now."""
        if story.event is None:
            return None
        at = story.attempts[0].started_at if story.attempts else visit.now
        return self.render(story.event, story.subscription, at)

    async def retry(self, visit: Visit) -> Response:
        await visit.act("delivery.retried")
        return visit.see_other(f"/deliveries/{visit.id}", "delivery.retried")

    async def count(self, visit: Visit) -> Response:
        """The question before a bulk replay: how many, of whose, since when."""
        wanted = visit.query(DeadFilter)
        subscription = await self.store.read(get_subscription, wanted.subscription)
        if subscription is None:
            raise NotFoundError("no such subscription")
        since = visit.now - timedelta(hours=wanted.hours) if wanted.hours else None
        found = await self.store.read(count_dead, subscription_id=wanted.subscription, since=since)
        dead = found.dead[0] if found.dead else None
        until = visit.now + timedelta(milliseconds=1)  # a span has its beginning, not its end
        span = {"since": rfc3339(dead.since), "until": rfc3339(until)} if dead else {}
        return visit.page(
            "replay.html",
            wanted=wanted,
            subscription=subscription,
            dead=dead,
            more=found.more,
            values={"subscription": subscription.id} | span,
            at_once=AT_ONCE,
            spans=SPANS,
        )

    async def replay(self, visit: Visit) -> Response:
        given = {name: visit.form.get(name) for name in DeadSpan.model_fields}
        wish = validated(DeadSpan, given, "field")
        query = urlencode({"subscription": wish.subscription})
        if await self._replay(visit, wish):
            return visit.see_other(f"/deliveries?{query}", "subscription.replayed")
        return visit.see_other(f"/deliveries/replay?{query}", "subscription.replayed_some")

    async def _replay(self, visit: Visit, wish: DeadSpan) -> bool:
        """Whether all of them are on their way again; else some are, and the rest is left."""
        made, cursor = 0, None
        span = {"status": "dead", "since": rfc3339(wish.since), "until": rfc3339(wish.until)}
        for _ in range(_PARTS):
            value = span if cursor is None else span | {"cursor": cursor}
            part = await visit.act("subscription.replayed", value, id=wish.subscription)
            assert isinstance(part, SpanReplayView)  # noqa: S101 - the endpoint's own answer
            made, cursor = made + part.count, part.next_cursor
            if cursor is None:
                return True
            if made >= AT_ONCE:
                break
        return False


def _shown(visit: Visit, names: Mapping[str, str], value: str) -> str:
    """The value of a filter as people call it."""
    return names.get(value, visit.words.or_else(f"status.{value}", value))


def _explain(visit: Visit) -> Callable[[str | None, int | None, str], str]:
    """Why an attempt failed, by its error, its status and the subscription's format."""
    return partial(explanation, visit.words)
