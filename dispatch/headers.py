"""Custom headers of a subscription: which may be set, and how they join ours.

Checked when saved, so that sending never meets a header that cannot be sent, opens a metadata
service, or changes how the request is framed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

MOST_HEADERS = 20
LONGEST_NAME = 64
LONGEST_VALUE = 1024

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")

_OURS = frozenset(
    {
        # framing and hop-by-hop (RFC 9110, 7.6.1): a Connection header could name, and so make a
        # proxy strip, our signature
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        # what we say about the request
        "accept-encoding",
        "content-encoding",
        "content-type",
        "cookie",
        "set-cookie",
        "user-agent",
        # a POST must stay a POST
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        # what cloud metadata services want to see before they hand out credentials
        "metadata",
        "metadata-flavor",
        "x-google-metadata-request",
        "x-identity-header",
        "x-vault-request",
    }
)
_OUR_PREFIXES = (
    *("ce-", "proxy-", "webhook-"),
    *("x-aliyun-ecs-metadata-", "x-aws-ec2-metadata-", "x-metadata-"),
)


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers as given, when all may be sent. Raises ValueError, with no value in it."""
    if len(headers) > MOST_HEADERS:
        raise ValueError(f"{len(headers)} headers: at most {MOST_HEADERS} may be added")
    seen: set[str] = set()
    for place, (name, value) in enumerate(headers.items(), start=1):
        _check_name(name, place)
        if name.lower() in seen:
            raise ValueError(f"header {name} is there twice")
        seen.add(name.lower())
        _check_value(name, value)
    return dict(headers)


def with_custom(ours: Mapping[str, str], custom: Mapping[str, str]) -> dict[str, str]:
    """Both together, names in lower case; where they meet, ours stay.

    >>> with_custom({"webhook-id": "evt_1"}, {"X-Team": "a", "Webhook-Id": "forged"})
    {'x-team': 'a', 'webhook-id': 'evt_1'}
    """
    own = {name.lower(): value for name, value in ours.items()}
    added = {name.lower(): value for name, value in custom.items()}
    return {name: value for name, value in added.items() if name not in own} | own


def _check_name(name: str, place: int) -> None:
    if len(name) > LONGEST_NAME or not _TOKEN.fullmatch(name):
        # not quoted: it may be a token that slipped into its place
        raise ValueError(
            f"header {place}: that is not a header name of 1 to {LONGEST_NAME} characters"
        )
    lower = name.lower()
    if lower in _OURS or lower.startswith(_OUR_PREFIXES):
        raise ValueError(f"header {name} may not be set")


def _check_value(name: str, value: str) -> None:
    if len(value) > LONGEST_VALUE:
        raise ValueError(f"header {name} is longer than {LONGEST_VALUE} characters")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"header {name} holds more than printable ASCII, or blanks at its ends")
