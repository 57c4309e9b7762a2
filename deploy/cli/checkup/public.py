"""Whether providers reach us: a challenge to a callback URL of our own, as MiniMax sends it."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import ssl
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import httpx

from deploy.cli.certificates import trusted
from deploy.cli.checkup import paths
from deploy.cli.checkup.finding import Finding, Level, fail, ok, skip, warn
from deploy.cli.client import Client
from deploy.cli.errors import CommandError
from receiver.provider import providers

PATIENCE_SECONDS = 3.0
"""What MiniMax waits for the challenge (video generation, callback_url, read 2026-11-20)."""

_TIMEOUT_SECONDS = 8.0
_EXPIRES_IN = 60

_TUNNEL = (
    "for pushes set TASKBELL_PUBLIC_URL to an address of the internet (a proxy's, or of a tunnel"
    " like cloudflared or ngrok); polling works without; taskbell listen brings events here"
)


def public_url(api: Client, monotonic: Callable[[], float]) -> Sequence[Finding]:
    """Make a callback URL, look where it leads, send a challenge to it, then others like it."""
    try:
        made = api.post("/v1/callback-urls", {"provider": "minimax", "expires_in": _EXPIRES_IN})
    except CommandError as error:
        return [skip("public URL", f"no callback URL could be made: {error}")]
    url = str(made.body.get("url"))
    echoed = challenge(url, monotonic)
    more = paths.check(url, providers()) if echoed.level is Level.OK else []
    return [*_place(url), echoed, *more]


def _place(url: str) -> list[Finding]:
    """What the address alone says."""
    parts = urlsplit(url)
    host = str(parts.hostname)
    try:
        addresses = {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return [fail("public URL", f"{host} is not a name that DNS knows", _TUNNEL)]
    inside = [each for each in sorted(addresses) if not _public(each)]
    if inside:
        text = f"providers cannot reach {origin(url)} ({inside[0]} is not public)"
        return [warn("public URL", text, _TUNNEL)]
    if parts.scheme == "http":
        todo = "put TLS in front of it: whoever reads a callback URL on its way can push to it"
        return [warn("public URL", f"{origin(url)} is without TLS", todo)]
    return []


def _public(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_global


def challenge(url: str, monotonic: Callable[[], float]) -> Finding:
    """Send one, and hold the answer against what MiniMax wants: the same value, in three seconds.

    The path of the URL is a secret, so that only its origin is told.
    """
    word = secrets.token_hex(8)
    try:
        # made before the time counts: loading the certificates takes a fifth of a second
        with httpx.Client(timeout=_TIMEOUT_SECONDS, verify=trusted(), trust_env=False) as client:
            began = monotonic()
            answer = client.post(url, json={"challenge": word})
            took = monotonic() - began
    except httpx.TimeoutException:
        return _slow(url, _TIMEOUT_SECONDS)
    except httpx.HTTPError as error:
        return _no_connection(url, error)
    if answer.is_redirect:
        return _redirect(url, answer)
    if answer.status_code != 200:
        text = f"{origin(url)} answers a challenge with {paths.who(answer)}"
        return fail(
            "challenge", text, "is it this server's address? A proxy must hand on /callbacks"
        )
    if not _echoes(answer, word):
        text = f"{origin(url)} does not echo the challenge: something else answers there"
        return fail("challenge", text, "a proxy must hand on /callbacks unchanged")
    if took > PATIENCE_SECONDS:
        return _slow(url, took)
    return ok("challenge", f"{origin(url)} answered in {took * 1000:.0f} ms (MiniMax waits 3 s)")


def _echoes(answer: httpx.Response, word: str) -> bool:
    try:
        return bool(answer.json() == {"challenge": word})
    except ValueError:
        return False


def _redirect(url: str, answer: httpx.Response) -> Finding:
    to = answer.headers.get("location", "")
    where = origin(to) if "://" in to else "another path"
    text = f"{origin(url)} redirects to {where} (HTTP {answer.status_code}): a push would be lost"
    todo = "providers do not follow: set TASKBELL_PUBLIC_URL to where it leads"
    return fail("challenge", text, todo)


def _slow(url: str, seconds: float) -> Finding:
    text = f"{origin(url)} took {seconds:.1f} s for a challenge: MiniMax waits 3 s"
    return fail(
        "challenge", text, "look at the proxy or tunnel in front; Taskbell needs milliseconds"
    )


def _no_connection(url: str, error: BaseException) -> Finding:
    text = f"no connection to {origin(url)}: {_reason(error)}"
    todo = (
        "check the address, the proxy's certificate, the firewall (some networks do not let their"
    )
    return fail("challenge", text, f"{todo} own machines in from outside: try from another one)")


def _reason(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {cause.reason or 'failed'}"
        cause = cause.__cause__ or cause.__context__
    return str(error)[:200] or type(error).__name__


def origin(url: str) -> str:
    """Without the path, which may hold a token.

    >>> origin("https://taskbell.example.com/callbacks/minimax/cbt_x")
    'https://taskbell.example.com'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
