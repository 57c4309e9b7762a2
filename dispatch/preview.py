"""What would be sent: the sink's own request, made without opening a single secret.

Nothing that is sent is kept, so this is also how an attempt's request is shown afterwards: body and
headers come from the event and the subscription alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from dispatch.redaction import MASK
from dispatch.shape import BadShapeError
from dispatch.signing import new_secret
from dispatch.sink import Event, Request, Target, sinks
from store.matching import Subscription


class NoPreview(ValueError):
    """Nothing can be sent of this; the message says why."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A request for people. Values of secret headers, and signatures, are masked.

    unsigned: the service's own signature is added when it is sent.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    unsigned: bool


def preview(event: Event, subscription: Subscription, at: datetime) -> Preview:
    """The request of an attempt that starts at a time. Raises NoPreview."""
    sink = sinks().get(subscription.format)
    if sink is None:
        raise NoPreview(f"format {subscription.format!r} is not known here")
    try:
        request = sink.render(event, _without_secrets(subscription), at)
    except BadShapeError as error:
        raise NoPreview(str(error)) from None
    return Preview(
        method=request.method,
        url=subscription.url,
        headers=_masked(request, subscription),
        body=request.body,
        unsigned=subscription.service_secret_locked is not None,
    )


def _without_secrets(subscription: Subscription) -> Target:
    return Target(
        subscription_id=subscription.id,
        url=subscription.url,
        secrets=(new_secret(),),
        headers=dict.fromkeys(subscription.header_names, MASK),
        language=subscription.language,
        shape=subscription.shape,
        method=subscription.method or "POST",
    )


def _masked(request: Request, subscription: Subscription) -> dict[str, str]:
    signature = " ".join([f"v1,{MASK}"] * (2 if subscription.old_secret_locked else 1))
    return {
        name: signature if name == "webhook-signature" else value
        for name, value in request.headers.items()
    }
