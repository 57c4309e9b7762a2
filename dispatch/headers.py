"""Custom headers of a subscription: which may be set, and how they join ours.

Checked when saved, so that sending never meets a header that cannot be sent, opens a metadata
service, changes how the request is framed, or tells a server behind the subscriber's proxy where
the request came from: such servers trust those headers, because proxies usually set them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

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
        "x-method",
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

# what proxies, CDNs, clouds and frameworks tell inner servers: the client's address, the host, URL
# and scheme that it asked for, its certificate, and who signed in
_ORIGIN = frozenset(
    {
        "base-url",
        "cdn-loop",
        "client-cert",
        "client-cert-chain",
        "client-ip",
        "destination",
        "front-end-https",
        "http-url",
        "remote-user",
        "request-uri",
        "via",
        "x-base-url",
        "x-client",
        "x-client-cert",
        "x-credential-identifier",
        "x-custom-ip-authorization",
        "x-host",
        "x-host-override",
        "x-http-destinationurl",
        "x-http-host-override",
        "x-http-path-override",
        "x-https",
        "x-ip",
        "x-ip-address",
        "x-override-url",
        "x-proto",
        "x-protocol",
        "x-real-host",
        "x-remote-user",
        "x-replaced-path",
        "x-request-uri",
        "x-scheme",
        "x-server-name",
        "x-ssl",
        "x-url-scheme",
    }
)
_ORIGIN_PREFIXES = (
    *("ali-cdn-", "cf-", "cloudfront-", "do-connecting-", "fastly-", "fly-", "geoip-"),
    *("incap-", "ssl-client-", "tailscale-", "true-client-", "x-accel-", "x-akamai-"),
    *("x-amz-cf-", "x-amzn-", "x-appengine-", "x-arr-", "x-auth-request-"),
    *("x-authenticated-", "x-azure-", "x-cdn-", "x-client-cert-", "x-client-geo"),
    *("x-cluster-client-", "x-consumer-", "x-country", "x-envoy-", "x-forward", "x-geo"),
    *("x-goog-authenticated-", "x-goog-iap-", "x-middleware-", "x-ms-client-principal"),
    *("x-nf-", "x-orig-", "x-original-", "x-originating-", "x-pomerium-", "x-proxy-"),
    *("x-proxyuser-", "x-rewrite-", "x-sendfile", "x-ssl-", "x-sucuri-", "x-true-client-"),
    *("x-userinfo", "x-user-info", "x-vercel-", "x-webauth-"),
)
_ORIGIN_ANYWHERE = re.compile(
    r"forwarded|proxied|(?:^|-)(?:ip|ipv4|ipv6|via)$"
    r"|(?:^|-)(?:backend|client|connecting|edge|external|frontend|gateway|origin|original|originating"
    r"|peer|proxyuser|real|remote|requested|server|socket|source|src|true|upstream|user|visitor"
    r"|wan)-?(?:ip|addr|address|host|port)(?:-|$)"
)
# keys to what stands in front of a subscriber, which has to be given them by name
_KEYS = frozenset(
    {
        "cf-access-client-id",
        "cf-access-client-secret",
        "cf-access-token",
        "x-vercel-protection-bypass",
    }
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

    Headers that may not be set are left out: rows written under older rules may hold some.

    >>> with_custom({"webhook-id": "evt_1"}, {"X-Team": "a", "Webhook-Id": "forged", "Via": "b"})
    {'x-team': 'a', 'webhook-id': 'evt_1'}
    """
    own = {name.lower(): value for name, value in ours.items()}
    added = {name.lower(): value for name, value in custom.items() if why_not(name) is None}
    return {name: value for name, value in added.items() if name not in own} | own


@lru_cache(maxsize=1_000)  # asked for each delivery
def why_not(name: str) -> str | None:
    """Return why a header may not be set, or None. Names are compared as inner servers do.

    CGI and what came after it read X_Forwarded_For and X-Forwarded-For as one.
    """
    plain = re.sub("[^a-z0-9]", "-", name.lower())
    if plain in _OURS or plain.startswith(_OUR_PREFIXES):
        return "it is Taskbell's own, or changes how the request is read"
    if plain in _KEYS:
        return None
    if (
        plain in _ORIGIN
        or plain.startswith(_ORIGIN_PREFIXES)
        or _ORIGIN_ANYWHERE.search(plain) is not None
    ):
        return (
            "servers take from it where a request came from, or whose it is;"
            " for a value of your own use a name of your own, such as X-Team"
        )
    return None


def _check_name(name: str, place: int) -> None:
    if len(name) > LONGEST_NAME or not _TOKEN.fullmatch(name):
        # not quoted: it may be a token that slipped into its place
        raise ValueError(
            f"header {place}: that is not a header name of 1 to {LONGEST_NAME} characters"
        )
    reason = why_not(name)
    if reason is not None:
        raise ValueError(f"header {name} may not be set: {reason}")


def _check_value(name: str, value: str) -> None:
    if len(value) > LONGEST_VALUE:
        raise ValueError(f"header {name} is longer than {LONGEST_VALUE} characters")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"header {name} holds more than printable ASCII, or blanks at its ends")
