"""Connections to subscribers: one exchange at a time, and a rest between two."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import NamedTuple, cast

import httptools

LONGEST_BODY = 64 * 1024
_LONGEST_HEAD = 64 * 1024  # 1xx answers included
_LONGEST_HEADER = 8 * 1024
_MOST_HEADERS = 200
_LONGEST_ANSWER = _LONGEST_HEAD + LONGEST_BODY  # as sent, with chunk sizes and trailers
# Node and uvicorn close idle connections after 5 s; a POST that meets that moment is lost
_REST_SECONDS = 4
# the parser takes RTSP/1.0, ICE/1.0 and versions of HTTP that we do not speak, and tells no name
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?=[ \r\n])")
_SWITCHED = 101


class Origin(NamedTuple):
    """What a connection may be used again for. A tuple: it is looked up for each POST."""

    scheme: str
    host: str
    port: int


class NotHTTP(Exception):
    """The answer breaks the protocol's rules, or our limits."""


class Closed(Exception):
    """The other side closed the connection."""


class Connection(asyncio.Protocol):
    """One connection. After an exchange: status, fields and body of its answer."""

    def __init__(self, origin: Origin, on_lost: Callable[[Connection], None]) -> None:
        self.origin = origin
        self.lost = asyncio.get_running_loop().create_future()
        self.rested_at = 0.0
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._keep_alive = False
        self.forget_answer()

    def forget_answer(self) -> None:
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self._received = 0
        self._head_size = 0
        self._complete = False
        self._unread = b""  # of a line that is not whole yet
        self._at_start = True  # of an answer: a status line must follow
        self._final = False  # its status line went by

    async def exchange(self, message: bytes, deadline: float) -> None:
        """Send, and wait for the answer. A status that came is one, whatever becomes of its body.

        Raises NotHTTP, Closed, OSError; TimeoutError at the deadline, in the loop's time.
        """
        loop = asyncio.get_running_loop()
        if self._transport is None or self._transport.is_closing():
            raise Closed
        self._keep_alive = False
        self._waiter = loop.create_future()
        timer = loop.call_at(deadline, self._end, TimeoutError())
        self._transport.write(message)
        try:
            await self._waiter
        except BaseException:
            self.abort()
            raise
        finally:
            timer.cancel()
            self._waiter = None

    def reusable(self) -> bool:
        """Whether the last exchange left nothing behind, on either side."""
        return (
            self._keep_alive
            and self._transport is not None
            and not self._transport.is_closing()
            and self._transport.get_write_buffer_size() == 0
        )

    @property
    def made(self) -> bool:
        return self._transport is not None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close without a goodbye, which a TLS peer could keep us waiting for."""
        if self._transport is not None:
            self._transport.abort()

    def _end(self, failure: Exception) -> None:
        """The answer is whole, or no more of it will come: the failure counts without a status."""
        if self._waiter is None or self._waiter.done():
            return
        if self.status:
            self._waiter.set_result(None)
        else:
            self._waiter.set_exception(failure)

    # what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's only looks like one

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():  # nobody asked: what else might come?
            self._keep_alive = False
            self.abort()
            return
        self._received += len(data)
        try:
            self._feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, NotHTTP):
            self._keep_alive = False
            self._end(NotHTTP())
            return
        if self._complete or len(self.body) >= LONGEST_BODY or self._received > _LONGEST_ANSWER:
            self._end(NotHTTP())  # or an answer, when there is a status

    def _feed(self, data: bytes) -> None:
        """Give the parser what came: line by line, until the final status line has been read."""
        if self._final:
            self._parser.feed_data(data)
            return
        data, start = self._unread + data, 0
        final = False
        while not final and (end := data.find(b"\n", start) + 1):
            final = self._read_line(data[start:end])
            self._parser.feed_data(data[start:end])
            start = end
        self._final, self._unread = final, data[start:]
        if final:
            self._parser.feed_data(self._unread)
        elif len(self._unread) > _LONGEST_HEADER:
            raise NotHTTP

    def _read_line(self, line: bytes) -> bool:
        """Follow the heads of interim answers, which have no bodies; True at the final status line."""
        empty = not line.strip(b"\r\n")
        if not self._at_start:
            self._at_start = empty  # the head of an interim answer is over
        elif not empty:  # a line break may come first (RFC 9112, 2.2)
            status_line = _STATUS_LINE.match(line)
            if status_line is None:
                raise NotHTTP
            status = int(status_line[1])
            self._at_start = False
            return status >= 200 or status == _SWITCHED
        return False

    def eof_received(self) -> None:
        self._keep_alive = False
        self._end(Closed())

    def connection_lost(self, error: Exception | None) -> None:
        self._keep_alive = False
        self._end(error if isinstance(error, OSError) else Closed())
        if not self.lost.done():
            self.lost.set_result(None)
        self._on_lost(self)

    # what the parser calls: an error raised here stops it

    def on_message_begin(self) -> None:
        if self._complete:
            raise NotHTTP  # a second answer

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:
            return  # a trailer
        size = len(name) + len(value)
        self._head_size += size
        self.fields.append((name, value))
        if (
            size > _LONGEST_HEADER
            or self._head_size > _LONGEST_HEAD
            or len(self.fields) > _MOST_HEADERS
        ):
            raise NotHTTP

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 100:
            raise NotHTTP
        if status >= 200 or status == _SWITCHED:
            self.status = status
        else:
            self.fields.clear()

    def on_body(self, chunk: bytes) -> None:
        self.body += chunk

    def on_message_complete(self) -> None:
        if self.status:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()


class Resting:
    """Connections between two exchanges, for a few seconds each: the last to come goes first."""

    def __init__(self) -> None:
        self._by_origin: dict[Origin, dict[Connection, None]] = {}
        self._by_age: dict[Connection, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.forget_answer()
        connection.rested_at = loop.time()
        self._by_age[connection] = None
        self._by_origin.setdefault(connection.origin, {})[connection] = None
        if self._timer is None:
            self._timer = loop.call_later(_REST_SECONDS, self._sweep)

    def take(self, origin: Origin) -> Connection | None:
        while origin in self._by_origin:
            connection = next(reversed(self._by_origin[origin]))
            self.forget(connection)
            if connection.reusable() and not _rested_too_long(connection):
                return connection
            connection.abort()
        return None

    def drop_oldest(self) -> None:
        if self._by_age:
            connection = next(iter(self._by_age))
            self.forget(connection)
            connection.abort()

    def forget(self, connection: Connection) -> None:
        if connection in self._by_age:
            del self._by_age[connection]
            same = self._by_origin[connection.origin]
            del same[connection]
            if not same:
                del self._by_origin[connection.origin]

    def close(self) -> None:
        """Stop the timer; the connections are the client's to close."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        for connection in list(self._by_age):
            if not _rested_too_long(connection):
                break
            self.forget(connection)
            connection.close()
        self._timer = None
        if self._by_age:
            oldest = next(iter(self._by_age)).rested_at
            self._timer = asyncio.get_running_loop().call_at(oldest + _REST_SECONDS, self._sweep)


def _rested_too_long(connection: Connection) -> bool:
    return asyncio.get_running_loop().time() - connection.rested_at >= _REST_SECONDS
