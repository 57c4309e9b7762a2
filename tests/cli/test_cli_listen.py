import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from typer.testing import CliRunner, Result

from deploy.cli import frame, listen
from deploy.cli.client import Client
from deploy.cli.errors import CommandError, UsageError
from deploy.cli.eventstream import Message, messages, newest_cursor
from deploy.cli.frame import Surroundings
from deploy.cli.listening import JsonFace, LineFace, Listener
from deploy.cli.local import Local, address
from dispatch.signing import new_secret
from dispatch.sink import Event, Target, sinks
from store.clock import ManualClock, system_clock
from store.events import rfc3339
from tests.cli.test_cli_checkup import serving
from tests.dispatch.certificates import Authority

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
URL = "http://127.0.0.1:3000/hook"
SECRET = new_secret()


def an_event(cursor: int, minutes_ago: int = 0) -> dict[str, Any]:
    then = (NOW - timedelta(minutes=minutes_ago)).isoformat()
    task = {"id": f"task_{cursor}", "provider": "minimax", "prompt": "sea\u2028\u0085sun"}
    data = {"task": task}
    return {"id": f"evt_{cursor}", "type": "task.succeeded", "timestamp": then, "data": data}


def sent(cursor: int) -> bytes:
    body = json.dumps(an_event(cursor), ensure_ascii=False).encode()
    return b"id: %d\nevent: task.succeeded\ndata: %s\n\n" % (cursor, body)


class World:
    """A server whose stream sends a part each visit, and then somebody presses Ctrl-C; a clock.

    parts: bytes, or what the visit is answered with instead. log: what /v1/events has. old: it does
    not say where its log ends.
    """

    def __init__(
        self,
        *parts: bytes | httpx.Response | Exception,
        log: Sequence[Any] = (),
        old: bool = False,
    ) -> None:
        self._parts = list(parts)
        self._log = log
        self._old = old
        self._clock = ManualClock(NOW)
        self.places: list[str] = []
        self.queries: list[dict[str, str]] = []
        self.naps = 0

    @property
    def around(self) -> Surroundings:
        return Surroundings(connect=self.connect, clock=self._clock, sleep=self._sleep)

    def connect(self) -> Client:
        return Client("http://t.test", "tb_key", httpx.MockTransport(self._answer))

    def run(self, *arguments: str) -> Result:
        app = frame.new_app()
        listen.register(app)
        app.command("other")(lambda: None)  # a lone command would lose its name
        return CliRunner().invoke(
            app, ["listen", *arguments], obj=self.around, prog_name="taskbell"
        )

    def _sleep(self, _seconds: float) -> None:
        self.naps += 1
        assert self.naps < 10

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/events":
            if self._old:
                return httpx.Response(200, json={"data": [], "next_cursor": None})
            newest = max((event["cursor"] for event in self._log), default=0)
            return gone("cursor_ahead", newest=newest)
        if not self._parts:
            raise KeyboardInterrupt
        self.places.append(request.headers.get("last-event-id", ""))
        self.queries.append(dict(request.url.params))
        part = self._parts.pop(0)
        if isinstance(part, Exception):
            raise part
        return part if isinstance(part, httpx.Response) else httpx.Response(200, content=part)


def gone(code: str, **known: int) -> httpx.Response:
    return httpx.Response(410, json={"code": code, "detail": f"{code}: read on", **known})


class Program:
    """What runs on this machine: it answers a status, or not at all, in turn; the last for ever."""

    def __init__(self, *answers: int | type[Exception]) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if not isinstance(answer, int):
            raise answer("gone")
        self.requests.append(request)
        return httpx.Response(answer)

    @property
    def ids(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.requests]


def listening(world: World, program: Program, secret: str = SECRET) -> Listener:
    local = Local(URL, secret, ManualClock(NOW), lambda: 0.0, httpx.MockTransport(program))
    listener = Listener(world.connect(), {}, 0, local, LineFace(), world.around)
    with pytest.raises(KeyboardInterrupt):
        listener.run()
    return listener


@given(st.lists(st.integers(1, 40), max_size=6))
def test_a_stream_is_taken_apart_however_it_was_cut(cuts: list[int]) -> None:
    progress = b'event: task.progress\ndata: {"type":"task.progress"}\n\n'
    whole = b"retry: 2000\n:\n" + sent(1) + b":\n:\n" + progress + sent(2) + b"id: 3\ndata: {"
    pieces, rest = [], whole
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]

    found = list(messages([*pieces, rest]))

    assert [message.cursor for message in found] == [1, 2]
    assert found[0] == Message(1, sent(1).partition(b"data: ")[2][:-2])


@pytest.mark.parametrize(
    "stream", [b"id: x\ndata: {}\n\n", b"id: " + b"1" * 20 + b"\ndata: {}\n\n"]
)
def test_what_is_no_stream_of_ours_is_refused(stream: bytes) -> None:
    with pytest.raises(CommandError):
        list(messages([stream]))


@pytest.mark.parametrize(("log", "newest"), [([], 0), ([3, 8], 8)])
def test_the_server_says_where_its_log_ends(log: list[int], newest: int) -> None:
    world = World(log=[{**an_event(c), "cursor": c} for c in log])

    assert newest_cursor(world.connect()) == newest


def test_a_server_that_does_not_say_is_followed_from_when_it_answers() -> None:
    world = World(sent(5), old=True)

    result = world.run()

    assert (result.exit_code, world.places) == (0, [""])


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("3000", "http://127.0.0.1:3000/"),
        ("3000/hook?a=b", "http://127.0.0.1:3000/hook?a=b"),
        ("localhost:3000/hook", "http://localhost:3000/hook"),
        ("https://[::1]:8443/a?b=c", "https://[::1]:8443/a?b=c"),
    ],
)
def test_an_address_may_be_a_port_or_a_url(text: str, url: str) -> None:
    assert address(text) == url


@pytest.mark.parametrize(
    "text", ["", "0", "99999", "ftp://a/", "file:///etc/passwd", "http://", "http://me:pw@a/"]
)
def test_what_is_no_address_is_wrong_use(text: str) -> None:
    with pytest.raises(UsageError, match="is no port and no http"):
        address(text)


def test_an_event_goes_out_as_to_a_subscription() -> None:
    program, secret = Program(204), new_secret()

    listening(World(sent(7)), program, secret)

    [request] = program.requests
    body = json.dumps(an_event(7), ensure_ascii=False).encode()
    event = Event("evt_7", "task.succeeded", "/taskbell/minimax", "task_7", NOW, body)
    wanted = sinks()["webhook"].render(event, Target("", URL, (secret,), {}), NOW)
    assert (request.content, str(request.url)) == (body, URL)
    assert dict(request.headers) == {
        **wanted.headers,
        "host": "127.0.0.1:3000",
        "user-agent": request.headers["user-agent"],
        "accept-encoding": "identity",
        "content-length": str(len(body)),
    }
    assert request.headers["user-agent"].startswith("taskbell/")


def test_the_shown_secret_verifies_what_arrives() -> None:
    program, secret = Program(200), new_secret()
    local = Local(URL, secret, system_clock, lambda: 0.0, httpx.MockTransport(program))
    world = World(sent(1))

    with pytest.raises(KeyboardInterrupt):
        Listener(world.connect(), {}, 0, local, LineFace(), world.around).run()

    [request] = program.requests
    assert Webhook(secret).verify(request.content, dict(request.headers)) == an_event(1)


def test_while_the_program_is_away_its_event_waits_and_that_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = Program(httpx.ConnectError, httpx.ConnectTimeout, httpx.ConnectError, 200)

    listening(World(sent(1) + sent(2)), program)

    shown = capsys.readouterr()
    assert program.ids == ["evt_1", "evt_2"]
    assert shown.err == f"nobody is at {URL} (gone): waiting with this event\n"
    assert shown.out.splitlines() == [
        "--> task.succeeded  task_1  evt_1",
        "<-- 200  0 ms  evt_1",
        "--> task.succeeded  task_2  evt_2",
        "<-- 200  0 ms  evt_2",
    ]


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (500, "<-- 500  0 ms  evt_1"),
        (  # and nothing is sent to where it leads
            302,
            "<-- 302: redirects are not followed; it points to no place: there is no Location"
            "  0 ms  evt_1",
        ),
        (httpx.ReadTimeout, "<-- no answer in 15 s  0 ms  evt_1"),
        (httpx.RemoteProtocolError, "<-- it hung up without an answer  0 ms  evt_1"),
    ],
)
def test_every_answer_and_none_is_told_and_the_next_event_follows(
    answer: Any, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    again = [answer] * 2 if answer is httpx.RemoteProtocolError else []
    program = Program(answer, *again, 200)

    listener = listening(World(sent(1) + sent(2)), program)

    assert line in capsys.readouterr().out.splitlines()
    assert program.ids[-1] == "evt_2"
    assert listener.answered == {True: 1, False: 1}


@pytest.mark.parametrize(("name", "reason"), [("127.0.0.1", "self"), ("127.0.0.2", "IP address")])
def test_a_certificate_that_is_not_trusted_is_told_by_name(
    tmp_path: Path, name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path, name)
    if name == "127.0.0.2":  # trusted, and for another address
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with serving(lambda _path, _body: (200, {}, b""), authority) as url:
        result = World(sent(1)).run(url)

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"taskbell: no safe connection to {url}: ")
    assert reason in result.stderr
    assert "SSL_CERT_FILE=" in result.stderr


def test_a_certificate_of_ones_own_is_trusted_by_ssl_cert_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with serving(lambda _path, _body: (200, {}, b""), authority) as url:
        result = World(sent(1)).run(url)

    assert "<-- 200" in result.stdout


def test_a_program_that_hangs_up_once_gets_the_event_again() -> None:
    program = Program(httpx.ReadError, 200)

    listening(World(sent(1)), program)

    assert program.ids == ["evt_1"]


def test_when_taskbell_is_back_it_goes_on_behind_the_last_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    away = httpx.Response(503, json={"detail": "shutting down"})
    refused = httpx.ConnectError("refused")
    world, program = World(sent(1) + sent(2)[:-9], refused, away, sent(2)), Program(200)

    listening(world, program)

    assert world.places == ["0", "1", "1", "1"]
    assert program.ids == ["evt_1", "evt_2"]
    said = capsys.readouterr().err
    assert said.count("trying again, nothing gets lost") == 1
    assert said.endswith("Taskbell is back\n")


def test_without_an_address_events_are_only_shown() -> None:
    world = World(sent(5), log=[{**an_event(4), "cursor": 4}])

    result = world.run()

    assert result.exit_code == 0
    assert result.stdout == "--> task.succeeded  task_5  evt_5\n"
    assert result.stderr.splitlines() == [
        "events of http://t.test are shown as they come (Ctrl-C to stop)",
        "1 events came",
    ]
    assert (world.places, world.queries) == (["4"], [{"type": "task.*"}])


def test_what_is_wanted_is_asked_for_from_that_far_back() -> None:
    world = World(sent(9))

    result = world.run(
        "--type", "task.failed,task.canceled", "--provider", "minimax", "--task", "task_9",
        "--replay", "10m", "--json",
    )  # fmt: skip

    since = rfc3339(NOW - timedelta(minutes=10))
    wanted = {"type": "task.failed,task.canceled", "provider": "minimax", "task": "task_9"}
    assert (world.places, world.queries) == ([""], [wanted | {"since": since}])
    assert json.loads(result.stdout) == {**an_event(9), "cursor": 9}


def test_after_a_break_it_goes_on_behind_its_last_event_also_when_it_looked_back() -> None:
    world = World(sent(9), sent(10))

    world.run("--replay", "10m", "--json")

    assert world.places == ["", "9"]


@pytest.mark.parametrize(
    "answer",
    [gone("cursor_ahead", newest=3), gone("cursor_expired", oldest=40)],
    ids=["ahead", "expired"],
)
def test_a_cursor_that_is_gone_ends_it_with_words_and_what_to_do(answer: httpx.Response) -> None:
    world = World(sent(9), answer)

    result = world.run()

    assert result.exit_code == 1
    [line] = [line for line in result.stderr.splitlines() if line.startswith("taskbell: ")]
    assert f"{answer.json()['code']}: read on; start listen again" in line
    assert "--replay 1h" in line


def test_as_json_an_event_has_its_answer_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    world, program = World(sent(5)), Program(201)
    local = Local(URL, SECRET, ManualClock(NOW), lambda: 0.0, httpx.MockTransport(program))
    face = JsonFace(answered=True)

    with pytest.raises(KeyboardInterrupt):
        Listener(world.connect(), {}, 0, local, face, world.around).run()

    [line] = capsys.readouterr().out.splitlines()
    answer = {"status": 201, "seconds": 0.0, "error": None}
    assert json.loads(line) == {**an_event(5), "cursor": 5, "answer": answer}


def test_a_secret_of_ones_own_is_not_shown_again() -> None:
    secret = new_secret()

    given = World(b"").run("3000", "--secret", secret)
    made = World(b"").run("3000")

    assert (given.exit_code, made.exit_code) == (0, 0)
    assert secret not in given.output
    assert "signed with whsec_" in made.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["3000", "--secret", "hunter2"], "--secret: a signing secret starts with whsec_"),
        (["--secret", "whsec_AAAA"], "--secret signs what is sent to a PORT or URL"),
        (["3000", "--replay", "soon"], "--replay 'soon' is not a duration"),
        (["ftp://a/"], "'ftp://a/' is no port and no http(s) address"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], said: str) -> None:
    result = World().run(*arguments)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"taskbell: {said}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(422, json={"detail": "type 1: no such type"}), "type 1: no such type"),
        (httpx.Response(401, json={}), "the server refused TASKBELL_API_KEY"),
        (httpx.Response(200, content=b"id: 1\ndata: []\n\n"), "the event stream sent what is no"),
    ],
)
def test_a_server_that_will_have_none_of_it_ends_it(answer: httpx.Response, said: str) -> None:
    result = World(answer).run()

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"taskbell: {said}")
