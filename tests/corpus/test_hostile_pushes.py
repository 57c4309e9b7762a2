"""Hostile requests at the callback door of a live Taskbell, as rows of the corpus say."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from itsdangerous import URLSafeSerializer

from receiver.tokens import CallbackTokens
from store.clock import ManualClock
from tests.app import AWAY, SECRET_KEYS, SECURITY_HEADERS, Taskbell, good, problem
from tests.conftest import START
from tests.corpus.live import database_in, emptied, live
from tests.corpus.rows import CONTRACT, SLOWEST_SECONDS, Row, bodies, chosen, cpu_seconds, is_push

THANKS = {"status": "success"}
CHUNK_BYTES = 65_536
ECHOED = "a challenge is echoed"


@pytest.fixture(scope="module")
async def taskbell(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Taskbell]:
    url = database_in(tmp_path_factory.mktemp("door"), sqlite_template)
    async with live(url, ManualClock(START), ROLES="receive") as made:
        yield made


def pushed(row: Row) -> bool:
    return is_push(row) and not away(row)


def away(row: Row) -> bool:
    return is_push(row) and row.get("config") == {"database": "down"}


@pytest.mark.parametrize("row", chosen(pushed))
async def test_a_hostile_push_gets_its_verdict(
    row: Row, taskbell: Taskbell, caplog: pytest.LogCaptureFixture
) -> None:
    await emptied(taskbell)

    await send(row, taskbell)

    if "events" in row["expected"]:
        assert len(await taskbell.events()) == row["expected"]["events"]
    if "after" in row["expected"]:  # the first ending stands, the other one is kept
        assert await taskbell.event_types() == ["task.succeeded"]
        assert len(await taskbell.receipts()) == len(bodies(row))
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("row", chosen(away))
async def test_a_hostile_push_gets_its_verdict_without_the_database(row: Row) -> None:
    async with live(AWAY, ManualClock(START), ROLES="receive") as taskbell:
        await send(row, taskbell)


async def send(row: Row, taskbell: Taskbell) -> None:
    """Send a row's requests; each answer must be what it says."""
    statuses = row["expected"]["status"]
    if CONTRACT.get(row["id"], "").startswith(ECHOED):
        statuses = [200]
    for raw in bodies(row):
        start = cpu_seconds()
        answer = await taskbell.door.request(
            row.get("method", "POST"),
            path(row, taskbell) + ("?" + row["query"] if "query" in row else ""),
            content=chunks(raw) if row.get("transfer") == "chunked" else raw,
            headers=row.get("headers", ()),
        )
        assert cpu_seconds() - start < SLOWEST_SECONDS
        assert answer.status_code in statuses, answer.text[:200]
        assert SECURITY_HEADERS.items() <= answer.headers.items()
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        for name, value in row.get("headers_expected", {}).items():
            assert answer.headers[name].startswith(value)
        assert_nothing_reflected(answer, row, raw)


def assert_nothing_reflected(answer: httpx.Response, row: Row, raw: bytes) -> None:
    if answer.status_code >= 400:
        detail = problem(answer, answer.status_code)
        sent = raw.decode("latin-1") + row.get("path", "") + row.get("query", "")
        assert not [text for text in re.findall(r"[^\s\"{}:,\[\]]{10,}", sent) if text in detail]
    elif "challenge" in good(answer):
        assert json.dumps(answer.json()) == json.dumps(echo(row, raw))
    else:
        assert good(answer) == THANKS


def echo(row: Row, raw: bytes) -> object:
    """What must come back, compared as text because Python calls 1, 1.0 and True equal."""
    if "echo" in row["expected"]:
        return json.loads(row["expected"]["echo"])
    return {"challenge": json.loads(raw)["challenge"]}


async def chunks(raw: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(raw), CHUNK_BYTES):
        yield raw[start : start + CHUNK_BYTES]


def path(row: Row, taskbell: Taskbell) -> str:
    """Where to send it; the corpus calls our door /cb, and knows one provider."""
    if "path" not in row:
        return taskbell.path(token_id=f"tok_{row['id']}")
    said = row["path"].replace("/cb/", "/callbacks/minimax/", 1)
    found = re.sub(r"{(\w+)}", lambda match: tokens(row, taskbell)[match[1]], said)
    return quote(found, safe="/%~!$&'()*+,;=:@-._?")


def tokens(row: Row, taskbell: Taskbell) -> Mapping[str, str]:
    """What stands for the names in braces."""
    token_id = f"tok_{row['id']}"
    token, another = (
        taskbell.path(token_id=each).rpartition("/")[2] for each in (token_id, "another")
    )
    now = taskbell.service.clock()
    return {
        "TOKEN": token,
        "TOKEN_OF_TENANT_A": token,
        "TOKEN_BOUND_TO_TASK_1": token,
        "TOKEN_OTHER_SALT": signed(SECRET_KEYS, salt="session"),
        "TOKEN_OLD_KEY_RETIRED": signed(("a key that has left the list, long enough",)),
        "TOKEN_OLD_KEY_STILL_LISTED": signed(SECRET_KEYS[:1]),
        "TOKEN_SWAPPED_PAYLOAD": f"{token.rpartition('.')[0]}.{another.rpartition('.')[2]}",
        "TOKEN_MINTED_1H_IN_FUTURE": CallbackTokens(SECRET_KEYS).issue(
            "minimax", token_id, expires_at=now + timedelta(hours=2), metadata={}
        ),
        "TOKEN_EXPIRED": CallbackTokens(SECRET_KEYS).issue(
            "minimax", token_id, expires_at=now - timedelta(hours=1), metadata={}
        ),
        "TOKEN_OF_ANOTHER_PROVIDER": taskbell.path("atlascloud").rpartition("/")[2],
        "PAYLOAD_B64_OF_ZLIB_BOMB": "." + unpadded(zlib.compress(b"A" * 1_000_000)),
        "PAYLOAD_B64_OF_NULL": unpadded(b"null"),
    }


def signed(keys: tuple[str, ...], *, salt: str = "taskbell.callback.v1") -> str:
    """A token made like ours, but for keys and salt."""
    signer = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    payload: dict[str, Any] = {"provider": "minimax", "id": "tok", "exp": None, "meta": {}}
    made: str = URLSafeSerializer(list(keys), salt=salt, signer_kwargs=signer).dumps(payload)
    return made


def unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
