"""How dispatch would send an event to a subscription, for the pages to show."""

from __future__ import annotations

from datetime import datetime

from dispatch.preview import NoPreview, preview
from dispatch.sink import Event
from receiver.pages.sendable import Rendered
from store.matching import Subscription
from store.sent import StoredEvent


def render(event: StoredEvent, subscription: Subscription, at: datetime) -> Rendered:
    """The request of an attempt that starts at a time, its secrets masked (Render)."""
    try:
        shown = preview(_event(event), subscription, at)
    except NoPreview as error:
        method = subscription.method or "POST"
        return Rendered(method, subscription.url, {}, b"", trouble=str(error))
    return Rendered(shown.method, shown.url, shown.headers, shown.body, shown.unsigned)


def _event(event: StoredEvent) -> Event:
    source = f"/taskbell/{event.provider}" if event.provider else "/taskbell"
    return Event(event.id, event.type, source, event.subject, event.created_at, event.body)
