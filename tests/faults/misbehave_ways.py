"""A subscriber on raw sockets that misbehaves in every way we know, and what each way must come to.

Every way has a path of its own on one server; those whose certificate is bad have one of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

from dispatch.sink import Result
from store.clock import Clock
from tests.dispatch.certificates import Authority


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a way sees it: its connection, and what answers may be made of."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    now: datetime
    canary: str  # a URL that nobody should ever call

    async def say(self, *raw: bytes) -> None:
        for piece in raw:
            self.writer.write(piece)
            await self.writer.drain()


Act = Callable[[Call], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Way:
    """act: what happens once a request has come. The rest is what the attempt must come to.

    reason: how it begins. wait: the seconds that its Retry-After is worth. lasts: only the deadline
    ends it. tls: the bad certificate it is reached through; nothing is then to be heard by act.
    """

    name: str
    act: Act
    result: Result = Result.RETRY
    reason: str = ""
    wait: float | None = None
    lasts: bool = False
    tls: str = ""


def _answer(status: int, *fields: str | bytes, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status} x", *fields, f"content-length: {len(body)}", "", ""]
    return b"\r\n".join(x if isinstance(x, bytes) else x.encode() for x in lines) + body


def _saying(*raw: bytes) -> Act:
    """Say it, and keep the connection open for the next request."""

    async def act(call: Call) -> None:
        await call.say(*raw)

    return act


def _status(number: int, result: Result = Result.RETRY) -> Way:
    reason = {Result.DELIVERED: "", Result.REFUSED: "410 Gone"}.get(result, f"answered {number}")
    return Way(str(number), _saying(_answer(number)), result, reason)


def _redirect(number: int) -> Way:
    async def act(call: Call) -> None:
        await call.say(_answer(number, f"location: {call.canary}"))

    return Way(f"{number}-to-canary", act, reason=f"answered {number}")


def _later(name: str, value: str | bytes, wait: float | None, status: int = 429) -> Way:
    text = value if isinstance(value, bytes) else value.encode()
    act = _saying(_answer(status, b"Retry-After: " + text))
    return Way(f"{status}-{name}", act, reason=f"answered {status}", wait=wait)


def _until(
    name: str, written: Callable[[datetime], str], seconds: float, wait: float | None
) -> Way:
    """Come back at a moment, so many seconds from now."""

    async def act(call: Call) -> None:
        moment = written(call.now + timedelta(seconds=seconds))
        await call.say(_answer(503, f"retry-after: {moment}"))

    return Way(f"503-{name}", act, reason="answered 503", wait=wait)


def _for_ever(first: bytes, *drops: bytes, pause: float = 0.02) -> Act:
    async def act(call: Call) -> None:
        await call.say(first)
        for drop in itertools.cycle(drops):
            await call.say(drop)
            await asyncio.sleep(pause)

    return act


async def _hang(call: Call) -> None:
    await call.reader.read()  # the other side's end


async def _reset(call: Call) -> None:
    linger = struct.pack("ii", 1, 0)
    call.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    call.writer.transport.abort()


def _leaving(*raw: bytes) -> Act:
    """Say it, and close."""

    async def act(call: Call) -> None:
        await call.say(*raw)
        call.writer.close()
        await call.writer.wait_closed()

    return act


_OK = b"HTTP/1.1 200 OK\r\n"
_BOMB = gzip.compress(bytes(10_000_000), 9)
_NOT_HTTP = "the answer is not valid HTTP, or its headers are too large"
_OUT_OF_TIME = "timed out after "


def _imf(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


def _rfc850(moment: datetime) -> str:
    return moment.strftime("%A, %d-%b-%y %H:%M:%S GMT")


def _asctime(moment: datetime) -> str:
    return moment.strftime("%a %b %d %H:%M:%S %Y")


WAYS = (
    # statuses
    *(_status(number, Result.DELIVERED) for number in (200, 202, 204, 299)),
    *(_redirect(number) for number in (301, 302, 303, 307, 308)),
    *(_status(number) for number in (300, 304, 400, 404, 451, 500, 599)),
    _status(410, Result.REFUSED),
    Way("101", _saying(b"HTTP/1.1 101 x\r\nupgrade: x\r\n\r\n\0"), reason="answered 101"),
    # asked to wait
    _status(429),
    _later("seconds", "120", 120),
    _later("seconds", "120", 120, status=503),
    _later("padded", " 120 ", 120),
    _later("over-a-day", "86401", 86_400),
    _later("fraction", "120.5", 121),
    _later("negative", "-5", None),
    _later("full-width", "１２０", None),
    _later("twenty-digits", "9" * 20, None),
    _later("10-to-the-20", "1" + "0" * 20, None),
    _later("text", "soon", None),
    _later("empty", "", None),
    _later("twice", b"600\r\nretry-after: 90", 600),
    _later("not-utf8", b"\xff\xfe", None),
    _later("seconds", "120", None, status=500),  # only 429 and 503 may ask
    _until("date", _imf, 600, 600),
    _until("rfc850", _rfc850, 600, 600),
    _until("asctime", _asctime, 600, 600),
    _until("past-date", _imf, -600, None),
    _until("far-date", _imf, 10**9, 86_400),
    # answers that never come
    Way("hang", _hang, reason=_OUT_OF_TIME, lasts=True),
    Way("drip-headers", _for_ever(_OK, b"x-a: b\r\n"), reason=_OUT_OF_TIME, lasts=True),
    Way("drip-status", _for_ever(b"HTTP/1.1 2", b"0"), reason=_OUT_OF_TIME, lasts=True),
    Way(
        "endless-103",
        _for_ever(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
        reason=_OUT_OF_TIME,
        lasts=True,
    ),
    Way("flood-100", _for_ever(b"", b"HTTP/1.1 100 x\r\n\r\n" * 99, pause=0), reason=_NOT_HTTP),
    Way("reset", _reset, reason="connection reset"),
    Way("leave", _leaving(), reason="connection closed without an answer"),
    Way(
        "leave-in-the-head",
        _leaving(_OK + b"content-le"),
        reason="connection closed without an answer",
    ),
    # a status that came counts, whatever becomes of the body
    Way(
        "drip-body",
        _for_ever(_OK + b"content-length: 9999\r\n\r\n", b"x", pause=0.1),
        Result.DELIVERED,
        lasts=True,
    ),
    Way(
        "drip-body-500",
        _for_ever(b"HTTP/1.1 500 x\r\ncontent-length: 9999\r\n\r\n", b"x"),
        reason="answered 500",
        lasts=True,
    ),
    Way(
        "drip-chunks",
        _for_ever(_OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        Result.DELIVERED,
        lasts=True,
    ),
    Way(
        "too-long-a-length",
        _saying(_OK + b"content-length: 99\r\n\r\nx"),
        Result.DELIVERED,
        lasts=True,
    ),
    Way("half-a-body", _leaving(_OK + b"content-length: 99\r\n\r\nhalf"), Result.DELIVERED),
    Way(
        "10-gb",
        _for_ever(_OK + b"content-length: 10000000000\r\n\r\n", b"x" * 65_536, pause=0),
        Result.DELIVERED,
    ),
    Way(
        "gzip-bomb",
        _saying(_answer(200, "content-encoding: gzip", body=_BOMB)),
        Result.DELIVERED,
    ),
    Way("markup", _saying(_answer(200, body=b"<script>alert(1)</script>" * 99)), Result.DELIVERED),
    Way("nul", _saying(_answer(500, body=b"\0\xed\xa0\x80\xff")), reason="answered 500"),
    # what is not HTTP
    Way("2-mb-header", _saying(_OK + b"x: " + b"a" * 2_000_000), reason=_NOT_HTTP),
    Way("many-headers", _saying(_OK + b"x: a\r\n" * 50_000), reason=_NOT_HTTP),
    Way("http-0.9", _saying(b"<html>hello</html>\r\n"), reason=_NOT_HTTP),
    Way("binary", _saying(bytes(range(256)) * 99), reason=_NOT_HTTP),
    # certificates
    Way("self-signed", _leaving(), reason="TLS: certificate: self-signed", tls="self-signed"),
    Way("expired", _leaving(), reason="TLS: certificate: certificate has expired", tls="expired"),
    Way("wrong-name", _leaving(), reason="TLS: certificate: IP address mismatch", tls="wrong-name"),
)


class Misbehaving:
    """The subscriber. taken counts requests by way, canary_hits calls to the canary.

    meek: while set it takes every request with 204. open, most: the requests of each way that wait
    for their end, now and at worst.
    trusted: a file with the authorities that a client should know; the self-signed one is not
    among them.
    """

    def __init__(self, clock: Clock, folder: Path) -> None:
        self.meek = False
        self.taken: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.canary_hits = 0
        self._clock = clock
        self._acts = {way.name: way.act for way in WAYS}
        self._authorities = {
            "self-signed": Authority(folder / "self-signed", "127.0.0.1"),
            "expired": Authority(folder / "expired", "127.0.0.1", expired=True),
            "wrong-name": Authority(folder / "wrong-name", "127.0.0.9"),
        }
        self.trusted = folder / "trusted.pem"
        known = (self._authorities[name] for name in ("expired", "wrong-name"))
        self.trusted.write_bytes(b"".join(one.certificate.read_bytes() for one in known))
        self._ports: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def url(self, way: Way) -> str:
        """Where it misbehaves so."""
        scheme = "https" if way.tls else "http"
        return f"{scheme}://127.0.0.1:{self._ports[way.tls]}/{way.name}"

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[Misbehaving]:
        async with contextlib.AsyncExitStack() as servers:
            contexts = {name: one.server() for name, one in self._authorities.items()}
            for name, tls in {"": None, "canary": None, **contexts}.items():
                accept = self._canary if name == "canary" else self._accept
                server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
                servers.callback(server.close)
                self._ports[name] = server.sockets[0].getsockname()[1]
            try:
                yield self
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def _canary(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.canary_hits += 1
        writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not writer.is_closing():
                await self._take(await _read_request(reader), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def _take(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.taken[name] += 1
        self.open[name] += 1
        self.most[name] = max(self.most[name], self.open[name])
        canary = f"http://127.0.0.1:{self._ports['canary']}/"
        act = _saying(_answer(204)) if self.meek else self._acts[name]
        try:
            await act(Call(reader, writer, self._clock(), canary))
        finally:
            self.open[name] -= 1


async def _read_request(reader: asyncio.StreamReader) -> str:
    """Read one to its end; the way that its path names."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = head.partition("content-length: ")[2].partition("\r\n")[0]
    await reader.readexactly(int(length))
    return head.split()[1].strip("/")
