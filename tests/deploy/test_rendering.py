"""What pages show of a request, in every format there is."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from deploy.rendering import render
from deploy.sample import sample_event
from dispatch.sink import sinks
from receiver.pages.sendable import Rendered
from store.clock import ManualClock
from store.matching import Subscription
from store.sent import StoredEvent
from tests.conftest import START
from tests.making import subscription_of

_HIDDEN = subscription_of(
    START,
    url="https://93.184.216.34/…",
    header_names=("x-team",),
    headers_locked="locked",
    url_locked="locked",
    service_secret_locked="locked",
)


def rendered(subscription: Subscription, body: bytes | None = None) -> Rendered:
    event = sample_event(ManualClock(START))
    kept = StoredEvent(
        1, event.id, event.type, "minimax", event.subject, event.subject, START, body or event.body
    )
    return render(kept, subscription, START)


@pytest.mark.parametrize("format_name", [name for name in sinks() if name != "apprise"])
def test_every_format_is_shown_without_a_secret_opened(format_name: str) -> None:
    shown = rendered(replace(_HIDDEN, format=format_name))

    assert shown.trouble is None
    assert shown.url == "https://93.184.216.34/…"
    assert shown.headers["x-team"] == "•••"
    assert shown.headers.get("webhook-signature", "v1,•••") == "v1,•••"
    assert shown.body
    assert shown.stand_in


@pytest.mark.parametrize("format_name", sinks())
def test_a_body_that_was_cut_breaks_no_page(format_name: str) -> None:
    cut = partial(rendered, replace(_HIDDEN, format=format_name))

    assert cut(b'{"id":"evt_').body or cut(b'{"id":"evt_').trouble


def test_what_only_a_secret_url_makes_is_not_shown() -> None:
    shown = rendered(replace(_HIDDEN, format="apprise"))

    assert "a secret" in (shown.trouble or "")


def test_a_format_of_a_later_version_is_trouble() -> None:
    shown = rendered(replace(_HIDDEN, format="pigeon"))

    assert (shown.body, shown.trouble) == (b"", "format 'pigeon' is not known here")
