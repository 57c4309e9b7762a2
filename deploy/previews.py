"""What a subscription's next message would look like: the newest event it wants, rendered."""

from __future__ import annotations

from deploy.sample import sample_event
from deploy.service import Service
from dispatch.preview import preview
from dispatch.sink import CannotRender, Event
from receiver.pages.subscriptions import Preview
from store.matching import Subscription
from store.newest import Recent, newest_wanted


async def preview_of(service: Service, subscription: Subscription) -> Preview:
    """Made of a sample when it wants none of the newest events."""
    recent = await service.store.read(newest_wanted, subscription)
    event = _event(recent) if recent else sample_event(service.clock)
    event_id = recent.id if recent else None
    try:
        request = preview(event, subscription, service.clock())
    except CannotRender as error:
        return Preview(event_id, event.type, "", {}, b"", str(error))
    except KeyError:  # written by a newer version
        unknown = f"format {subscription.format!r} is not known here"
        return Preview(event_id, event.type, "", {}, b"", unknown)
    return Preview(event_id, event.type, request.method, request.headers, request.body)


def _event(recent: Recent) -> Event:
    return Event(
        id=recent.id,
        type=recent.type,
        source=f"/taskbell/{recent.provider}" if recent.provider else "/taskbell",
        subject=recent.subject,
        time=recent.created_at,
        body=recent.body,
    )
