"""Request targets in each of their forms, on a real socket: no other host is answered for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store.clock import ManualClock
from tests.conftest import START
from tests.corpus.live import database_in, live
from tests.deploy.door import Door, answers, door_to

OWN, STRANGER = "127.0.0.1:8000", "evil.example.net"


@pytest.fixture(scope="module")
async def door(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    url = database_in(tmp_path_factory.mktemp("targets"), sqlite_template)
    async with (
        live(url, ManualClock(START), ROLES="receive") as taskbell,
        door_to(taskbell.app) as running,
    ):
        yield running


@pytest.mark.parametrize(
    ("request_line", "host", "expected"),
    [
        ("GET /openapi.json", OWN, 200),
        ("GET /openapi.json", STRANGER, 421),
        (f"GET http://{OWN}/openapi.json", OWN, 200),
        (f"GET HTTPS://{OWN.upper()}/openapi.json", OWN, 200),
        ("GET http://localhost/openapi.json", OWN, 200),
        (f"GET http://{STRANGER}/openapi.json", OWN, 421),
        (f"GET http://{STRANGER}/openapi.json", STRANGER, 421),
        (f"GET http://{OWN}/openapi.json", STRANGER, 421),
        (f"GET http://{STRANGER}:80", OWN, 421),
        (f"GET http://{STRANGER}?x=1", OWN, 421),
        ("GET /healthz", STRANGER, 200),  # under any name
        (f"GET http://{OWN}/healthz", OWN, 200),
        (f"GET https://{STRANGER}/healthz", OWN, 421),  # which is for the Host header alone
        (f"POST http://{STRANGER}/callbacks/minimax/token", OWN, 421),
        (f"GET http://{OWN}@{STRANGER}/openapi.json", OWN, 400),
        (f"GET http://{STRANGER}@{OWN}/openapi.json", OWN, 400),
        (f"GET ftp://{OWN}/openapi.json", OWN, 400),
        ("GET http:///openapi.json", OWN, 400),
        ("GET http:openapi.json", OWN, 400),
        (f"GET {STRANGER}:80", OWN, 400),
        (f"GET //{STRANGER}/openapi.json", OWN, 404),
        (f"CONNECT {STRANGER}:443", OWN, 400),
        (f"CONNECT {OWN}", OWN, 400),
        ("OPTIONS *", OWN, 405),
        ("OPTIONS *", STRANGER, 421),
        ("GET *", OWN, 400),
    ],
)
async def test_a_target_that_names_another_host_is_refused(
    door: Door, request_line: str, host: str, expected: int
) -> None:
    [answer] = answers(await door.ask(head(request_line, host)))

    assert answer.status == expected
    assert STRANGER.encode() not in answer.head + answer.body


@pytest.mark.parametrize(("name", "expected"), [(OWN, 200), (STRANGER, 421)])
async def test_an_old_client_without_a_host_is_judged_by_its_target(
    door: Door, name: str, expected: int
) -> None:
    request = f"GET http://{name}/openapi.json HTTP/1.0\r\n\r\n".encode()

    assert [each.status for each in answers(await door.ask(request))] == [expected]


def head(request_line: str, host: str) -> bytes:
    return f"{request_line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
