"""Clients' connections: how long each may keep us waiting, and how many there may be.

uvicorn waits for ever for the rest of a request and for an answer to be taken, sets no bound to a
request's head, and takes every connection until the descriptors are used up.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from deploy.headers import RAW_SECURITY_HEADERS
from receiver.problems import Problem, problem_response

logger = logging.getLogger("taskbell.connections")

_CLOSE = (b"connection", b"close")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take of us. What took too long is ended up to look_seconds later."""

    receive_seconds: float = 9.0
    """From a request's first byte to its last; also from the accept to the first byte."""
    idle_seconds: float = 5.0
    """Between two requests."""
    take_seconds: float = 9.0
    """For answers to be taken, once 64 KiB wait here."""
    shutdown_seconds: float = 2.0
    """For the rest of a request, and for answers to be taken, once the process was asked to end."""
    linger_seconds: float = 1.0
    """For a refused client to take the answer, while the rest of what it sends is thrown away."""
    look_seconds: float = 0.5
    connections: int = 1024
    unread_bytes: int = 64 * 1024 * 1024
    """Of answers that wait to be taken, of everybody together."""
    head_bytes: int = 64 * 1024
    head_lines: int = 100
    queued: int = 16
    """Requests sent ahead, before the answer to the first; each is an object of ours."""


class _Refused(Exception):
    """In a callback of the parser: this request ends here."""


class Connection(HttpToolsProtocol):
    """One client. Its crowd looks at it now and then."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        crowd: Crowd,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._crowd = crowd
        self._limits = crowd.limits
        self._refusal = Problem(400, "this is not an HTTP request")
        self._since = 0.0  # when it began to keep us waiting
        self._stuck_since: float | None = None
        self._leave_by = math.inf
        self._running: RequestResponseCycle | None = None  # the request that the app has
        self._receiving = False  # a request began and is not all here
        self._in_head = False
        self._head_bytes = 0  # of this request, all that was not its body
        self._offered = False  # another protocol, with the head that was just read
        self._refused_at: float | None = None
        self._served = False

    # What happens to it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self._crowd.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._drop_requests()
        self._crowd.left(self)

    def data_received(self, data: bytes) -> None:
        if self._refused_at is not None:
            return
        self._head_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(self._refusal)
            return
        if not self._receiving:
            self._head_bytes = 0
        elif self._head_bytes > self._limits.head_bytes and not self.transport.is_closing():
            self._refuse(_head_too_large())  # or what surrounds its chunks, or its trailers

    def _parse(self, data: bytes) -> None:
        """Feed the parser. Raises HttpParserError for what is no request, and what is refused."""
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as stopped:
                rest = rest[stopped.args[0] :]
                self._ignore_offer()
            else:
                return

    def _ignore_offer(self) -> None:
        """Parse the head again without its `Upgrade`, for a body that is framed as usual.

        The parser takes all that follows an offer for the other protocol, and in the next packet
        for a new request: a body would be read as requests of somebody else on this connection.
        """
        since, self._offered = self._since, False
        head = head_without_upgrade(
            self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers
        )
        self.parser = _new_parser(self)
        self.parser.feed_data(head)
        self._since = since

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._receiving = self._in_head = True
        self._since = self.loop.time()

    def on_headers_complete(self) -> None:
        refusal = self._judge_head()
        if refusal is not None:
            self._refusal = refusal
            raise _Refused  # the parser stops, and data_received answers
        if self.parser.should_upgrade():
            self._offered = True
            return
        super().on_headers_complete()
        self._in_head = False
        self.headers = []  # trailers are none, and come to where headers came

    def on_body(self, body: bytes) -> None:
        self._head_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._offered:
            return  # its head was all that was read
        self._receiving = False
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        # uvicorn's own sets a timer for every request, which costs as much as all else here
        self.server_state.total_requests += 1
        self._served = True
        if self.transport.is_closing():
            return
        if not self._receiving:
            self._since = self.loop.time()
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def shutdown(self) -> None:
        super().shutdown()
        self._leave_by = self.loop.time() + self._limits.shutdown_seconds

    # What its crowd asks and tells

    @property
    def waiting_since(self) -> float | None:
        """When we began to wait for this client, or None when it waits for us."""
        if self.flow.read_paused or (self._answering and not self._receiving_body):
            return None
        return self._since

    def look(self, now: float) -> None:
        """End what took too long."""
        if self.transport.is_closing() or self.flow.write_paused:
            self._look_at_stuck(now)
            return
        if self._refused_at is not None:
            if now >= min(self._refused_at + self._limits.linger_seconds, self._leave_by):
                self.transport.close()
            return
        self._stuck_since = None
        since = self.waiting_since
        if since is None or now < min(since + self._patience, self._leave_by):
            return
        if self._receiving:
            self._refuse(Problem(408, "the request did not come in time"))
        else:
            self.transport.close()

    def _look_at_stuck(self, now: float) -> None:
        """A closed transport, too, stays until its client has taken what it was sent."""
        if self._stuck_since is None:
            self._stuck_since = now
        elif now >= min(self._stuck_since + self._limits.take_seconds, self._leave_by):
            self.transport.abort()

    @property
    def unread_bytes(self) -> int:
        """How much of our answers waits here to be taken."""
        return self.transport.get_write_buffer_size()

    @property
    def _patience(self) -> float:
        idle = self._served and not self._receiving
        return self._limits.idle_seconds if idle else self._limits.receive_seconds

    @property
    def _answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    @property
    def _receiving_body(self) -> bool:
        """Of the request that is being answered, not of one that waits for its turn."""
        return self._receiving and not self._in_head and not self.pipeline

    # Refusing

    @property
    def _may_answer(self) -> bool:
        if self._receiving and not self._in_head:
            return self._receiving_body and not self.cycle.response_started
        return not self._answering

    def _judge_head(self) -> Problem | None:
        """RFC 9112 asks for one Host, except of HTTP/1.0; old health checks send that."""
        headers = self.headers
        hosts = [name for name, _ in headers].count(b"host")
        if hosts != 1 and (hosts or self.parser.get_http_version() != "1.0"):
            return Problem(400, "a request names its host once")
        if self.parser.get_method() == b"CONNECT":
            return Problem(400, "this is no proxy: it opens no connection to another host")
        if len(headers) > self._limits.head_lines or self._head_is_too_large():
            return _head_too_large()
        if len(self.pipeline) >= self._limits.queued:
            return Problem(400, "too many requests came ahead of their answers")
        return None

    def _head_is_too_large(self) -> bool:
        if self._head_bytes <= self._limits.head_bytes:
            return False
        lines = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.url) + lines > self._limits.head_bytes

    def _refuse(self, problem: Problem) -> None:
        """Answer, unless another answer is under way or went out; close."""
        if not self._may_answer:
            self.transport.close()
            return
        self.transport.write(_raw(problem, self.server_state.default_headers))
        self._refused_at = self.loop.time()
        self._drop_requests()
        self.flow.resume_reading()
        # a connection that is closed with something unread is reset, and the answer may be lost
        self.transport.write_eof()

    def _drop_requests(self) -> None:
        """Tell the app that nobody waits for its answer any more."""
        self.pipeline.clear()
        if self._running is not None:  # uvicorn tells the last request only, which may be waiting
            self._running.disconnected = True
            self._running.message_event.set()


class Crowd:
    """Everybody who is connected. For newcomers those have to go who kept us waiting longest."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._here: set[Connection] = set()
        self._pushed_out = 0

    def joined(self, connection: Connection) -> None:
        self._here.add(connection)
        if len(self._here) > self.limits.connections:
            self._make_room(connection)

    def left(self, connection: Connection) -> None:
        self._here.discard(connection)

    async def keep_watch(self) -> None:
        """Look at everybody, now and then, until canceled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.limits.look_seconds)
            try:
                for connection in list(self._here):
                    connection.look(loop.time())
                self._cut_off_greedy()
            except Exception:  # a bug with one must not leave the others unwatched for good
                logger.exception("looking at the connections failed")
            self._report()

    def disperse(self) -> None:
        """Cut everybody off."""
        for connection in list(self._here):
            connection.transport.abort()

    def _make_room(self, newcomer: Connection) -> None:
        # some at once: the search takes a while, and a flood brings the next one soon
        some = self._longest_waiting(newcomer)[: self.limits.connections // 32 + 1]
        for connection in some or [newcomer]:
            connection.transport.abort()
            self._here.discard(connection)
            self._pushed_out += 1

    def _longest_waiting(self, newcomer: Connection) -> list[Connection]:
        waiting = [
            (since, number, connection)
            for number, connection in enumerate(self._here - {newcomer})
            if (since := connection.waiting_since) is not None
        ]
        return [connection for _, _, connection in sorted(waiting)]

    def _cut_off_greedy(self) -> None:
        """Those for whom most waits, until no more waits than may."""
        unread = [(one.unread_bytes, number, one) for number, one in enumerate(self._here)]
        too_much = sum(size for size, _, _ in unread) - self.limits.unread_bytes
        if too_much <= 0:
            return
        for size, _, connection in sorted(unread, reverse=True):
            connection.transport.abort()
            too_much -= size
            if too_much <= 0:
                return

    def _report(self) -> None:
        if self._pushed_out:
            logger.warning(
                "too many connections: the idle and slow ones were closed",
                extra={"closed": self._pushed_out, "most": self.limits.connections},
            )
            self._pushed_out = 0


def head_without_upgrade(
    method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    r"""Write a request's head without its offers of another protocol (RFC 9110, 7.8).

    >>> head_without_upgrade(b"GET", b"/", "1.1", [(b"host", b"x"), (b"upgrade", b"h2c")])
    b'GET / HTTP/1.1\r\nhost: x\r\n\r\n'
    """
    lines = [b"%s %s HTTP/%s" % (method, target, version.encode())]
    lines += [b"%s: %s" % header for header in headers if header[0] != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])


def _new_parser(connection: Connection) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(connection)
    # as uvicorn does: what follows a last request is no reason not to answer it
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _head_too_large() -> Problem:
    return Problem(431, "the request's head is too large")


def _raw(problem: Problem, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """An answer of our own, beside the app."""
    response = problem_response(problem)
    status = HTTPStatus(problem.status)
    lines = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode())]
    all_headers = (*headers, *response.raw_headers, *RAW_SECURITY_HEADERS, _CLOSE)
    lines += [b"%s: %s" % header for header in all_headers]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
