"""A preview shows what would be sent, in every format, and no secret."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dispatch.preview import HIDDEN, preview
from dispatch.sink import CannotRender, Request, Target, sinks
from tests.conftest import START
from tests.dispatch.chat_events import AT, about
from tests.making import subscription_of

PLAIN = subscription_of(
    START,
    url="https://a.example/…",
    header_names=("X-Team",),
    headers_locked="locked headers",
    secret_locked="locked secret",
    old_secret_locked="locked old secret",
    url_locked="locked url",
    service_secret_locked="locked service secret",
)


def shown(**values: Any) -> Request:
    return preview(about(), replace(PLAIN, **values), AT)


@pytest.mark.parametrize("name", sorted(sinks().keys() - {"apprise"}))
def test_every_format_is_shown_as_it_is_sent_and_without_a_secret(name: str) -> None:
    target = Target("sub_1", PLAIN.url, ("whsec_" + "A" * 43 + "=",), {})
    sent = sinks()[name].render(about(), target, AT)

    request = shown(format=name)

    assert request.url == PLAIN.url
    assert request.method == sent.method
    assert request.headers.keys() == sent.headers.keys() | {"x-team"}
    assert request.headers["x-team"] == HIDDEN
    assert json.loads(sent.body).items() <= json.loads(request.body).items()
    assert "locked" not in repr(request)


def test_what_only_a_secret_url_makes_is_not_shown() -> None:
    with pytest.raises(CannotRender, match="which is a secret"):
        shown(format="apprise")


def test_a_signature_is_hidden() -> None:
    assert shown().headers["webhook-signature"] == f"v1,{HIDDEN}"


def test_a_shape_is_applied() -> None:
    request = shown(shape="{text: data.task.model}", method="PUT")

    assert (request.method, request.body) == ("PUT", b'{"text":"MiniMax-Hailuo-2.3"}')


def test_a_shape_that_makes_nothing_says_so() -> None:
    with pytest.raises(CannotRender, match="makes nothing"):
        shown(shape="data.nothing")
