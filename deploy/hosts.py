"""Which Host header is answered.

A stranger's page whose name is suddenly one of our address (DNS rebinding) is of one origin with us
as far as its browser knows; only the Host header still tells. Such a name is a public one. So any
name but ours is refused, save those that no stranger can own: addresses, names without a dot, and
the suffixes that are not in the public DNS. Those are what proxies, containers and people inside
call us, and there is nothing to set.

Callbacks and health checks are answered under any name. A callback URL's token is proof enough, and
a push that a proxy's rewritten Host turned away would be lost; health tells nothing, and whoever
checks it may call us anything.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv4Address

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.pages.words import TAGS, wished, words
from receiver.problems import Problem, problem_response

_UNDER_ANY_NAME = re.compile(r"/callbacks/|/healthz\Z|/readyz\Z")
_HOST = re.compile(rb"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]*)?")
_NOT_PUBLIC = (
    *(".localhost", ".test", ".local", ".home.arpa"),  # RFC 6761, 6762, 8375
    *(".internal", ".svc"),  # never to be delegated; Kubernetes' services
)


class KnownHosts:
    """Refuses requests for other hosts. own: names that are ours, in lower case."""

    def __init__(self, app: ASGIApp, own: Collection[str]) -> None:
        self._app = app
        self._own = frozenset(own)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._answered(scope):
            await self._app(scope, receive, send)
            return
        await _refusal(Headers(scope=scope))(scope, receive, send)

    def _answered(self, scope: Scope) -> bool:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        # two, when a target names one itself (deploy/connections.py): no proxy makes such a target
        # out of a push, so it excuses no other name
        if len(hosts) < 2 and _UNDER_ANY_NAME.match(scope["path"]):
            return True
        return bool(hosts) and all(map(self._knows, hosts))

    def _knows(self, host: bytes) -> bool:
        found = _HOST.fullmatch(host.lower())
        if found is None:
            return False
        name = found[1].decode("ascii").removesuffix(".")
        return name in self._own or not may_be_public(name)


def _refusal(headers: Headers) -> Response:
    """For a browser, a page that says which setting; it names neither the host nor our own."""
    if "text/html" not in headers.get("accept", ""):
        return problem_response(Problem(421, _RULE))
    language = wished(headers.get("accept-language", ""))
    text = words(language)
    page = _PAGE.format(
        language=TAGS[language], title=text("error.421"), help=text("error.help_421")
    )
    return HTMLResponse(page, 421)


_RULE = (
    "this server does not answer to that host name: set TASKBELL_PUBLIC_URL to the address that"
    " people use, or ask for an IP address or a local name"
)
_PAGE = """<!doctype html>
<html lang="{language}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<h1>{title}</h1>
<p>{help}</p>
</html>
"""


def may_be_public(name: str) -> bool:
    """Whether a stranger could own such a name.

    >>> may_be_public("evil.example.net"), may_be_public("192.0.2.7"), may_be_public("taskbell")
    (True, False, False)
    """
    if "." not in name or name.startswith("[") or name.endswith(_NOT_PUBLIC):
        return False
    try:
        IPv4Address(name)
    except ValueError:
        return True
    return False
