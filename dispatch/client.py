"""Sends one POST to a subscriber: to a checked address, within one deadline, reading little.

HTTP/1.1 of our own: no proxies, cookies, redirects or unpacking to switch off, and a third of a
general client's time. The guard is asked three times: about the URL, about every address of its
name, and about the very number a socket connects to.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Self
from urllib.parse import urlsplit

from dispatch.connection import LONGEST_BODY, Closed, Connection, NotHTTP, Origin, Resting
from dispatch.guard import Guard, NoSuchHost, Place, Refused
from dispatch.sink import Answer, Request
from store.clock import monotonic
from store.tls import by_alternative_names

__all__ = ["LONGEST_BODY", "Client", "SendFailed"]

_LONGEST_REASON = 200
_DNS_SECONDS = 10
_PORT = re.compile(r"\.?(?::[0-9]+)?$")
_USUAL_PORTS = {("http", 80), ("https", 443)}  # not told in the host header
_REMEMBERED_MOST = 10_000  # URLs


class SendFailed(Exception):
    """No answer came. reason is fit for a log and a delivery's history; blocked: the guard said no."""

    def __init__(self, reason: str, *, blocked: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.blocked = blocked


@dataclass(frozen=True, slots=True)
class _Target:
    """What a URL says about where to connect, and how the request begins."""

    origin: Origin
    address: str | None  # when the host is a number
    head: str  # after the method


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
        """Timeout covers the whole attempt; limit is the number of open connections, idle or not.

        tls replaces the default context, which trusts the system's certificate authorities.
        """
        self._guard = guard
        self._seconds = timeout.total_seconds()
        self._user_agent = user_agent
        self._tls = by_alternative_names(tls) if tls else None
        self._targets: dict[str, _Target] = {}
        self._lookups: dict[tuple[str, int], asyncio.Task[list[str]]] = {}
        self._places = asyncio.Semaphore(limit)  # one for each open connection
        self._waiting = 0  # for a place
        self._open: set[Connection] = set()
        self._resting = Resting()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection, in use or not, and wait until they are gone."""
        self._closed = True
        self._resting.close()
        lookups = list(self._lookups.values())
        for lookup in lookups:
            lookup.cancel()
        made = [connection for connection in self._open if connection.made]
        for connection in made:
            connection.abort()
        lost = (connection.lost for connection in made)
        await asyncio.gather(*lookups, *lost, return_exceptions=True)

    async def post(self, request: Request, *, spent: float = 0.0) -> Answer:
        """Send, and read the answer up to 64 KiB. Raises SendFailed when there is none.

        spent: seconds of the time for the whole attempt that are gone already.

        A status that came in time is an answer, even if its body is cut short or never ends:
        what the receiver has taken in should not be sent again.
        """
        started = monotonic()
        target = self._target(request.url)
        message = _message(target, request)
        deadline = asyncio.get_running_loop().time() + self._seconds - spent
        try:
            connection = self._resting.take(target.origin)
            if connection is None:
                connection = await self._connection(target, deadline)
            await connection.exchange(message, deadline)
        except Refused as refused:
            raise _failure(refused) from None
        except (NotHTTP, Closed, OSError) as error:
            raise SendFailed(self._explain(error)) from None
        body = bytes(connection.body[:LONGEST_BODY])
        answer = Answer(connection.status, _headers(connection.fields), body, monotonic() - started)
        self._rest(connection)
        return answer

    def _target(self, url: str) -> _Target:
        """The URL as written.

        The same text always gets the same verdict; what it resolves to is checked for each
        connection.
        """
        target = self._targets.get(url)
        if target is None:
            try:
                place = self._guard.check_url(url)
            except Refused as refused:
                raise _failure(refused) from None
            if len(self._targets) >= _REMEMBERED_MOST:
                self._targets.clear()
            target = self._targets[url] = _read(url, place, self._user_agent)
        return target

    def _rest(self, connection: Connection) -> None:
        if connection.reusable() and not self._waiting and not self._closed:
            self._resting.add(connection)
        else:
            connection.abort()

    async def _connection(self, target: _Target, deadline: float) -> Connection:
        async with asyncio.timeout_at(deadline):
            await self._take_place()
            connection = Connection(target.origin, self._forget)
            self._open.add(connection)
            try:
                await self._connect(connection, target, deadline)
            except BaseException:
                self._forget(connection)
                raise
            return connection

    async def _take_place(self) -> None:
        if self._places.locked():
            self._resting.drop_oldest()
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1

    def _forget(self, connection: Connection) -> None:
        """It is gone, or never came to be; both may be told of the same one."""
        if connection in self._open:
            self._open.remove(connection)
            self._resting.forget(connection)
            self._places.release()

    async def _connect(self, connection: Connection, target: _Target, deadline: float) -> None:
        secure = target.origin.scheme == "https"
        context = self._context() if secure else None
        await asyncio.get_running_loop().create_connection(
            lambda: connection,
            sock=await self._reached(target, deadline),
            ssl=context,
            server_hostname=target.origin.host if secure else None,
        )

    async def _reached(self, target: _Target, deadline: float) -> socket.socket:
        """Try one address after the other; none may use up the time of those behind it."""
        loop, (_, host, port) = asyncio.get_running_loop(), target.origin
        addresses = [target.address] if target.address else await self._addresses(host, port)
        for left in range(len(addresses), 1, -1):
            share = (deadline - loop.time()) / left
            with contextlib.suppress(OSError):
                async with asyncio.timeout(share):
                    return await self._connected(addresses[-left], port)
        return await self._connected(addresses[-1], port)

    async def _connected(self, address: str, port: int) -> socket.socket:
        self._guard.check_address(address, port)
        opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(opened, (address, port))
            self._guard.check_address(opened.getpeername()[0], port)
        except BaseException:
            opened.close()
            raise
        return opened

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        """One look-up for all who ask within 10 s. Safe: each socket is checked again."""
        key = (host, port)
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = asyncio.ensure_future(self._guard.addresses(host, port))
            self._lookups[key] = lookup
            lookup.add_done_callback(lambda done: self._looked_up(key, done))
        return await asyncio.shield(lookup)

    def _looked_up(self, key: tuple[str, int], lookup: asyncio.Task[list[str]]) -> None:
        if lookup.cancelled() or lookup.exception() is not None:
            del self._lookups[key]
        else:
            lookup.get_loop().call_later(_DNS_SECONDS, self._lookups.pop, key, None)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = by_alternative_names(ssl.create_default_context())
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def _explain(self, error: Exception) -> str:
        """Say in our words what went wrong: foreign texts quote foreign bytes."""
        match error:
            case ssl.SSLCertVerificationError():
                return f"TLS: certificate: {error.verify_message[:_LONGEST_REASON]}"
            case ssl.SSLError():
                return f"TLS: {(error.reason or 'handshake failed').lower().replace('_', ' ')}"
            case Closed():
                return "connection closed without an answer"
            case NotHTTP():
                return "the answer is not valid HTTP, or its headers are too large"
            case ConnectionRefusedError():
                return "connection refused"
            case ConnectionResetError() | BrokenPipeError():
                return "connection reset"
            case OSError(errno=int() as number):
                return os.strerror(number).lower()
            case TimeoutError():
                return f"timed out after {self._seconds:g} s"
            case _:
                return "could not send"


def _read(url: str, place: Place, user_agent: str) -> _Target:
    """Path and host go out as written, without the fragment, a final dot, a usual port."""
    parts = urlsplit(url)
    path = parts.path or "/"
    host = _PORT.sub("", parts.netloc)
    if (place.scheme, place.port) not in _USUAL_PORTS:
        host = f"{host}:{place.port}"
    return _Target(
        origin=Origin(place.scheme, place.host, place.port),
        address=None if place.address is None else str(place.address),
        head=f" {path}{'?' if parts.query else ''}{parts.query} HTTP/1.1\r\n"
        f"host: {host}\r\nuser-agent: {user_agent}\r\naccept-encoding: identity\r\n",
    )


def _message(target: _Target, request: Request) -> bytes:
    fields = "".join([f"{name}: {value}\r\n" for name, value in request.headers.items()])
    head = f"{request.method}{target.head}{fields}content-length: {len(request.body)}\r\n\r\n"
    lines = len(request.headers) + 6
    if head.count("\n") != lines or head.count("\r") != lines or "\0" in head:
        raise SendFailed("a header holds a line break or NUL")
    return head.encode() + request.body


def _headers(fields: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Lower-case names; repeated ones joined, as RFC 9110 (5.3) reads them."""
    headers: dict[str, str] = {}
    for name, value in fields:
        lower, text = name.decode().lower(), value.decode(errors="replace")
        headers[lower] = f"{headers[lower]}, {text}" if lower in headers else text
    return headers


def _failure(refused: Refused) -> SendFailed:
    if isinstance(refused, NoSuchHost):
        return SendFailed(str(refused))
    return SendFailed(f"address refused: {refused}", blocked=True)
