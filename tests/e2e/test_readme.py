"""The README's commands, word for word, against `./deploy/run` and simulated providers.

Only two things are not the reader's: the providers' hosts (a `curl` in front of the real one leads
them to the simulator) and the database, which lies in a folder of the test.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.cli import build_app
from deploy.demo.server import LocalServer
from deploy.demo.simulator import Simulator, base_urls
from deploy.demo.stage import free_port
from deploy.demo.subscriber import Subscriber
from deploy.settings import known_names, process_environment
from dispatch.signing import new_secret, signed_headers
from store.clock import system_clock

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
KEY = "sk-readers-own-key"


def blocks(heading: str, language: str = "sh") -> list[str]:
    """The code blocks of a language in a section."""
    section = re.split(r"^## ", README, flags=re.MULTILINE)
    [text] = [part for part in section if part.startswith(heading)]
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@asynccontextmanager
async def reader(
    tmp_path: Path, simulator: Simulator, *, has_keys: bool = True
) -> AsyncIterator[dict[str, str]]:
    """The environment of somebody who reads the README, with the server of its first block up.

    has_keys: of the providers.
    """
    async with LocalServer(simulator.app) as providers:
        environ = reader_environment(tmp_path, providers.url)
        if not has_keys:
            environ = {name: value for name, value in environ.items() if value != KEY}
        server = await asyncio.create_subprocess_exec(
            str(ROOT / "deploy/run"),
            cwd=ROOT,
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert server.stdout is not None
        try:
            async with asyncio.timeout(30):
                while b"deploy/run tasks" not in await server.stdout.readline():
                    assert server.returncode is None
            yield environ
        finally:
            server.send_signal(signal.SIGTERM)
            assert await server.wait() == 0


def reader_environment(tmp_path: Path, simulator_url: str) -> dict[str, str]:
    shim = tmp_path / "bin"
    shim.mkdir()
    hosts = {
        "https://api.minimaxi.com": simulator_url,
        "https://api.atlascloud.ai": simulator_url,
        "https://opencomputing.ai": simulator_url,
    }
    changes = "".join(f"    arg = arg.replace({old!r}, {new!r})\n" for old, new in hosts.items())
    (shim / "curl").write_text(
        f"#!{sys.executable}\nimport os, shutil, sys\nargs = []\nfor arg in sys.argv[1:]:\n{changes}"
        "    args.append(arg)\n"
        f"path = os.environ['PATH'].removeprefix({str(shim)!r} + os.pathsep)\n"
        "curl = shutil.which('curl', path=path)\nos.execv(curl, [curl, *args])\n"
    )
    (shim / "curl").chmod(0o755)
    port = str(free_port())
    environ = {
        "PATH": f"{shim}{os.pathsep}{process_environment()['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "TASKBELL_DATABASE_URL": f"sqlite:///{tmp_path}/taskbell.db",
        "TASKBELL_PORT": port,
        "TASKBELL_URL": f"http://127.0.0.1:{port}",
        "TASKBELL_API_KEY": "readme-test-key-of-more-than-32-characters",
    }
    for name, url in base_urls(simulator_url).items():
        environ[f"TASKBELL_{name.upper()}_BASE_URL"] = url
        environ[f"{name.upper()}_API_KEY"] = KEY
    return environ


async def run(command: str, environ: dict[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-eu",
        "-c",
        command,
        cwd=ROOT,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_the_examples_of_the_three_providers_run_to_a_finished_video(tmp_path: Path) -> None:
    simulator = Simulator(KEY, durations=(0.5, 1.0), seed=3)
    async with reader(tmp_path, simulator) as environ:
        commands = [
            blocks("MiniMax")[1],
            blocks("Atlas Cloud")[0],
            blocks("元境")[0],
        ]

        results = await asyncio.gather(*(run(command, environ) for command in commands))

        for code, output in results:
            assert code == 0, output
            assert "succeeded" in output
        assert simulator.stats.challenges_answered == 1


async def test_a_reader_subscribes_with_the_command_shown(tmp_path: Path) -> None:
    async with reader(tmp_path, Simulator(KEY)) as environ:
        code, output = await run(blocks("Get events")[0], environ)

    assert code == 0, output
    assert "whsec_" in output


async def test_a_reader_follows_live_with_the_command_shown(tmp_path: Path) -> None:
    [command] = blocks("Follow live")
    async with reader(tmp_path, Simulator(KEY)) as environ:
        here = command.replace("http://127.0.0.1:8000", environ["TASKBELL_URL"])
        curl = await asyncio.create_subprocess_exec(
            *("sh", "-euc", f"exec {here}"),
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert curl.stdout is not None
        async with asyncio.timeout(10):
            first = await curl.stdout.readline()
        curl.terminate()
        await curl.wait()

    assert first == b"retry: 2000\n"


def test_the_python_example_verifies_what_is_really_sent() -> None:
    secret = new_secret()
    body = b'{"type":"task.succeeded","data":{"task":{"outputs":[]}}}'
    now = int(system_clock().timestamp())  # the library looks at the real clock
    names = {
        "secret": secret,
        "request_body": body,
        "request_headers": signed_headers([secret], "evt_1", now, body),
    }

    [example] = blocks("Get events", "python")
    exec(example, names)

    assert names["event"] == {"type": "task.succeeded", "data": {"task": {"outputs": []}}}


def test_every_setting_is_in_the_table_and_nothing_else_is() -> None:
    [section] = [part for part in README.split("\n## ") if part.startswith("Settings")]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = set(re.findall(r"TASKBELL_([A-Z_<>]+)", "".join(rows)))

    general = {
        re.sub(r"^(MINIMAX|ATLASCLOUD|OPENCOMPUTING)_", "<PROVIDER>_", n) for n in known_names()
    }

    assert documented == general


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"\./deploy/run ([a-z][a-z-]+)", README)))
)
def test_every_command_the_readme_names_exists(command: str) -> None:
    app = build_app()
    registered = {
        each.name or each.callback.__name__ for each in app.registered_commands if each.callback
    }
    registered |= {str(group.name) for group in app.registered_groups}

    assert command in {name.replace("_", "-") for name in registered}


def test_the_subscriber_the_readme_points_to_is_short() -> None:
    assert Subscriber.__doc__
    assert len((ROOT / "deploy/demo/subscriber.py").read_text().splitlines()) <= 100
