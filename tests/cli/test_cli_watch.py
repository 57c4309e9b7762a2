import fcntl
import io
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from deploy.cli import frame, tasks
from deploy.cli.client import Client
from deploy.cli.frame import Surroundings
from deploy.cli.watching import LiveFace
from store.clock import ManualClock
from tests.patience import PATIENCE_SECONDS

START = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
ID = "task_01kb3x0e5x"
REFUSED = httpx.ConnectError("refused")

Step = dict[str, Any] | httpx.Response | Exception


def a_task(status: str, provider_status: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "provider": "minimax",
        "provider_task_id": "176843862716480",
        "status": status,
        "provider_status": provider_status,
        "progress": None,
        "outputs": [],
        "error": None,
        "created_at": "2026-11-21T03:00:00.000000Z",
        "updated_at": "2026-11-21T03:00:05.000000Z",
        "finished_at": None,
        "deadline_at": "2026-11-21T05:00:00.000000Z",
        **more,
    }


DONE = a_task(
    "succeeded",
    "Success",
    outputs=[
        {"url": "https://cdn.test/a.mp4", "kind": "video", "expires_at": "2026-11-22T03:00:00Z"}
    ],
    finished_at="2026-11-21T03:01:07.000000Z",
)


class World:
    """A server that says one thing after the other, the last one for ever, and a clock."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = list(steps)
        self._clock = ManualClock(START)
        self.asked: list[str] = []
        self.interrupt_at: int | None = None

    def run(self, *arguments: str) -> Result:
        app = frame.new_app()
        tasks.register(app)
        app.command("other")(lambda: None)  # a lone command would lose its name
        around = Surroundings(
            connect=lambda: Client("http://t.test", "tb_key", httpx.MockTransport(self._answer)),
            clock=self._clock,
            monotonic=lambda: self._clock().timestamp(),
            sleep=self._sleep,
        )
        return CliRunner().invoke(app, arguments, obj=around, prog_name="taskbell")

    def _sleep(self, seconds: float) -> None:
        self._clock.advance(seconds=seconds)
        if len(self.asked) == self.interrupt_at:
            raise KeyboardInterrupt

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, httpx.Response) else httpx.Response(200, json=step)


def test_each_change_is_a_line_and_the_outputs_come_last() -> None:
    preparing = a_task("processing", "Preparing")
    world = World([a_task("queued"), preparing, preparing, a_task("processing", "Making"), DONE])

    result = world.run("watch", ID)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "2026-11-21T03:00:05Z  queued  -",
        "2026-11-21T03:00:05Z  processing  Preparing",
        "2026-11-21T03:00:05Z  processing  Making",
        "2026-11-21T03:00:05Z  succeeded  Success",
        "video  https://cdn.test/a.mp4  (until 2026-11-22T03:00:00Z)",
    ]
    assert world.asked == [f"GET /v1/tasks/{ID}"] * 5


NO_KEY = {"code": "no_key", "message": "the server has no API key for MiniMax"}
TURNED_AWAY = {
    "code": "key_refused",
    "message": "MiniMax refuses the API key: check MINIMAX_API_KEY",
}


def test_why_there_is_no_news_is_told_at_once_and_when_it_changes() -> None:
    steps = [NO_KEY, NO_KEY, TURNED_AWAY, None]
    world = World([*(a_task("queued", trouble=each) for each in steps), DONE])

    lines = world.run("watch", ID).stdout.splitlines()

    assert [line.partition("  ")[2] for line in lines[:4]] == [
        "queued  -",
        f"no news: {NO_KEY['message']}",
        f"no news: {TURNED_AWAY['message']}",
        "the trouble is over",
    ]


def test_a_task_that_timed_out_in_trouble_says_so() -> None:
    lines = World([a_task("timed_out", trouble=TURNED_AWAY)]).run("watch", ID).stdout.splitlines()

    assert lines[-1] == f"no news: {TURNED_AWAY['message']}"


def test_track_with_wait_warns_at_once_without_a_key() -> None:
    tracked = {**a_task("queued", trouble=NO_KEY), "warnings": [NO_KEY]}
    world = World([tracked, a_task("queued", trouble=NO_KEY), DONE])

    result = world.run("track", "minimax", "1", "--wait")

    assert result.stderr.endswith(f"warning: {NO_KEY['message']}\n")
    assert f"no news: {NO_KEY['message']}" in result.stdout.splitlines()[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ("watch", ID, "--timeout", "5s"),
        ("track", "minimax", "1", "--wait", "--timeout", "5"),
        ("watch", ID, "--timeout", "5s", "--json"),
    ],
)
def test_waiting_ends_in_time_and_the_task_goes_on(arguments: tuple[str, ...]) -> None:
    world = World([a_task("processing")])

    result = world.run(*arguments)

    assert result.exit_code == 2
    assert result.stderr.endswith(
        f"no ending in 5 s: the task goes on; see it again with: taskbell watch {ID}\n"
    )
    assert world.asked == [world.asked[0], *[f"GET /v1/tasks/{ID}"] * 5]


def test_waiting_for_a_server_that_is_away_ends_in_time_too() -> None:
    world = World([a_task("processing"), httpx.ConnectError("gone")])

    result = world.run("watch", ID, "--timeout", "3s")

    assert (result.exit_code, len(world.asked)) == (2, 4)


def test_each_tenth_done_is_a_line() -> None:
    done = [0.0, 0.31, 0.32, 0.39, 0.4, 1.0]
    world = World([*(a_task("processing", "Running", progress=each) for each in done), DONE])

    lines = world.run("watch", ID).stdout.splitlines()

    assert [line.split()[-1] for line in lines[:-2]] == ["0%", "31%", "40%", "100%"]
    assert lines[-2].endswith("succeeded  Success")


@pytest.mark.parametrize(
    ("last", "code", "line"),
    [
        pytest.param(DONE, 0, "video  https://cdn.test/a.mp4", id="succeeded"),
        pytest.param(a_task("succeeded"), 0, "it named no outputs", id="nothing-made"),
        pytest.param(
            a_task("succeeded", outputs=[{"url": None, "file_id": "205258526306433"}]),
            0,
            "output  file 205258526306433, no URL",
            id="only-a-file-id",
        ),
        pytest.param(
            a_task("failed", error={"code": "1027", "message": "sensitive\x1b[2J content"}),
            1,
            "failed: sensitive\ufffd[2J content (code 1027: the output was withheld as sensitive by"
            " MiniMax's content check)",
            id="failed",
        ),
        pytest.param(a_task("failed"), 1, "failed: the provider gave no reason", id="no-reason"),
        pytest.param(
            a_task("canceled", error={"code": "untracked", "message": "tracking was stopped"}),
            1,
            "canceled: tracking was stopped (code untracked)",
            id="canceled",
        ),
        pytest.param(
            a_task("timed_out"), 2, "timed out: no ending before 2026-11-21T05:00:00Z", id="late"
        ),
    ],
)
def test_the_ending_is_told_in_plain_words_and_in_the_exit_code(
    last: dict[str, Any], code: int, line: str
) -> None:
    result = World([last]).run("watch", ID)

    assert (result.exit_code, result.stderr) == (code, "")
    assert result.stdout.splitlines()[-1].startswith(line)


def test_json_is_a_line_for_every_change_also_of_progress() -> None:
    steps = [a_task("processing", "p", progress=share) for share in (0.1, 0.1, 0.5)]
    world = World([*steps, DONE])

    result = world.run("watch", ID, "--json")

    shown = [json.loads(line) for line in result.stdout.splitlines()]
    assert shown == [steps[0], steps[2], DONE]


def test_track_with_wait_goes_on_watching() -> None:
    world = World([httpx.Response(201, json=a_task("queued")), DONE])

    result = world.run("track", "minimax", "176843862716480", "--wait")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"{ID}  minimax  176843862716480  queued"
    assert world.asked == ["POST /v1/tasks", f"GET /v1/tasks/{ID}"]


def test_track_with_wait_and_json_prints_only_tasks() -> None:
    world = World([httpx.Response(201, json=a_task("queued")), DONE])

    result = world.run("track", "minimax", "176843862716480", "--wait", "--json")

    assert [json.loads(line) for line in result.stdout.splitlines()] == [a_task("queued"), DONE]


def test_a_server_that_is_away_for_a_moment_is_mentioned_once() -> None:
    away = httpx.Response(503, json={"detail": "store unavailable"})
    world = World([a_task("queued"), REFUSED, away, REFUSED, DONE])

    result = world.run("watch", ID)

    assert result.exit_code == 0
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("no Taskbell server at http://t.test")
    assert result.stderr.endswith("(trying again for 60 s)\n")


def test_a_server_that_stays_away_is_given_up_after_a_minute() -> None:
    world = World([a_task("queued"), REFUSED])

    result = world.run("watch", ID)

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("taskbell: no Taskbell server at")
    assert len(world.asked) == 1 + 61


def test_a_server_that_was_never_there_is_not_waited_for() -> None:
    world = World([REFUSED])

    result = world.run("watch", ID)

    assert (result.exit_code, len(world.asked)) == (1, 1)


def picture(console: Console, face: LiveFace) -> str:
    with console.capture() as captured:
        console.print(face)
    return captured.get()


def test_the_live_picture_says_that_the_server_is_away_until_it_is_back() -> None:
    console = Console(file=io.StringIO(), width=120)
    face = LiveFace(a_task("processing", progress=0.5), console, ManualClock(START))

    face.away("refused")
    away = picture(console, face)
    face.show(a_task("processing"))
    back = picture(console, face)

    assert "not answering, trying again" in away
    assert "not answering" not in back


def test_a_task_that_is_not_known_is_one_line() -> None:
    result = World([httpx.Response(404, json={"detail": f"no task {ID}"})]).run("watch", ID)

    assert (result.exit_code, result.stderr) == (1, f"taskbell: no task {ID}\n")


def test_an_interrupt_leaves_with_a_word_on_how_to_come_back() -> None:
    world = World([a_task("processing", "Preparing")])
    world.interrupt_at = 2

    result = world.run("watch", ID)

    assert result.exit_code == 130
    assert result.stderr == f"the task goes on; see it again with: taskbell watch {ID}\n"


# the command in a process of its own, asking twenty times a second
SCRIPT = f"""
import sys, time
from deploy.cli import frame, tasks
from deploy.cli.client import Client

app = frame.new_app()
tasks.register(app)
app.command("other")(lambda: None)
connect = lambda: Client(sys.argv[1], None)
around = frame.Surroundings(connect=connect, sleep=lambda seconds: time.sleep(seconds / 20))
app(["watch", "{ID}"], obj=around)
"""


class Server(ThreadingHTTPServer):
    """The API on a real socket. The task is under way until `done` is set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.done = threading.Event()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        under_way = a_task("processing", "Making\x1b[2J", progress=0.42)
        body = json.dumps(DONE if self.server.done.is_set() else under_way).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


class Terminal:
    """`taskbell watch` in a pseudo-terminal of 100 columns, its stderr apart."""

    def __init__(self, url: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self._theirs = theirs  # kept open: the terminal outlives the command
        self._at_first = termios.tcgetattr(theirs)
        self._seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, url],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={"TERM": "xterm-256color", "PYTHONPATH": str(Path.cwd()), "LANG": "C.UTF-8"},
        )

    def read_until(self, text: str) -> str:
        while text.encode() not in self._seen:
            ready, _, _ = select.select([self._ours], [], [], PATIENCE_SECONDS)
            assert ready, f"{text!r} never came: {self._seen[-500:]!r}"
            self._seen += os.read(self._ours, 4096)
        return self._seen.decode(errors="replace")

    def close(self) -> tuple[int, str, bool]:
        """Exit code, stderr, and whether the terminal is as it was."""
        _, complaints = self.process.communicate(timeout=PATIENCE_SECONDS)
        unchanged = termios.tcgetattr(self._theirs) == self._at_first
        os.close(self._theirs)
        os.close(self._ours)
        return self.process.returncode, complaints.decode(), unchanged


HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"


def test_a_terminal_shows_the_task_live_and_is_left_as_it_was(server: Server) -> None:
    terminal = Terminal(f"http://127.0.0.1:{server.server_port}")

    live = terminal.read_until("42%")
    server.done.set()
    everything = terminal.read_until("03:00:00Z)")

    assert HIDDEN in live
    assert "processing" in live
    assert "Making\ufffd[2J" in live
    assert "\x1b[2J" not in everything
    assert "✓ succeeded" in everything
    assert "1:07" in everything
    assert "video  https://cdn.test/a.mp4" in everything.replace("\r\n", "\n")
    assert everything.rindex(SHOWN) > everything.rindex(HIDDEN)
    assert terminal.close() == (0, "", True)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, f"the task goes on; see it again with: taskbell watch {ID}\n"),
        (signal.SIGTERM, 143, ""),  # what `timeout 60 taskbell watch` sends
    ],
)
def test_a_signal_gives_the_cursor_back(
    server: Server, number: signal.Signals, code: int, word: str
) -> None:
    terminal = Terminal(f"http://127.0.0.1:{server.server_port}")
    terminal.read_until("42%")

    terminal.process.send_signal(number)

    assert terminal.read_until(SHOWN)
    assert terminal.close() == (code, word, True)
