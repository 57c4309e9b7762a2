"""`taskbell serve` as processes of their own; what ends before anything runs, in this one."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from deploy.cli import build_app
from store.clock import monotonic
from store.schema import HEAD
from tests.app import bearer, loggers_as_before
from tests.patience import PATIENCE_SECONDS

TASKBELL = Path(sys.executable).with_name("taskbell")
SECONDS = PATIENCE_SECONDS
"""For a process to start or to end; it takes about one."""

# without TLS: to load the authorities takes longer than to ask
ask = partial(httpx.request, trust_env=False, verify=False)


@dataclass(frozen=True, slots=True)
class Serving:
    """A server process. Its output goes to files, so that no full pipe can stop it."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.log.splitlines()]

    @property
    def url(self) -> str:
        return next(line["url"] for line in self.lines if line["message"] == "serving")

    def wait_until_it_answers(self) -> None:
        give_up, pause = monotonic() + SECONDS, threading.Event()
        while not self._answers():
            assert self.process.poll() is None, self.log
            assert monotonic() < give_up, self.log
            pause.wait(0.02)

    def _answers(self) -> bool:
        try:
            return ask("GET", f"{self.url}/readyz").status_code == 200
        except (StopIteration, httpx.TransportError, json.JSONDecodeError):
            return False

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@contextmanager
def serving(folder: Path, *options: str, **environ: str) -> Iterator[Serving]:
    """`taskbell serve --port 0` in a folder, with nothing of our environment."""
    with (folder / "out").open("wb") as out, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [TASKBELL, "serve", "--port", "0", *options],
            cwd=folder,
            env={"PATH": os.defpath, **environ},
            stdout=out,
            stderr=log,
        )
    try:
        server = Serving(process, folder)
        server.wait_until_it_answers()
        yield server
    finally:
        process.kill()
        process.wait(SECONDS)


def run(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Another command beside it, to its end."""
    return subprocess.run(
        [TASKBELL, *words],
        cwd=folder,
        env={"PATH": os.defpath, **environ},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def one_line(text: str) -> str:
    """What a person is told when there is no start."""
    assert text.count("\n") == 1, text
    assert text.startswith("taskbell: ")
    return text


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("dev"), "--dev") as server:
        yield server


def greeting(server: Serving) -> tuple[str, str]:
    """The API key and the callback URL it shows."""
    key = re.search(r"^API key +(\S+)$", server.out, re.MULTILINE)
    url = re.search(r"^MiniMax pushes +(\S+)$", server.out, re.MULTILINE)
    assert key is not None
    assert url is not None
    return key[1], url[1]


def test_a_development_server_shows_a_key_and_a_callback_url_that_work(dev: Serving) -> None:
    key, url = greeting(dev)

    assert url.startswith(f"{dev.url}/callbacks/minimax/")
    challenge = ask("POST", url, json={"challenge": "hello"})
    assert challenge.json() == {"challenge": "hello"}
    push = ask("POST", url, json={"task_id": "1", "status": "Success"})
    assert push.json() == {"status": "success"}
    tasks = ask("GET", f"{dev.url}/v1/tasks", headers=bearer(key)).json()
    assert [task["status"] for task in tasks["data"]] == ["succeeded"]


def test_a_command_beside_it_finds_its_key_and_file(dev: Serving) -> None:
    key, _ = greeting(dev)

    for name in ("taskbell.db.dev-api-key", "taskbell.db.secret-keys"):
        assert (dev.folder / name).stat().st_mode & 0o777 == 0o600
    assert (dev.folder / "taskbell.db.dev-api-key").read_text().strip() == key


def test_a_second_process_on_the_same_file_ends_with_a_line(dev: Serving) -> None:
    second = run(dev.folder, "serve", "--port", "0")

    assert second.returncode == 1
    line = one_line(second.stderr)
    assert "taskbell.db is in use by another taskbell process" in line
    assert str(dev.process.pid) in line
    assert "PostgreSQL" in line


def test_a_port_in_use_ends_with_a_line(dev: Serving, tmp_path: Path) -> None:
    port = dev.url.rpartition(":")[2]

    second = run(tmp_path, "serve", "--port", port)

    assert second.returncode == 1
    line = one_line(second.stderr)
    assert f"127.0.0.1:{port}" in line
    assert "in use" in line
    assert "--port" in line


def test_odd_bytes_on_the_socket_do_not_end_it(dev: Serving) -> None:
    port = int(dev.url.rpartition(":")[2])
    for raw in (
        b"\x16\x03\x01\x02\x00",  # the start of TLS
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /callbacks/minimax/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
            connection.sendall(raw)
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")

    dev.wait_until_it_answers()


def test_its_log_is_json_and_knows_no_token_and_no_key(dev: Serving) -> None:
    key, url = greeting(dev)
    token = url.rpartition("/")[2]
    for path, headers in [
        (url, {}),
        (f"{url}/", {}),
        (f"{url}?challenge={token}", {}),
        (f"{dev.url}/v1/tasks", bearer(key)),
        (f"{dev.url}/v1/tasks?key={key}", bearer(key)),
        (f"{dev.url}/v1/tasks/{key}", bearer(key)),
        (f"{dev.url}/v1/tasks", bearer(key + "x")),
    ]:
        for body in (b"{", b'{"task_id": "1", "status": "Odd"}', b'{"challenge": "x"}'):
            ask("POST", path, content=body, headers=headers)
            ask("GET", path, headers=headers)
    secrets = (dev.folder / "taskbell.db.secret-keys").read_text().strip()

    assert "odd" in dev.log  # it does tell what came
    for secret in (token, key, secrets):
        assert secret not in dev.log
    assert {line["level"] for line in dev.lines} <= {"debug", "info", "warning"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_start_shows_an_admin_key_once_and_a_signal_ends_it_well(
    tmp_path: Path, number: signal.Signals
) -> None:
    with serving(tmp_path) as server:
        shown = re.search(r"tb_\S+", server.out)
        assert shown is not None
        keys = ask("GET", f"{server.url}/v1/api-keys", headers=bearer(shown[0]))
        assert [each["scope"] for each in keys.json()["data"]] == ["admin"]
        first_exit = server.stop(number)
        assert shown[0] not in server.log

    assert first_exit == 0
    with sqlite3.connect(tmp_path / "taskbell.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    if number is signal.SIGTERM:
        with serving(tmp_path) as again:
            assert "tb_" not in again.out
            good = ask("GET", f"{again.url}/v1/tasks", headers=bearer(shown[0]))
            assert good.status_code == 200
            assert again.stop(number) == 0


def test_a_bad_setting_ends_with_a_line_and_no_traceback(tmp_path: Path) -> None:
    ended = run(tmp_path, "serve", TASKBELL_PORT="soon")

    assert ended.returncode == 2
    assert ended.stdout == ""
    assert one_line(ended.stderr) == (
        "taskbell: TASKBELL_PORT is 'soon': it must be a port number, 0 to 65535\n"
    )
    assert list(tmp_path.iterdir()) == []


# The same without a process of its own


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to be in, and no settings but a test's own."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if "TASKBELL" in name or name.endswith("_API_KEY")]:  # noqa: TID251
        monkeypatch.delenv(name)
    with loggers_as_before():
        yield tmp_path


def invoke(*words: str, **environ: str) -> Result:
    return CliRunner().invoke(build_app(), words, env=environ)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"TASKBELL_PROT": "9000"}, "TASKBELL_PROT is not a setting"),
        ({"TASKBELL_ROLES": "sleep"}, "TASKBELL_ROLES is 'sleep'"),
        ({"TASKBELL_SECRET_KEYS": "short"}, "TASKBELL_SECRET_KEYS "),
        ({"TASKBELL_MINIMAX_CONFIRM": "always"}, "TASKBELL_MINIMAX_CONFIRM is 'always'"),
        ({"TASKBELL_DATABASE_URL": "mysql://x"}, "TASKBELL_DATABASE_URL "),
        ({"TASKBELL_PUBLIC_URL": "http://x:99999"}, "TASKBELL_PUBLIC_URL is 'http://x:99999'"),
        ({"TASKBELL_DATABASE_URL": "postgresql://h/d"}, "TASKBELL_SECRET_KEYS is not set"),
    ],
)
def test_wrong_settings_are_wrong_use(here: Path, environ: dict[str, str], words: str) -> None:
    ended = invoke("serve", **environ)

    assert ended.exit_code == 2
    assert words in one_line(ended.stderr)
    assert ended.stdout == ""


def test_an_env_file_is_read_where_the_command_runs(here: Path) -> None:
    (here / ".env").write_text("TASKBELL_PORT=soon\n")

    ended = invoke("serve")

    assert ended.exit_code == 2
    assert "TASKBELL_PORT is 'soon'" in one_line(ended.stderr)


def test_a_database_that_does_not_answer_ends_with_a_line(here: Path) -> None:
    url = "postgresql://user:hush@/nothing?host=/nonexistent-folder-of-taskbell"

    ended = invoke("migrate", TASKBELL_DATABASE_URL=url)

    assert ended.exit_code == 1
    assert "hush" not in one_line(ended.stderr)


def test_a_folder_that_cannot_be_used_is_named(here: Path) -> None:
    (here / "file").write_text("")

    ended = invoke("serve", "--port", "0", TASKBELL_DATABASE_URL="sqlite:///file/taskbell.db")

    assert ended.exit_code == 1
    assert "file" in one_line(ended.stderr)


def test_migrating_twice_is_migrating_once(here: Path) -> None:
    first, second = invoke("migrate"), invoke("migrate")

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout == f"sqlite:///taskbell.db: schema {HEAD} (it was at nothing)\n"
    assert second.stdout == f"sqlite:///taskbell.db: schema {HEAD} (it was there already)\n"


def test_a_schema_that_is_newer_is_refused(here: Path) -> None:
    invoke("migrate")
    database = sqlite3.connect(here / "taskbell.db")
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.commit()
    database.close()

    ended = invoke("migrate")

    assert ended.exit_code == 1
    assert "newer than this taskbell" in one_line(ended.stderr)


def test_the_openapi_document_is_printed_and_nothing_is_left(here: Path) -> None:
    printed = invoke("openapi")

    assert printed.exit_code == 0
    document = json.loads(printed.stdout)
    assert document["openapi"].startswith("3.1")
    assert "/v1/tasks" in document["paths"]
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("words", [("--port", "65536"), ("--port", "soon"), ("--dve",), ("x",)])
def test_wrong_words_are_wrong_use(here: Path, words: tuple[str, ...]) -> None:
    assert invoke("serve", *words).exit_code == 2
