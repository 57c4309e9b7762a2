"""Replays: deliver again to one subscription what a span of time has for it."""

from __future__ import annotations

from dataclasses import dataclass

from receiver.endpoint import Call, Endpoint, Reply
from receiver.models import SpanReplayInput, SpanReplayView
from store.errors import ConflictError, NotFoundError
from store.keys import Scope
from store.matching import Subscription
from store.replays import MOST, Again, Found, Span, deliver_again, find
from store.store import Store
from store.subscriptions import get_subscription


@dataclass(frozen=True, slots=True)
class ReplayApi:
    store: Store

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                "POST",
                "/v1/subscriptions/{id}/replay",
                "Deliver events again, up to 1,000 a call; with dry_run only count them",
                self.replay,
                {200: SpanReplayView, 202: SpanReplayView},
                Scope.WRITE,
                body=SpanReplayInput,
                problems=(404, 409),
            ),
        ]

    async def replay(self, call: Call) -> Reply:
        wish = call.body(SpanReplayInput)
        subscription = await self._subscription(call.path["id"])
        found = await self._find(subscription, wish)
        if wish.dry_run:
            return _reply(200, len(found.event_ids), [], found)
        again = Again(subscription.id, found.event_ids)
        made = await call.write(self.store, deliver_again, again) if found.event_ids else []
        return _reply(202, len(made), made, found)

    async def _find(self, subscription: Subscription, wish: SpanReplayInput) -> Found:
        span = Span(
            since=wish.since,
            until=wish.until,
            types=tuple(wish.types) if wish.types is not None else None,
            status=wish.status,
        )
        limit = None if wish.dry_run else MOST
        return await self.store.read(find, subscription, span, after=wish.cursor, limit=limit)

    async def _subscription(self, subscription_id: str) -> Subscription:
        found = await self.store.read(get_subscription, subscription_id)
        if found is None:
            raise NotFoundError("no such subscription")
        if found.disabled_reason is not None:  # to a paused one it is kept
            raise ConflictError(
                f"the subscription is disabled ({found.disabled_reason}): resume it first"
            )
        return found


def _reply(status: int, count: int, made: list[str], found: Found) -> Reply:
    view = SpanReplayView(deliveries=made, count=count, next_cursor=found.following)
    return Reply(status, view)
