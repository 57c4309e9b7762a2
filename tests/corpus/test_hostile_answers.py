"""Hostile answers of subscribers to live deliveries, and hostile signatures to our own example."""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import pytest

from deploy.demo.subscriber import BadSignature, verify
from dispatch.signing import new_secret, sign
from store.clock import ManualClock
from tests.app import Taskbell, good, minimax
from tests.corpus.live import Script, Server, answer, database_in, emptied, live, until
from tests.corpus.rows import Row, chosen, is_answer, is_verify
from tests.dispatch.certificates import Authority

NOW = 1_795_000_000
"""When the rows happen that name dates."""
DEADLINE_SECONDS = 1
BACKOFF_SECONDS = 5
LONGEST_SECONDS = 86_400
SHOWN_BYTES = 2048
DROP_BYTES = 65_536
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
UNFINISHED = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"


@pytest.fixture(scope="module")
async def hooks(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Server]]:
    """Subscribers on this machine: a plain one, and one with a certificate for another name."""
    wrong = Authority(tmp_path_factory.mktemp("wrong"), "another.example.net")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(wrong.certificate))  # trusted, but for its name
        async with Server().serving() as plain, Server().serving(wrong.server()) as secure:
            yield {"http": plain, "https": secure}


@pytest.fixture(scope="module")
async def taskbell(
    hooks: dict[str, Server], sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Taskbell]:
    url = database_in(tmp_path_factory.mktemp("answers"), sqlite_template)
    settings = {
        "ALLOW_NETWORKS": "127.0.0.0/8",
        "ATTEMPT_TIMEOUT_SECONDS": str(DEADLINE_SECONDS),
    }
    clock = ManualClock(datetime.fromtimestamp(NOW, UTC))
    async with live(url, clock, **settings) as made:
        yield made


@pytest.mark.parametrize("row", chosen(is_answer))
async def test_a_hostile_answer_gets_its_verdict(
    row: Row,
    taskbell: Taskbell,
    hooks: dict[str, Server],
    caplog: pytest.LogCaptureFixture,
) -> None:
    scheme = "https" if "tls" in row.get("response", {}) else "http"
    hook = hooks[scheme]
    hook.script = script(row)

    delivery = await attempted(taskbell, f"{scheme}://127.0.0.1:{hook.port}/hook")

    [attempt] = delivery["attempts"]
    expected = row["expected"]
    if "wait_s" in expected:
        wait = min(expected["wait_s"] or 0, LONGEST_SECONDS)
        assert due_in(delivery) == max(BACKOFF_SECONDS, wait)
    elif delivers(row):
        assert delivery["status"] == attempt["result"] == "delivered"
    elif delivery["status"] != "canceled":
        assert (delivery["status"], attempt["result"]) == ("pending", "retry")
        assert due_in(delivery) == BACKOFF_SECONDS
    assert len((attempt["answer"] or "").encode()) <= SHOWN_BYTES
    assert not [record for record in caplog.records if record.exc_info]


def delivers(row: Row) -> bool:
    """Whether the row says so: a status that came in time counts, whatever became of the body."""
    said: str = row["expected"]["attempt"]
    body_only = {"drip_body_s", "body_text"} & row.get("response", {}).keys()
    return "delivered" in said or bool(body_only)


async def attempted(taskbell: Taskbell, url: str) -> dict[str, Any]:
    """A delivery with its first attempt, to a new subscription of this URL alone."""
    await emptied(taskbell)
    made = await taskbell.subscribe(url)
    good(await taskbell.push(minimax()))
    found: list[dict[str, Any]] = []

    async def over() -> bool:
        found[:] = await taskbell.data("/v1/deliveries")
        return bool(found[0]["attempt_count"]) and found[0]["status"] != "in_flight"

    await until(over)
    delivery: dict[str, Any] = good(await taskbell.api.get(f"/v1/deliveries/{found[0]['id']}"))
    await taskbell.api.delete(f"/v1/subscriptions/{made['id']}")
    return delivery


def due_in(delivery: dict[str, Any]) -> float:
    due = datetime.fromisoformat(delivery["next_attempt_at"])
    return due.timestamp() - NOW


def script(row: Row) -> Script:
    """What the subscriber does, as the row tells it."""
    if "status_in" in row:
        field = f"{row['name']}: {row['value']}\r\n" if row.get("value") is not None else ""
        head = f"HTTP/1.1 {row['status_in']} x\r\n{field}content-length: 0\r\n\r\n"
        return answer(head.encode().replace(b"content-length: 0\r\n", _length(row["status_in"])))
    match row["response"]:
        case {"drip_body_s": _}:
            return dripping(UNFINISHED, b"x")
        case {"drip_headers_s": _}:
            return dripping(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n")
        case {"endless_1xx": True}:
            return dripping(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n")
        case {"header_bytes": int(count)}:
            return answer(b"HTTP/1.1 200 OK\r\nx: " + b"a" * count + b"\r\n\r\n")
        case {"accept_then_silence": True}:
            return dripping(b"", b"")
        case {"reset": True}:
            return leaving(b"", reset=True)
        case {"close_early": True} | {"content_length_lie": True}:
            return leaving(UNFINISHED + b"half")
        case {"http09": True}:
            return leaving(b"hello\r\n")
        case {"body_text": str(text)}:
            raw = text.encode("utf-8", "surrogatepass")
            return answer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(raw) + raw)
        case {"body_bytes": int(count)}:
            return pouring(count)
        case {"raw_text": str(text)}:
            return leaving(text.encode())
        case {"tls": _}:
            return answer(OK)
        case other:
            raise NotImplementedError(f"nobody plays {other}")


def _length(status: int) -> bytes:
    return b"" if status in (204, 304) else b"content-length: 0\r\n"


def dripping(first: bytes, drop: bytes) -> Script:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.02)

    return drip


def pouring(count: int) -> Script:
    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % count)
        for _sent in range(0, count, DROP_BYTES):
            writer.write(b"x" * DROP_BYTES)
            await writer.drain()

    return pour


def leaving(raw: bytes, *, reset: bool = False) -> Script:
    async def leave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, linger)
            writer.transport.abort()
        raise ConnectionError

    return leave


SECRET = new_secret()
BODY = b'{"a":1}'


@pytest.mark.parametrize("row", chosen(is_verify))
def test_a_hostile_signature_is_refused_with_the_documented_error(row: Row) -> None:
    now = datetime.fromtimestamp(NOW, UTC)
    timestamp = known(row["value"]) if row["name"] == "webhook-timestamp" else str(NOW)
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": timestamp,
        # whoever can sign still needs a sound time
        "webhook-signature": signature(timestamp.encode("utf-8", "replace").decode()),
    }
    if row["name"] != "webhook-timestamp":
        headers[row["name"]] = known(row["value"])

    if row["expected"]["accepted"]:
        assert verify(SECRET, headers, BODY, now) == "evt_1"
    else:
        with pytest.raises(BadSignature):
            verify(SECRET, headers, BODY, now)


def signature(timestamp: str) -> str:
    return sign(SECRET, "evt_1", timestamp, BODY)  # type: ignore[arg-type]


def known(text: str) -> str:
    """What stands for the names in braces."""
    good_one = signature(str(NOW)).removeprefix("v1,")
    wide = str(NOW).translate({ord("0") + n: ord("０") + n for n in range(10)})
    names = {
        "GOOD": good_one,
        "BAD": signature(str(NOW + 1)).removeprefix("v1,"),
        "NOW": str(NOW),
        "NOW_FULLWIDTH": wide,
        "NOW_WITH_UNDERSCORE": f"{str(NOW)[0]}_{str(NOW)[1:]}",
    }
    moved = re.sub(r"{NOW([+-]\d+)}", lambda match: str(NOW + int(match[1])), text)
    return re.sub(r"{(\w+)}", lambda match: names[match[1]], moved)
