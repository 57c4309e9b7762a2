"""What an attempt would send, shown without any secret: none is opened to make it."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import datetime

from dispatch.sink import CannotRender, Event, Request, Target, sinks
from dispatch.sinks.apprise import Apprise
from store.matching import Subscription

HIDDEN = "•••"
_NO_SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
_SIGNATURE = "webhook-signature"


def preview(event: Event, subscription: Subscription, now: datetime) -> Request:
    """The request, with its URL as it is shown, and what would be secret hidden.

    What a service has signed in the body is signed with no secret of its. Raises CannotRender when
    there is nothing to show, KeyError for a format of a later version.
    """
    sink = sinks()[subscription.format]
    if isinstance(sink, Apprise):
        raise CannotRender("apprise makes its messages from the whole URL, which is a secret")
    request = sink.render(event, _target(subscription), now)
    headers = dict(request.headers)
    if _SIGNATURE in headers:
        headers[_SIGNATURE] = f"v1,{HIDDEN}"
    return replace(request, url=subscription.url, headers=headers, instead=None)


def _target(subscription: Subscription) -> Target:
    return Target(
        subscription_id=subscription.id,
        url=subscription.url,
        secrets=(_NO_SECRET,),
        headers=dict.fromkeys(subscription.header_names, HIDDEN),
        language=subscription.language,
        service_secret=HIDDEN if subscription.service_secret_locked else None,
        shape=subscription.shape,
        method=subscription.method or "POST",
    )
