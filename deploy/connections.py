"""Clients' connections: how each is read, and how long it may keep us waiting.

uvicorn waits for ever for the rest of a request and for an answer to be taken, sets no bound to a
request's head, reads whatever is sent ahead, and takes the body beside an `Upgrade` for a request.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import math
import termios
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from deploy.crowd import Crowd, Wait, Waiting
from deploy.headers import RAW_SECURITY_HEADERS
from deploy.heads import BadTarget, end_of_heads, head_without_upgrade, read_target
from receiver.places import SHORT_OF_PLACES, short_of_places
from receiver.problems import Problem, problem_response

_CLOSE = (b"connection", b"close")


class _Refused(Exception):
    """In a callback of the parser: this request ends here."""


class _Flow(FlowControl):
    """Reads nothing while requests are held back, whatever the app that is answering wants."""

    held = False

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """One client. Its crowd looks at it now and then."""

    flow: _Flow

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
        self._heads = 0  # in the part that is parsed now, also of a request that began before
        self._head_bytes = 0  # of this request, all that was not its body
        self._offered = False  # another protocol, with the head that was just read
        self._held, self._held_at = b"", 0  # requests sent ahead that are not parsed yet
        self._refusal_due: Problem | None = None  # after the answers to earlier requests
        self._refused_at: float | None = None
        self._ended_at: float | None = None  # when the client said that it sends no more
        self._served = False
        self._busy = False
        self._ending = False

    # What happens to it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._since = self.loop.time()
        self._crowd.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._drop_requests()
        self._crowd.left(self)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return whether to stay: requests that came whole are answered first.

        A client that ended its side alone and one that is gone look the same, so we do not stay
        for long, nor for the rest of an answer that began: most often that is a stream.
        """
        if self._refused_at is not None or not (self.pipeline or self._answering):
            return False
        if self._answering and (self._receiving_body or self._streaming):
            return False
        if self._ended_at is None:
            self._ended_at = self.loop.time()
        self._count_if_busy()
        return True

    def data_received(self, data: bytes) -> None:
        if self._refused_at is not None or self._refusal_due:
            return
        if self._held:  # what was on its way when reading was paused
            self._held += data
            return
        self._read(data, 0)

    def _read(self, data: bytes, start: int) -> None:
        """Parse the data from `start` on, and hold back requests that are too far ahead."""
        while start < len(data) and not self.transport.is_closing():
            room = self._limits.queued - len(self.pipeline)
            if room <= 0:
                self._held, self._held_at = data, start
                self.flow.pause_reading()
                self.flow.held = True
                return
            end = end_of_heads(data, start, room)
            if not self._parse(memoryview(data)[start:end]):
                return
            start = end

    def _read_on(self) -> None:
        """Go on with the requests that were held back."""
        data, start = self._held, self._held_at
        self._held, self._held_at, self.flow.held = b"", 0, False
        self.flow.resume_reading()
        self._read(data, start)

    def _parse(self, part: memoryview) -> bool:
        """Feed the parser; refuse what is no request. Whether to go on."""
        self._heads = int(self._receiving)
        self._head_bytes += len(part)
        try:
            self._feed(part)
        except httptools.HttpParserError:
            self._refuse(self._refusal)
            return False
        if not self._receiving:
            self._head_bytes = 0
        elif self._head_bytes > self._limits.head_bytes and not self.transport.is_closing():
            self._refuse(_head_too_large())  # or what surrounds its chunks, or its trailers
            return False
        return True

    def _feed(self, part: memoryview) -> None:
        while part:
            try:
                self.parser.feed_data(part)
            except httptools.HttpParserUpgrade as stopped:
                part = part[stopped.args[0] :]
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
        self._heads += 1
        if self._heads > 1:
            self._head_bytes = 0  # all that was counted was of the request before
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
        self._read_target()
        super().on_headers_complete()
        if self._ending:
            self.cycle.keep_alive = False
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
        self._count_if_busy()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self._crowd.is_short_of_places:
            cycle.scope["state"][SHORT_OF_PLACES] = True
            cycle.keep_alive = cycle.keep_alive and bool(self.pipeline)
        self._running = cycle
        super()._start_asgi_task(cycle, app)
        self._count_if_busy()

    def on_response_complete(self) -> None:
        # uvicorn's own sets a timer for every request, which costs as much as all else here
        self.server_state.total_requests += 1
        self._served = True
        self._count_if_busy()
        if self.transport.is_closing():
            return
        if not self._receiving:
            self._since = self.loop.time()
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal_due:
            self._answer_with(self._refusal_due)
        if self._held and not self.pipeline:
            self._read_on()
        if self._ended_at is not None and not (self._held or self.pipeline or self._answering):
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck_since = self.loop.time()
        self._count_if_busy()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stuck_since = None
        self._count_if_busy()

    def shutdown(self) -> None:
        """Answer what is under way, or one more request, and say that it was the last."""
        if self._ending:
            return
        self._ending = True
        self._leave_by = self.loop.time() + self._limits.shutdown_seconds
        if self.cycle is not None:
            self.cycle.keep_alive = False

    # What its crowd asks and tells

    @property
    def waiting(self) -> Waiting | None:
        if self._stuck_since is not None:
            return Waiting(Wait.TO_TAKE_ANSWER, self._stuck_since)
        if self.transport.is_closing():
            return None
        if self._refused_at is not None:
            return Waiting(Wait.REQUEST, self._refused_at)
        if self._ended_at is not None:
            return Waiting(Wait.REQUEST, self._ended_at)
        if self.flow.read_paused or (self._answering and not self._receiving_body):
            return None
        wait = Wait.REST_OF_REQUEST if self._receiving else Wait.REQUEST
        return Waiting(wait, self._since)

    def look(self, now: float) -> None:
        if self.transport.is_closing() and self._stuck_since is None:
            self._stuck_since = now  # it stays until its client has taken what it was sent
        waiting = self.waiting
        if waiting is None or now < min(waiting.since + self._patience(waiting), self._leave_by):
            return
        if waiting.wait is Wait.TO_TAKE_ANSWER:
            self.transport.abort()
        elif waiting.wait is Wait.REST_OF_REQUEST:
            self._refuse(Problem(408, "the request did not come in time"))
        else:
            self.transport.close()

    def _patience(self, waiting: Waiting) -> float:
        if waiting.wait is Wait.TO_TAKE_ANSWER:
            return self._limits.take_seconds
        if self._refused_at is not None:
            return self._limits.linger_seconds
        if self._ended_at is not None:
            return self._limits.ended_seconds
        idle = self._served and waiting.wait is Wait.REQUEST
        return self._limits.idle_seconds if idle else self._limits.receive_seconds

    def make_room(self) -> None:
        if self._stuck_since is not None:
            self.transport.abort()
            return
        if self._receiving and self._may_answer:
            self.transport.write(_raw(short_of_places(), self.server_state.default_headers))
        self.transport.close()

    def cut_off(self) -> None:
        self.transport.abort()

    @property
    def has_unread(self) -> bool:
        size = array.array("i", [0])
        fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.FIONREAD, size)
        return size[0] > 0

    @property
    def unread_bytes(self) -> int:
        """How much of our answers waits here to be taken."""
        return self.transport.get_write_buffer_size()

    @property
    def _answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    @property
    def _streaming(self) -> bool:
        """Return whether an answer is being written, and the client is not what it waits for."""
        started = self._running is not None and self._running.response_started
        return started and self._answering and self._stuck_since is None

    @property
    def _receiving_body(self) -> bool:
        """Of the request that is being answered, not of one that waits for its turn."""
        return self._receiving and not self._in_head and not self.pipeline

    def _count_if_busy(self) -> None:
        waits = self._answering and not self._receiving_body and self._stuck_since is None
        waits = waits and self._ended_at is None
        busy = waits and self._running is not None and not self._running.disconnected
        self._crowd.busy += busy - self._busy
        self._busy = busy

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
        return None

    def _read_target(self) -> None:
        """Have a host that the target names be judged like the one that Host names."""
        try:
            self.url, host = read_target(self.parser.get_method(), self.url)
        except BadTarget as error:
            self._refusal = Problem(400, str(error))
            raise _Refused from None
        if host is not None:  # in front: it is the one that counts (RFC 9112, 3.2.2)
            self.headers.insert(0, (b"host", host))

    def _head_is_too_large(self) -> bool:
        if self._head_bytes <= self._limits.head_bytes:
            return False
        lines = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.url) + lines > self._limits.head_bytes

    def _refuse(self, problem: Problem) -> None:
        """Answer and close, once earlier requests are answered; close if this one's answer began."""
        if self._may_answer:
            self._answer_with(problem)
        elif self._receiving_body:
            self.transport.close()
        else:
            if self._receiving and not self._in_head:
                self.pipeline.popleft()  # its body is not whole
            self._refusal_due, self._receiving = problem, False

    def _answer_with(self, problem: Problem) -> None:
        self.transport.write(_raw(problem, self.server_state.default_headers))
        self._refused_at = self.loop.time()
        self._drop_requests()
        self._held, self.flow.held = b"", False
        self.flow.resume_reading()
        # a connection that is closed with something unread is reset, and the answer may be lost
        self.transport.write_eof()

    def _drop_requests(self) -> None:
        """Tell the app that nobody waits for its answer any more."""
        self.pipeline.clear()
        if self._running is not None:  # uvicorn tells the last request only, which may be waiting
            self._running.disconnected = True
            self._running.message_event.set()
        self._count_if_busy()


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
