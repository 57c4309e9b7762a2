"""Each check of `taskbell doctor` finds what it is there for, over real sockets where they matter."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from deploy import __version__
from deploy.cli.checkup import finding, keys, local, paths, public, server
from deploy.cli.checkup.finding import Check, Finding, Level, fail, ok
from deploy.cli.client import Client
from deploy.demo.server import LocalServer
from deploy.demo.simulator import Simulator, base_urls
from deploy.settings import ProviderSettings, load
from receiver.provider import providers
from store import schema
from store.clock import ManualClock, system_clock
from store.tables import receipts
from tests.app import Taskbell, good, running
from tests.databases import PostgreSQL
from tests.dispatch.certificates import Authority
from tests.ports import free_port

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
KEY = "sk-the-key-of-these-tests"
CALLBACK = "/callbacks/minimax/eyJ-the-secret-token"

Answer = tuple[int, Mapping[str, str], bytes]


def levels(found: list[Finding] | Any) -> list[str]:
    return [each.level.value for each in found]


@contextmanager
def serving(answer: Callable[[str, bytes], Answer], tls: Authority | None = None) -> Iterator[str]:
    """A server on a socket that answers a method with its path and body; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, headers, content = answer(self.path, body)
            self.send_response_only(status)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    with Quiet(("127.0.0.1", 0), Handler) as served:
        if tls is not None:
            served.socket = tls.server().wrap_socket(served.socket, server_side=True)
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def api_of(answers: Mapping[str, Any]) -> Client:
    """A client of a server that answers paths with JSON, or with a status alone."""

    def handle(request: httpx.Request) -> httpx.Response:
        found = answers[f"{request.method} {request.url.path}"]
        return httpx.Response(found) if isinstance(found, int) else httpx.Response(200, json=found)

    return Client("http://taskbell.test", KEY, httpx.MockTransport(handle))


# Running them


def test_a_check_that_fails_or_hangs_hides_no_other() -> None:
    hang = threading.Event()

    def broken() -> list[Finding]:
        raise RuntimeError("sk-secret")

    def hangs() -> list[Finding]:
        hang.wait()
        return []

    checks = [Check("a", broken), Check("b", hangs), Check("c", lambda: [ok("c", "fine")])]
    found = list(finding.run(checks, seconds=0.05))
    hang.set()

    assert found == [
        fail("a", "the check itself failed: RuntimeError", "report it, with `taskbell --version`"),
        fail("b", "no result in 0.05 s", "try again"),
        ok("c", "fine"),
    ]


# Settings, database, disk


def test_every_unknown_setting_is_named_with_the_one_that_was_meant() -> None:
    read, found = local.settings({"TASKBELL_PROT": "1", "TASKBELL_XYZ": "s", "TASKBELL_PORT": "9"})

    assert read is not None
    assert read.port == 9
    assert [(each.level, each.text) for each in found] == [
        (Level.FAIL, "TASKBELL_PROT is not a setting of taskbell"),
        (Level.FAIL, "TASKBELL_XYZ is not a setting of taskbell"),
    ]
    assert found[0].todo.startswith("did you mean TASKBELL_PORT?")
    assert found[1].todo.startswith("deploy/docs/reference/settings.md lists them all")


def test_a_bad_value_is_told_and_a_good_one_is_not() -> None:
    read, found = local.settings({"TASKBELL_PORT": "soon"})
    _, good = local.settings({"TASKBELL_PORT": "9", "PATH": "/bin"})

    assert read is None
    assert found[0].text.startswith("TASKBELL_PORT is 'soon'")
    assert good == [ok("settings", "1 set, all known")]


def test_a_database_at_its_version_is_fine(database_url: str) -> None:
    found = local.database(load({"TASKBELL_DATABASE_URL": database_url, **SECRETS}), system_clock)

    assert set(levels(found)) == {"ok"}


SECRETS = {"TASKBELL_SECRET_KEYS": "a-key-of-more-than-thirty-two-characters"}


def test_an_empty_database_wants_migrating_and_is_left_as_it_is(empty_database_url: str) -> None:
    settings = load({"TASKBELL_DATABASE_URL": empty_database_url, **SECRETS})
    if settings.sqlite_path is not None:
        settings.sqlite_path.touch(mode=0o600)

    twice = [local.database(settings, system_clock) for _ in range(2)]

    text = f"its schema is missing, this version needs {schema.HEAD}"
    assert twice == [[fail("database", text, "taskbell migrate")]] * 2


def test_a_database_that_is_newer_or_away_is_told(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = "postgresql://nobody:hush@/nothing?host=/nonexistent-folder-of-taskbell"
    [gone] = local.database(load({"TASKBELL_DATABASE_URL": away, **SECRETS}), system_clock)
    monkeypatch.setattr(schema, "HEAD", "0001")
    [newer] = local.database(load({"TASKBELL_DATABASE_URL": sqlite_url}), system_clock)

    assert "does not answer" in gone.text
    assert "hush" not in repr(gone)
    assert (newer.level, newer.todo) == (Level.FAIL, "upgrade taskbell here")


def test_a_database_that_takes_no_writes_or_is_not_utf8_is_told(
    postgresql: PostgreSQL, postgresql_url: str
) -> None:
    name = postgresql_url.partition("@/")[2].partition("?")[0]
    postgresql.run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    postgresql.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    [reading], [latin] = (
        local.database(load({"TASKBELL_DATABASE_URL": url, **SECRETS}), system_clock)
        for url in (postgresql_url, postgresql.url("latin"))
    )
    postgresql.run("DROP DATABASE latin WITH (FORCE)")

    assert (reading.level, latin.level) == (Level.FAIL, Level.FAIL)
    assert "default_transaction_read_only is on" in reading.text
    assert "the encoding LATIN1" in latin.text
    assert "ENCODING 'UTF8'" in latin.todo


def test_a_database_file_that_others_can_read_is_told(sqlite_url: str) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    path.chmod(0o644)

    found = local.database(load({"TASKBELL_DATABASE_URL": sqlite_url}), system_clock)

    assert next((each.level, each.todo) for each in found if each.level is not Level.OK) == (
        Level.WARN,
        f"chmod 600 {path}",
    )


def test_a_place_that_is_no_database_is_told(tmp_path: Path) -> None:
    [found] = local.database(load({"TASKBELL_DATABASE_URL": f"sqlite:///{tmp_path}"}), system_clock)

    assert (found.level, found.text) == (Level.FAIL, f"{tmp_path} is a folder")


def test_no_database_file_is_made_by_looking_for_it(tmp_path: Path) -> None:
    settings = load({"TASKBELL_DATABASE_URL": f"sqlite:///{tmp_path}/none.db"})

    [found] = local.database(settings, system_clock)

    assert found.level is Level.WARN
    assert list(tmp_path.iterdir()) == []


def test_a_database_whose_clock_differs_is_told(postgresql_url: str) -> None:
    settings = load({"TASKBELL_DATABASE_URL": postgresql_url, **SECRETS})

    *_, clock = local.database(settings, lambda: system_clock() + timedelta(minutes=10))

    assert clock.check == "database clock"
    assert clock.text.endswith("s ahead")


@pytest.mark.parametrize(
    ("free", "level"), [(10**7, Level.FAIL), (5 * 10**8, Level.WARN), (10**10, Level.OK)]
)
def test_room_on_the_disk_is_judged(free: int, level: Level) -> None:
    assert local.room(Path("/data"), free).level is level


def test_the_disk_beside_sqlite_is_looked_at(tmp_path: Path) -> None:
    here = local.disk(load({"TASKBELL_DATABASE_URL": f"sqlite:///{tmp_path}/a.db"}))
    nowhere = local.disk(load({"TASKBELL_DATABASE_URL": f"sqlite:///{tmp_path}/no/a.db"}))
    postgresql = local.disk(load({"TASKBELL_DATABASE_URL": "postgresql://a@b/c", **SECRETS}))

    assert "MB free at" in here[0].text
    assert levels([*nowhere, *postgresql]) == ["FAIL", "skip"]


# The server


def a_server(
    *, status: int = 200, version: str = __version__, ahead: timedelta = timedelta()
) -> Callable[[str, bytes], Answer]:
    def answer(path: str, _body: bytes) -> Answer:
        date = {"date": format_datetime(NOW + ahead, usegmt=True)}
        body = {"info": {"version": version}} if path == "/openapi.json" else {"status": "ok"}
        return status if path == "/readyz" else 200, date, json.dumps(body).encode()

    return answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (a_server(), {}),
        (a_server(status=503), {"server": "not ready (HTTP 503)"}),
        (a_server(version="9.9.9"), {"version": "the server 9.9.9"}),
        (a_server(ahead=timedelta(minutes=6)), {"server clock": "the clock here is 360 s behind"}),
        (a_server(ahead=timedelta(hours=-1)), {"server clock": "the clock here is 3600 s ahead"}),
    ],
)
def test_a_server_is_judged_by_readiness_version_and_clock(
    answer: Callable[[str, bytes], Answer], said: dict[str, str]
) -> None:
    with serving(answer) as url, Client(url, KEY) as api:
        found = server.server(url, api, ManualClock(NOW))

    assert [each.check for each in found] == ["server", "version", "server clock"]
    wrong = {each.check: each for each in found if each.level is not Level.OK}
    assert wrong.keys() == said.keys()
    assert all(said[name] in wrong[name].text and wrong[name].todo for name in said)


def test_where_no_server_is_one_finding_says_so() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, KEY) as api:
        [found] = server.server(url, api, ManualClock(NOW))

    assert (found.check, found.level) == ("server", Level.FAIL)
    assert found.text.startswith(f"no Taskbell server at {url}")


@pytest.mark.parametrize(
    ("retry", "audit", "text"),
    [
        (404, {"data": []}, "scope admin"),
        (404, 403, "scope write"),
        (403, 403, "scope read"),
    ],
)
def test_the_scope_of_the_key_is_found_without_changing_anything(
    retry: int, audit: Any, text: str
) -> None:
    no_delivery = "POST /v1/deliveries/dlv_00000000000000000000000000/retry"
    with api_of(
        {"GET /v1/subscriptions": {"data": []}, no_delivery: retry, "GET /v1/audit": audit}
    ) as api:
        [found] = server.api_key(api)

    assert text in found.text


def test_a_key_that_is_refused_is_told_and_not_shown() -> None:
    with api_of({"GET /v1/subscriptions": 401}) as api:
        [found] = server.api_key(api)

    assert (found.level, found.text) == (Level.FAIL, "the server refused TASKBELL_API_KEY")
    assert KEY not in repr(found)


def a_subscription(url: str = "https://a.test/hook", **values: Any) -> dict[str, Any]:
    fields = {"disabled_reason": None, "failing_since": None, "active": True}
    return {"id": "sub_1", "url": url, **fields, **values}


@pytest.mark.parametrize(
    ("row", "level", "said"),
    [
        (a_subscription(), Level.OK, "none of them in trouble"),
        (a_subscription(active=False), Level.OK, "none of them in trouble"),
        (a_subscription("https://n8n.test/webhook-test/x"), Level.FAIL, "test URL of n8n"),
        (a_subscription("https://n8n.test/webhook/x"), Level.OK, "none of them in trouble"),
        (a_subscription(active=False, disabled_reason="410 Gone"), Level.FAIL, "410 Gone"),
        (a_subscription(failing_since="2026-11-20T03:00:00Z"), Level.WARN, "since 2026-11-20"),
    ],
)
def test_subscriptions_in_trouble_are_told_with_the_reason(
    row: dict[str, Any], level: Level, said: str
) -> None:
    with api_of({"GET /v1/subscriptions": {"data": [row]}}) as api:
        [found] = server.subscriptions(api)

    assert found.level is level
    assert said in found.text


def a_provider(state: str, code: str = "", open_tasks: int = 0) -> dict[str, Any]:
    reason = {"code": code, "message": f"because of {code}"} if code else None
    return {
        "name": "minimax",
        "title": "MiniMax",
        "state": state,
        "reason": reason,
        "since": "2026-11-20T03:00:00Z",
        "last_answer_at": "2026-11-20T02:59:00Z",
        "open_tasks": open_tasks,
    }


@pytest.mark.parametrize(
    ("row", "level", "said"),
    [
        (a_provider("ok"), Level.OK, "last at 2026-11-20T02:59:00Z"),
        (a_provider("idle"), Level.OK, "has its key"),
        (a_provider("idle", "not_polled"), Level.SKIP, "because of not_polled"),
        (a_provider("idle", "not_polled", 2), Level.WARN, "because of not_polled"),
        (a_provider("no_key", "no_key"), Level.SKIP, "because of no_key"),
        (a_provider("no_key", "no_key", 2), Level.FAIL, "2 open tasks cannot be polled"),
        (a_provider("degraded", "rate_limited"), Level.WARN, "because of rate_limited"),
        (a_provider("down", "unreachable"), Level.FAIL, "down since 2026-11-20T03:00:00Z: because"),
    ],
)
def test_providers_are_judged_by_what_the_server_knows(
    row: dict[str, Any], level: Level, said: str
) -> None:
    with api_of({"GET /v1/providers": {"data": [row]}}) as api:
        [found] = server.providers(api)

    assert (found.check, found.level) == ("MiniMax", level)
    assert said in found.text


def test_the_dead_are_counted_by_subscription_with_the_way_to_replay_them() -> None:
    rows = [{"subscription_id": each} for each in ("sub_1", "sub_2", "sub_2")]
    with api_of({"GET /v1/deliveries": {"data": rows}}) as api:
        found = server.deliveries(api)

    assert [each.text for each in found] == ["2 to sub_2 are dead", "1 to sub_1 are dead"]
    assert found[0].todo == "taskbell replay --subscription sub_2 --status dead"


@pytest.mark.parametrize(("minutes", "level"), [(4, Level.OK), (6, Level.FAIL)])
def test_tasks_that_nobody_ends_are_told(minutes: int, level: Level) -> None:
    deadline = (NOW - timedelta(minutes=minutes)).isoformat()
    with api_of({"GET /v1/tasks": {"data": [{"id": "task_1", "deadline_at": deadline}]}}) as api:
        [found] = server.tasks(api, ManualClock(NOW))

    assert found.level is level


# The public URL


def echo(path: str, body: bytes) -> Answer:
    if path == CALLBACK:
        return 200, {"content-type": "application/json"}, body
    return 404, {"content-type": "application/problem+json"}, b"{}"


def refusing(pattern: str, **headers: str) -> Callable[[str, bytes], Answer]:
    """Something before Taskbell that refuses certain paths."""

    def answer(path: str, body: bytes) -> Answer:
        return (403, headers, b"no") if re.search(pattern, path) else echo(path, body)

    return answer


@pytest.mark.parametrize(
    ("answer", "level", "said"),
    [
        (echo, Level.OK, "answered in 500 ms"),
        (lambda _path, _body: (200, {}, b"hello"), Level.FAIL, "does not echo the challenge"),
        (lambda _path, _body: (404, {}, b""), Level.FAIL, "HTTP 404"),
        (
            lambda path, _body: (301, {"location": f"https://b.test{path}"}, b""),
            Level.FAIL,
            "redirects to https://b.test (HTTP 301): a push would be lost",
        ),
        (
            lambda path, _body: (308, {"location": f"{path}/"}, b""),
            Level.FAIL,
            "redirects to another path (HTTP 308)",
        ),
    ],
)
def test_a_challenge_must_come_back_as_it_was(
    answer: Callable[[str, bytes], Answer], level: Level, said: str
) -> None:
    with serving(answer) as url:
        found = public.challenge(url + CALLBACK, stopwatch(0.5))

    assert found.level is level
    assert said in found.text
    assert "secret-token" not in repr(found)


def stopwatch(seconds: float) -> Callable[[], float]:
    """A clock by which every look comes so much later."""
    now = 0.0

    def look() -> float:
        nonlocal now
        now += seconds
        return now

    return look


def test_a_challenge_that_takes_more_than_three_seconds_is_lost() -> None:
    with serving(echo) as url:
        found = public.challenge(url + CALLBACK, stopwatch(3.1))

    assert (found.level, "3.1 s" in found.text) == (Level.FAIL, True)


def test_a_certificate_that_nobody_trusts_is_told(tmp_path: Path) -> None:
    with serving(echo, Authority(tmp_path, "127.0.0.1")) as url:
        found = public.challenge(url + CALLBACK, stopwatch(0.1))

    assert "its certificate: self" in found.text


def test_a_port_where_nobody_listens_is_told() -> None:
    found = public.challenge(f"http://127.0.0.1:{free_port()}{CALLBACK}", stopwatch(0.1))

    assert found.text.startswith("no connection to http://127.0.0.1:")
    assert "secret-token" not in repr(found)


def test_an_address_of_this_machine_is_told_with_the_ways_around_it() -> None:
    with serving(echo) as url, api_of({"POST /v1/callback-urls": {"url": url + CALLBACK}}) as api:
        place, challenge, others = public.public_url(api, stopwatch(0.1))

    assert levels([place, challenge, others]) == ["warn", "ok", "ok"]
    assert others.text == "7 kinds of addresses reach this server"
    assert "providers cannot reach" in place.text
    assert "taskbell listen" in place.todo


@pytest.mark.parametrize(
    ("rule", "level", "refused"),
    [
        (r"/\.", "warn", ["an older callback URL, with a dot in front"]),
        (
            r"/[^/]*\.[^/]*$",  # what looks like a file's name
            "warn",
            [f"an older callback URL, with a dot {where}" for where in ("in front", "within")],
        ),
        (r"--", "warn", [f"an older callback URL, with a dot {w}" for w in ("in front", "within")]),
        (r".{1000}", "warn", ["a callback URL with much metadata"]),
        (r"/atlascloud/", "FAIL", ["a callback URL of Atlas Cloud"]),
        (r"/login", "skip", ["a link to sign in"]),
        (r"/v1/", "skip", ["the API"]),
    ],
)
def test_a_rule_about_paths_is_told_with_what_it_refuses_and_who_has_it(
    rule: str, level: str, refused: list[str]
) -> None:
    with serving(refusing(rule, server="cloud-wall/2.1 <b>")) as url:
        fine, *found = paths.check(url + CALLBACK, providers())

    assert fine.level is Level.OK
    assert levels(found) == [level] * len(refused)
    for each, what in zip(found, refused, strict=True):
        assert each.text.startswith(what)
        assert "HTTP 403 by cloud-wall/2.1 b, and not by Taskbell" in each.text
        assert each.todo or level == "skip"
    assert not re.search(r"cbt_\w|eJ\w", repr(found))


@pytest.mark.parametrize("path", ["", "/tools/taskbell"])
def test_a_redirect_of_callback_paths_is_told_below_a_path_too(path: str) -> None:
    def answer(asked: str, _body: bytes) -> Answer:
        return 308, {"location": asked.lower() + "/"}, b""

    with serving(answer) as url:
        found = paths.check(url + path + CALLBACK, providers())

    assert levels(found)[:2] == ["FAIL", "FAIL"]
    assert f"(POST {path}/callbacks/atlascloud/…)" in found[0].text
    assert "a redirect that providers do not follow" in found[0].text
    assert "something that does not name itself" in found[0].text


async def test_taskbell_itself_answers_every_kind_and_keeps_nothing(
    sqlite_url: str, clock: ManualClock
) -> None:
    async with running(sqlite_url, clock) as taskbell, LocalServer(mounted(taskbell)) as server:
        made = good(await taskbell.api.post("/v1/callback-urls", json={"provider": "minimax"}), 201)
        url = server.url + httpx.URL(made["url"]).path
        found = await anyio.to_thread.run_sync(paths.check, url, providers())
        left = await taskbell.rows(receipts)

    assert [each.text for each in found] == ["7 kinds of addresses reach this server"]
    assert left == []


def mounted(taskbell: Taskbell) -> Starlette:
    """Its lifespan runs already, and uvicorn wants one to run."""
    return Starlette(routes=[Mount("/", taskbell.app)])


def test_without_a_callback_url_the_public_url_is_left_out() -> None:
    with api_of({"POST /v1/callback-urls": 403}) as api:
        [found] = public.public_url(api, stopwatch(0.1))

    assert found.level is Level.SKIP


# The providers' keys


@pytest.fixture
async def simulator_url() -> Any:
    async with LocalServer(Simulator(KEY).app) as providers_of_ours:
        yield providers_of_ours.url


def chosen(url: str, name: str, api_key: str | None) -> ProviderSettings:
    return ProviderSettings(base_urls(url)[name], 10, 1, api_key=api_key)


@pytest.mark.parametrize("name", sorted(providers()))
async def test_a_good_key_is_told_from_a_bad_one(simulator_url: str, name: str) -> None:
    async def judged(api_key: str) -> Finding:
        settings = chosen(simulator_url, name, api_key)
        [found] = await anyio.to_thread.run_sync(
            keys.key, providers()[name], settings, system_clock
        )
        return found

    good, bad = await judged(KEY), await judged("sk-wrong")

    assert [good.level, bad.level] == [Level.OK, Level.FAIL]
    assert "refused" in bad.text
    assert f"{name.upper()}_API_KEY" in bad.todo
    assert "sk-wrong" not in repr(bad)


def test_a_provider_out_of_reach_is_no_refusal() -> None:
    url = f"http://127.0.0.1:{free_port()}"

    [found] = keys.key(
        providers()["minimax"], ProviderSettings(url, 1, 1, api_key=KEY), system_clock
    )

    assert found.level is Level.FAIL
    assert "cannot be checked" in found.text


@pytest.mark.parametrize(
    ("answer", "level", "said"),
    [
        ({"base_resp": {"status_code": 1008}}, Level.WARN, "the account is empty"),
        ({"base_resp": {"status_code": 1002}}, Level.WARN, "too many questions"),
        ({"base_resp": {"status_code": 2013}}, Level.OK, "accepted"),
        ({"hello": "world"}, Level.FAIL, "not MiniMax's own answer"),
    ],
)
def test_what_else_a_provider_may_say_is_told(answer: Any, level: Level, said: str) -> None:
    with serving(lambda _path, _body: (200, {}, json.dumps(answer).encode())) as url:
        settings = ProviderSettings(url, 1, 1, api_key=KEY)
        [found] = keys.key(providers()["minimax"], settings, system_clock)

    assert found.level is level
    assert said in found.text


@pytest.mark.parametrize("name", sorted(providers()))
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"<h1>404 Not Found</h1>"),
        (403, b'{"message": "Forbidden"}'),
        (400, b""),
        (410, b'{"detail": "gone"}'),
        (200, b"<form>"),
        (200, b'{"status": "success"}'),
    ],
)
def test_what_something_else_answers_in_a_providers_place_accepts_no_key(
    name: str, status: int, body: bytes
) -> None:
    with serving(lambda _path, _body: (status, {}, body)) as url:
        settings = ProviderSettings(url, 1, 1, api_key=KEY)
        [found] = keys.key(providers()[name], settings, system_clock)

    assert found.level is Level.FAIL
    assert "own answer" in found.text
    assert f"is TASKBELL_{name.upper()}_BASE_URL right?" in found.todo
