"""How dispatch would send an event to a subscription, for the pages to show."""

from __future__ import annotations

from datetime import datetime

from deploy.sample import sample_event
from deploy.service import Service
from dispatch.preview import preview
from dispatch.sink import CannotRender, Event, sinks
from receiver.pages.sendable import Rendered
from receiver.pages.subscriptions import Preview
from store.matching import Subscription
from store.newest import Recent, newest_wanted
from store.sent import StoredEvent


def render(event: StoredEvent, subscription: Subscription, at: datetime) -> Rendered:
    """The request of an attempt that starts at a time, without its secrets (Render)."""
    return _rendered(_event(event), subscription, at)


async def preview_of(service: Service, subscription: Subscription) -> Preview:
    """Its next message: the newest event that it wants, or a sample when it wants none of them."""
    recent = await service.store.read(newest_wanted, subscription)
    event = _event(recent) if recent else sample_event(service.clock)
    made = _rendered(event, subscription, service.clock())
    event_id = recent.id if recent else None
    return Preview(event_id, event.type, made.method, made.headers, made.body, made.trouble)


def _rendered(event: Event, subscription: Subscription, at: datetime) -> Rendered:
    if subscription.format not in sinks():  # written by a newer version
        return _nothing(subscription, f"format {subscription.format!r} is not known here")
    try:
        request = preview(event, subscription, at)
    except CannotRender as error:
        return _nothing(subscription, str(error))
    except (ValueError, LookupError, TypeError):  # a hand or a bad disk has cut its body
        return _nothing(subscription, "the event's body cannot be read")
    return Rendered(
        method=request.method,
        url=request.url,
        headers=request.headers,
        body=request.body,
        stand_in=subscription.service_secret_locked is not None,
    )


def _nothing(subscription: Subscription, trouble: str) -> Rendered:
    method = subscription.method or "POST"
    return Rendered(method, subscription.url, {}, b"", trouble=trouble)


def _event(event: StoredEvent | Recent) -> Event:
    source = f"/taskbell/{event.provider}" if event.provider else "/taskbell"
    return Event(event.id, event.type, source, event.subject, event.created_at, event.body)
