import asyncio
import contextlib
import json
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy.app import make_app
from deploy.cli import frame, trigger
from deploy.cli.changes import changed
from deploy.cli.client import Client
from deploy.cli.errors import UsageError
from deploy.cli.frame import Surroundings
from deploy.cli.signer import key_in
from deploy.demo.cases import CASES, new_task_id, sequence
from deploy.demo.server import LocalServer
from deploy.service import make_service
from deploy.settings import load
from receiver.provider import providers
from store.database import open_database
from tests.ports import free_port

KEY = "tb_key_of_more_than_32_characters_here"
NOWHERE = "http://127.0.0.1:9"
NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
ENDINGS = {
    "success": "succeeded",
    "succeeded": "succeeded",
    "failed": "failed",
    "expired": "failed",
    "timeout": "failed",
    "cancelled": "canceled",
    "queueing": "queued",
    "preparing": "queued",
    "queued": "queued",
    "processing": "processing",
    "running": "processing",
}


def run(url: str, *arguments: str) -> Result:
    app = frame.new_app()
    trigger.register(app)
    app.command("other")(lambda: None)  # a lone command would lose its name
    around = Surroundings(connect=lambda: Client(url, KEY))
    return CliRunner().invoke(app, ["trigger", *arguments], obj=around, prog_name="taskbell")


@contextlib.asynccontextmanager
async def server(database_url: str, jwks_port: int, **more: str) -> AsyncIterator[str]:
    """The URL of a server on a socket that looks for Atlas Cloud's keys at a port of this machine."""
    port = free_port()
    settings = load(
        {
            "TASKBELL_PORT": str(port),
            "TASKBELL_API_KEY": KEY,
            "TASKBELL_SECRET_KEYS": "s" * 32,
            "TASKBELL_ATLASCLOUD_BASE_URL": f"http://127.0.0.1:{jwks_port}",
            **more,
        }
    )
    service = make_service(settings, open_database(database_url))
    async with LocalServer(make_app(service), port=port) as local:
        yield local.url


async def test_every_case_is_taken_by_a_running_server(sqlite_url: str, tmp_path: Path) -> None:
    port = free_port()
    signed = ["--private-key", str(tmp_path / "dev.pem"), "--jwks-port", str(port)]
    async with server(sqlite_url, port) as there:
        for name, case in CASES.items():
            options = signed if case.provider == "atlascloud" else []

            result = await asyncio.to_thread(run, there, name, "--json", *options)

            assert result.exit_code == 0, result.output
            told = json.loads(result.stdout)
            assert [push["status"] for push in told["pushes"]] == [200]
            if case.about_a_task:
                [word] = {word for word in name.replace(".", "-").split("-") if word in ENDINGS}
                assert told["task"]["status"] == ENDINGS[word], name
            else:
                assert told["task"] is None


async def test_what_is_sent_and_answered_and_came_of_it_is_told(
    sqlite_url: str, tmp_path: Path
) -> None:
    async with server(sqlite_url, free_port()) as there:
        told = await asyncio.to_thread(
            run, there, "minimax.success", "--task", "42", "--repeat", "2", "--reorder"
        )
        with Client(there, KEY) as api:
            made = await asyncio.to_thread(api.post, "/v1/callback-urls", {"provider": "minimax"})
        url = ["--url", made.body["url"]]
        refused = await asyncio.to_thread(run, there, "minimax.success", "--set", "status=3", *url)
        forged = await asyncio.to_thread(
            run, there, "atlascloud.success", "--private-key", str(tmp_path / "dev.pem")
        )
        with Client(there, KEY) as api:
            listed = (await asyncio.to_thread(api.get, "/v1/events"))["data"]

    lines = told.stdout.splitlines()
    assert told.exit_code == 0
    assert [line.split()[1] for line in lines[:-1]] == [
        *("minimax.success", "200") * 2,
        *("minimax.processing", "200") * 2,
    ]
    assert lines[0].startswith('--> minimax.success  {"task_id": "42", "status": "Success"')
    assert lines[-1].endswith("  minimax  42  succeeded")
    assert [event["type"] for event in listed] == ["task.succeeded"]
    assert refused.exit_code == 1
    assert "<-- 400 " in refused.stdout
    assert refused.stderr == "taskbell: 1 of 1 pushes were refused\n"
    assert url[1] not in refused.output
    assert forged.exit_code == 1
    assert "<-- 503 " in forged.stdout


async def test_an_ending_that_waits_for_the_providers_word_is_explained(sqlite_url: str) -> None:
    asks_first = {"MINIMAX_API_KEY": "sk-0123456789abc", "TASKBELL_MINIMAX_BASE_URL": NOWHERE}
    async with server(sqlite_url, free_port(), **asks_first) as there:
        told = await asyncio.to_thread(run, there, "minimax.success")

    assert told.exit_code == 0
    assert told.stderr.startswith("it has not ended: with an API key the server first asks minimax")


def test_a_server_that_is_not_there_is_named_without_the_secret_of_its_url() -> None:
    result = run(NOWHERE, "minimax.success", "--url", "http://127.0.0.1:9/callbacks/minimax/hush")

    assert result.exit_code == 1
    assert result.stderr.startswith("taskbell: no answer from http://127.0.0.1:9/,")
    assert "hush" not in result.output


@pytest.mark.parametrize("arguments", [[], ["--list"]])
def test_the_cases_are_listed_with_a_sentence_each(arguments: list[str]) -> None:
    result = run(NOWHERE, *arguments)

    assert result.exit_code == 0
    for name, case in CASES.items():
        assert f"{name}  " in result.stdout
        assert case.sentence in result.stdout
    assert "元境 does not push" in result.stderr


def test_the_list_as_json_is_a_line_each() -> None:
    rows = [json.loads(line) for line in run(NOWHERE, "--list", "--json").stdout.splitlines()]

    assert [row["case"] for row in rows] == list(CASES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["minimax.speech-success"], "MiniMax pushes no speech tasks"),
        (["opencomputing.success"], "元境 does not push, it is polled; follow a task with"),
        (
            ["minimax.sucess"],
            "PROVIDER.CASE 'minimax.sucess' is not known; did you mean 'minimax.success'? Known: minim",
        ),
        (["kling.success"], "PROVIDER.CASE 'kling.success' is not known; did you"),
        (["minimax.processing", "--reorder"], "--reorder: nothing is pushed before minimax."),
        (["minimax.success", "--set", "file_id"], "--set 'file_id' is not path=value"),
        (["minimax.success", "--private-key", "k"], "--private-key, --jwks-port: minimax does not"),
        (["atlascloud.success"], "atlascloud signs what it pushes"),
        (["minimax.success", "--url", "nowhere"], "--url is not an http(s) address"),
    ],
)
def test_wrong_use_is_one_line_that_says_what_to_do(arguments: list[str], said: str) -> None:
    result = run(NOWHERE, *arguments)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"taskbell: {said}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_read_by_its_provider_as_about_its_task(name: str) -> None:
    case = CASES[name]
    provider, task_id = providers()[case.provider], new_task_id(case.provider)
    body = case.body(task_id, NOW)

    if case.about_a_task:
        assert provider.parse(body).provider_task_id == task_id
    else:
        assert provider.challenge(body) == body["challenge"]


def test_what_comes_before_an_ending_is_no_ending() -> None:
    for case in CASES.values():
        for earlier in sequence(case)[:-1]:
            body = earlier.body("1", NOW)
            assert not providers()[case.provider].parse(body).status.final


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ("task_id=x", {"task_id": "x", "urls": ["a"]}),
        ("task_id=7", {"task_id": 7, "urls": ["a"]}),
        ('task_id="7"', {"task_id": "7", "urls": ["a"]}),
        ("note=a=b", {"task_id": "1", "urls": ["a"], "note": "a=b"}),
        ("usage.seconds=null", {"task_id": "1", "urls": ["a"], "usage": {"seconds": None}}),
        ("urls.0=b", {"task_id": "1", "urls": ["b"]}),
    ],
)
def test_a_field_is_changed_by_its_path(change: str, wanted: object) -> None:
    assert changed({"task_id": "1", "urls": ["a"]}, [change]) == wanted


@pytest.mark.parametrize("change", ["a", "=1", "a..b=1", "task_id.x=1", "urls.1=b", "urls.x.y=b"])
def test_a_path_that_leads_nowhere_is_wrong_use(change: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        changed({"task_id": "1", "urls": ["a"]}, [change])


def test_a_key_is_made_for_nobody_else_and_found_again(tmp_path: Path) -> None:
    file = tmp_path / "dev.pem"

    made, found = key_in(file), key_in(file)

    assert made.private_bytes_raw() == found.private_bytes_raw()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN PRIVATE KEY-----\n"])
def test_a_file_that_holds_no_key_is_wrong_use(text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text)

    with pytest.raises(UsageError, match="holds no Ed25519 key"):
        key_in(tmp_path / "key")
