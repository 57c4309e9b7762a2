"""Under which names Taskbell answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from store.clock import ManualClock
from tests.app import ADMIN_KEY, Taskbell, bearer, good, minimax, problem, running

STRANGER = "evil.example.net"


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    settings = {"PUBLIC_URL": "https://Taskbell.Example.com/bell", "HOST": "bell.corp.example.com"}
    async with running(sqlite_url, clock, settings) as taskbell:
        yield taskbell


@pytest.mark.parametrize(
    "host",
    [
        "taskbell.example.com",
        "TASKBELL.example.com:443",
        "taskbell.example.com.",
        "bell.corp.example.com:8000",  # TASKBELL_HOST
        # a stranger's page is never at an address
        "127.0.0.1:8000",
        "10.1.2.3",
        "93.184.216.34:80",
        "[::1]:8000",
        "[2001:db8::1]",
        # nor at a name that the public DNS does not have
        "localhost",
        "localhost:8000",
        "taskbell",  # another container
        "taskbell_backend",  # what nginx says unless it is told otherwise
        "app.localhost",
        "taskbell.prod.svc.cluster.local:8000",
        "taskbell.prod.svc",
        "host.docker.internal",
        "bell.home.arpa",
    ],
)
async def test_it_answers_under_its_own_name_and_where_no_stranger_can_be(
    taskbell: Taskbell, host: str
) -> None:
    good(await taskbell.api.get("/v1/tasks", headers={"host": host}))


@pytest.mark.parametrize(
    "host",
    [
        STRANGER,
        "taskbell.example.com.evil.example.net",
        "eviltaskbell.example.com",
        "example.com",
        "127.0.0.1.evil.example.net",
        "127.0.0.1.nip.io:8000",
        "localhost.evil.example.net",
        "evil.example.net:127.0.0.1",
        "taskbell.example.com@evil.example.net",
        "taskbell.example.com, evil.example.net",
        "taskbell.example.com/",
        "xn--tskbell-2za.example.com",
        "[::1].evil.example.net",
        "256.1.1.1",
        "evil.local.example.net",
        "<script>",
        " ",
        "",
    ],
)
async def test_a_strangers_name_gets_nothing_and_is_not_repeated(
    taskbell: Taskbell, host: str
) -> None:
    for path in ("/v1/tasks", "/docs", "/openapi.json", "/", "/v1/nothing"):
        answer = await taskbell.api.get(path, headers={"host": host})

        assert "TASKBELL_PUBLIC_URL" in problem(answer, 421)
        assert "evil" not in answer.text + str(answer.headers)
        assert "script" not in answer.text


@pytest.mark.parametrize("host", ["nas.lan:8000", "server.fritz.box", STRANGER])
@pytest.mark.parametrize(
    ("language", "word"), [("de, en;q=0.5", "does not answer to this name"), ("zh-CN", "域名")]
)
async def test_a_browser_gets_a_page_that_says_which_setting(
    taskbell: Taskbell, host: str, language: str, word: str
) -> None:
    headers = {"host": host, "accept": "text/html,*/*;q=0.8", "accept-language": language}

    answer = await taskbell.door.get("/", headers=headers)

    assert answer.status_code == 421
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "TASKBELL_PUBLIC_URL" in answer.text
    assert word in answer.text
    assert host.split(":")[0] not in answer.text


async def test_a_request_that_names_no_host_or_two_is_a_strangers(taskbell: Taskbell) -> None:
    door = taskbell.door
    request = door.build_request("GET", "/v1/tasks", headers=bearer(ADMIN_KEY))
    del request.headers["host"]
    two = [("host", "127.0.0.1"), ("host", STRANGER), *bearer(ADMIN_KEY).items()]

    problem(await door.send(request), 421)
    problem(await door.get("/v1/tasks", headers=two), 421)


async def test_a_forwarded_host_opens_nothing(taskbell: Taskbell) -> None:
    headers = {"host": STRANGER, "x-forwarded-host": "taskbell.example.com"}

    problem(await taskbell.api.get("/v1/tasks", headers=headers), 421)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("host", [STRANGER, "10.244.0.7:8000", ""])
async def test_health_checks_may_call_it_anything(taskbell: Taskbell, path: str, host: str) -> None:
    good(await taskbell.door.get(path, headers={"host": host}))


async def test_a_push_counts_whatever_a_proxy_made_of_the_host(taskbell: Taskbell) -> None:
    headers = {"host": "origin-7.hosting.example.net"}

    pushed = await taskbell.door.post(taskbell.path(), json=minimax(), headers=headers)
    wrong = await taskbell.door.post("/callbacks/minimax/x", json=minimax(), headers=headers)

    good(pushed)
    problem(wrong, 404)


@pytest.mark.parametrize(
    "path", ["/callbacks", "/healthz/", "/healthz/../v1/tasks", "/readyzz", "/x/callbacks/a/b"]
)
async def test_no_other_path_slips_through(taskbell: Taskbell, path: str) -> None:
    answer = await taskbell.api.get(path, headers={"host": STRANGER})

    assert answer.status_code in (404, 421)
