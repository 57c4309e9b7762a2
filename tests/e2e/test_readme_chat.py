"""The README's way from nothing to a message in a chat, word for word but for the address of Slack."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from store.clock import system_clock
from tests.dispatch.fake_chat import FAKES, FakeChat
from tests.e2e.test_readme import ROOT, blocks, reader_environment, run

SLACK = "https://hooks.slack.com/services/T…/B…/…"


async def test_a_reader_without_any_key_gets_a_message(tmp_path: Path) -> None:
    [commands] = blocks("Messages in a chat")
    assert SLACK in commands
    environ = {
        name: value
        for name, value in reader_environment(tmp_path, "http://127.0.0.1:9").items()
        if name == "TASKBELL_API_KEY" or not name.endswith("_API_KEY")
    }
    async with FakeChat(FAKES["slack"], system_clock).served() as chat:
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
            code, output = await run(commands.replace(SLACK, chat.url), environ)
            assert code == 0, output
            await chat.wait_for(1)
        finally:
            server.send_signal(signal.SIGTERM)
            assert await server.wait() == 0

    assert "hush" not in output
    assert chat.calls[0].body["text"].startswith("✅")
