"""Sends one POST to a subscriber: to a checked address, within one deadline, reading little.

aiohttp is known only here. Its resolver and its socket factory are the two places where the
guard is asked: the first sees every answer for a name, the second the number that is connected to.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from datetime import timedelta
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from dispatch.guard import Guard, NoSuchHost, Refused
from dispatch.sink import Answer, Request
from store.clock import monotonic
from store.text import clean

LONGEST_BODY = 64 * 1024
_LONGEST_HEADER = 8 * 1024
_LONGEST_REASON = 200
_DNS_SECONDS = 10
_REMEMBERED_MOST = 10_000  # URLs
# Node and uvicorn close idle connections after 5 s; a POST that meets that moment is lost
_KEEPALIVE_SECONDS = 4


class SendFailed(Exception):
    """No answer came. reason is fit for a log and a delivery's history; blocked: the guard said no."""

    def __init__(self, reason: str, *, blocked: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.blocked = blocked


class Client:
    """Keeps connections to subscribers. Used inside a running loop; close it there."""

    def __init__(
        self,
        guard: Guard,
        *,
        timeout: timedelta,
        limit: int,
        user_agent: str,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Timeout covers the whole attempt; limit is the number of connections at a time.

        tls replaces the default context, which trusts the system's certificate authorities.
        """
        self._guard = guard
        self._timeout = timeout
        self._limit = limit
        self._tls = tls
        self._headers = {"user-agent": user_agent, "accept-encoding": "identity"}
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, request: Request) -> Answer:
        """Send, and read the answer up to 64 KiB. Raises SendFailed when there is none.

        A status that came in time is an answer, even if its body is cut short or never ends:
        what the receiver has taken in should not be sent again.
        """
        started = monotonic()
        url = self._checked(request.url)
        response = None
        body = bytearray()
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                response = await self._opened().post(
                    url,
                    data=request.body,
                    headers={**request.headers, **self._headers},
                    allow_redirects=False,
                )
                await _read_body(response, body)
        except TimeoutError:
            if response is None:
                raise SendFailed(f"timed out after {self._timeout.total_seconds():g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            if response is None:
                raise _explain(error) from None  # a traceback of it would quote the URL
        finally:
            # one that was read to its end is back in the pool already
            if response is not None and not response.content.at_eof():
                response.close()
        answer = bytes(body[:LONGEST_BODY])
        return Answer(response.status, _headers(response), answer, monotonic() - started)

    def _checked(self, url: str) -> URL:
        """The URL as written.

        The same text always gets the same verdict; what it resolves to is checked for each
        connection.
        """
        checked = self._urls.get(url)
        if checked is None:
            try:
                self._guard.check_url(url)
            except Refused as refused:
                raise _failure(refused) from None
            if len(self._urls) >= _REMEMBERED_MOST:
                self._urls.clear()
            checked = self._urls[url] = URL(url, encoded=True)
        return checked

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=_GuardedResolver(self._guard),
                    socket_factory=self._open_socket,
                    ttl_dns_cache=_DNS_SECONDS,  # safe: each socket is checked again
                    limit=self._limit,
                    limit_per_host=0,
                    keepalive_timeout=_KEEPALIVE_SECONDS,
                    ssl=self._tls or True,
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # a proxy or .netrc of the machine would bypass the guard
                auto_decompress=False,
                skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
                max_line_size=_LONGEST_HEADER,
                max_field_size=_LONGEST_HEADER,
            )
        return self._session

    def _open_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, target = address
        try:
            self._guard.check_address(str(target[0]), int(target[1]))
        except Refused as refused:
            raise _Stopped(refused) from None
        return socket.socket(family, kind, protocol)


class _Stopped(OSError):
    """Carries a refusal through aiohttp, which passes only OSErrors on unharmed."""

    def __init__(self, refused: Refused) -> None:
        # one text for all: of several alike errors the first is passed on, unlike ones are merged
        super().__init__("refused by the guard")
        self.refused = refused


class _GuardedResolver(AbstractResolver):
    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            addresses = await self._guard.addresses(host, port)
        except Refused as refused:
            raise _Stopped(refused) from None
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held here."""


async def _read_body(response: aiohttp.ClientResponse, body: bytearray) -> None:
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= LONGEST_BODY:
            break


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Lower-case names; repeated ones joined, as RFC 9110 (5.3) reads them."""
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        lower, text = clean(name.lower()), clean(value)
        headers[lower] = f"{headers[lower]}, {text}" if lower in headers else text
    return headers


def _failure(refused: Refused) -> SendFailed:
    if isinstance(refused, NoSuchHost):
        return SendFailed(str(refused))
    return SendFailed(f"address refused: {refused}", blocked=True)


def _explain(error: aiohttp.ClientError | OSError) -> SendFailed:
    """Say in our words what went wrong: aiohttp's texts quote URLs and foreign bytes."""
    cause: Exception = error
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
    match cause:
        case _Stopped():
            return _failure(cause.refused)
        case ssl.SSLCertVerificationError():
            return SendFailed(f"TLS: certificate: {cause.verify_message[:_LONGEST_REASON]}")
        case ssl.SSLError():
            return SendFailed(
                f"TLS: {(cause.reason or 'handshake failed').lower().replace('_', ' ')}"
            )
        case aiohttp.ServerDisconnectedError():
            return SendFailed("connection closed without an answer")
        case aiohttp.ClientResponseError():
            return SendFailed("the answer is not valid HTTP, or its headers are too large")
        case OSError(errno=errno.ECONNREFUSED):
            return SendFailed("connection refused")
        case OSError(errno=errno.ECONNRESET | errno.EPIPE):
            return SendFailed("connection reset")
        case OSError(errno=int() as number):
            return SendFailed(os.strerror(number).lower())
        case _:
            return SendFailed("could not send")
