"""Somebody who reads the pages and types what they say, at a desk that harms nobody.

Only these things are not the reader's: providers are simulated, chats and other receivers are fakes
(a `curl` in front of the real one leads there, and values that a page leaves open are filled in
with their addresses), and the folder is not the checkout but one that leads into it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.server import LocalServer
from deploy.demo.simulator import Simulator, base_urls
from deploy.settings import process_environment
from dispatch.signing import new_secret, signed_headers
from store.clock import system_clock
from tests.dispatch.fake_chat import FAKES, SECRET, FakeChat
from tests.docs.pages import ROOT, Block, Page
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port

PROVIDER_KEY = "sk-readers-own-key"
PROVIDER_HOSTS = (
    "https://api.minimaxi.com",
    "https://api.atlascloud.ai",
    "https://opencomputing.ai",
)
CHATS = {
    "https://hooks.slack.com/services/T…/B…/…": "slack",
    "https://open.feishu.cn/open-apis/bot/v2/hook/…": "feishu",
    "https://oapi.dingtalk.com/robot/send?access_token=…": "dingtalk",
}
RECEIVERS = (
    "https://your-app.example.com",
    "https://n8n.example.com",
    "https://dify.example.com",
)


class Trouble(Exception):
    """A block did not do what its page says; the message has its place and its output."""


@dataclass
class Receiver:
    """Takes whatever is sent to it. taken: how often, by path and type of event; bodies: by path."""

    url: str = ""
    taken: Counter[tuple[str, str]] = field(default_factory=Counter)
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[Receiver]:
        app = Starlette(routes=[Route("/{path:path}", self._take, methods=["POST"])])
        async with LocalServer(app) as server:
            self.url = server.url
            yield self

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        async with self._news:
            self.bodies.append((request.url.path, body))
            self.taken[request.url.path, request.headers["ce-type"]] += 1
            self._news.notify_all()
        return Response(status_code=204)

    async def wait_for(self, path: str, event_type: str, count: int = 1) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS), self._news:
            await self._news.wait_for(lambda: self.taken[path, event_type] >= count)


@dataclass(frozen=True, slots=True)
class World:
    """What is around a reader. values: what stands in for what pages leave open."""

    folder: Path
    environ: Mapping[str, str]
    values: Mapping[str, str]
    simulator: Simulator
    chats: Mapping[str, FakeChat]
    receiver: Receiver

    def filled_in(self, text: str) -> str:
        for open_value, ours in self.values.items():
            text = text.replace(open_value, ours)
        return text


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    simulator = Simulator(PROVIDER_KEY, durations=(0.1, 0.3), seed=3)
    async with contextlib.AsyncExitStack() as stack:
        providers = await stack.enter_async_context(LocalServer(simulator.app))
        receiver = await stack.enter_async_context(Receiver().served())
        chats = {
            name: await stack.enter_async_context(FakeChat(FAKES[name], system_clock).served())
            for name in CHATS.values()
        }
        port = free_port()
        here = f"http://127.0.0.1:{port}"
        yield World(
            folder=folder,
            environ=_environment(folder, providers.url, port),
            values={
                **{url: chats[name].url for url, name in CHATS.items()},
                **dict.fromkeys(RECEIVERS, receiver.url),
                "https://taskbell.example.com": here,
                "http://127.0.0.1:8000": here,
                "API_KEY=…": f"API_KEY={PROVIDER_KEY}",
                "SEC…": SECRET,
                "whsec_…": keep_a_request(folder),
                "listen 3000": f"listen {receiver.url}",
                "9009": str(free_port()),  # where the tutorial's subscriber listens
            },
            simulator=simulator,
            chats=chats,
            receiver=receiver,
        )


def keep_a_request(folder: Path) -> str:
    """Leave what a subscriber would have kept of one; the secret that signed it."""
    secret, body = new_secret(), b'{"type":"task.succeeded"}'
    headers = signed_headers([secret], "evt_1", int(system_clock().timestamp()), body)
    (folder / "body.json").write_bytes(body)
    (folder / "headers.txt").write_text("".join(f"{k}: {v}\n" for k, v in headers.items()))
    return secret


def _environment(folder: Path, simulator_url: str, port: int) -> dict[str, str]:
    _desk(folder)
    _curl(folder / "bin", dict.fromkeys(PROVIDER_HOSTS, simulator_url))
    environ = {
        "PATH": f"{folder / 'bin'}{os.pathsep}{process_environment()['PATH']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TASKBELL_PORT": str(port),
    }
    for name, url in base_urls(simulator_url).items():
        environ[f"TASKBELL_{name.upper()}_BASE_URL"] = url
    return environ


def _desk(folder: Path) -> None:
    """A folder with a deploy/ in it that runs this checkout."""
    deploy = folder / "deploy"
    deploy.mkdir()
    for each in (ROOT / "deploy").iterdir():
        if each.name != "run":  # it takes the folder it stands in for the checkout
            (deploy / each.name).symlink_to(each)
    _script(deploy / "run", f'#!/bin/sh\nexec {shlex.quote(str(ROOT / "deploy/run"))} "$@"\n')


def _curl(folder: Path, hosts: Mapping[str, str]) -> None:
    """A curl that finds these hosts elsewhere."""
    folder.mkdir()
    _script(
        folder / "curl",
        f"""#!{sys.executable} -SE
import os, shutil, sys
args = sys.argv[1:]
for host, elsewhere in {dict(hosts)!r}.items():
    args = [arg.replace(host, elsewhere) for arg in args]
path = os.environ["PATH"].removeprefix({str(folder)!r} + os.pathsep)
os.execv(shutil.which("curl", path=path), ["curl", *args])
""",
    )


def _script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


class Terminal:
    """One shell, as somebody keeps it open: what a block exports is there in the next one."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._shell: asyncio.subprocess.Process | None = None
        self._scripts = 0

    async def type(self, text: str) -> tuple[bool, str]:
        """Whether all commands went well, and what they printed."""
        shell = await self._opened()
        assert shell.stdin is not None
        assert shell.stdout is not None
        self._scripts += 1
        script = self._world.folder / f"bin/{id(self)}-{self._scripts}"
        script.write_text(text, encoding="utf-8")
        output = script.with_suffix(".out")
        shell.stdin.write(f". '{script}' >'{output}' 2>&1 </dev/null\necho done\n".encode())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                went_well = await shell.stdout.readline() == b"done\n"
        except TimeoutError:
            went_well = False
        return went_well, output.read_text(encoding="utf-8")

    async def environ(self) -> dict[str, str]:
        """What it has exported by now, and what it began with."""
        _, output = await self.type("env -0")
        return dict(each.split("=", 1) for each in output.split("\0") if each)

    async def adopt(self, environ: Mapping[str, str]) -> None:
        """Export what another terminal has exported and this one has not."""
        known = await self.environ()
        new = {name: value for name, value in environ.items() if name not in known}
        await self.type("".join(f"export {n}={shlex.quote(v)}\n" for n, v in new.items()))

    async def _opened(self) -> asyncio.subprocess.Process:
        if self._shell is None:
            self._shell = await asyncio.create_subprocess_exec(
                *("sh", "-eu"),
                cwd=self._world.folder,
                env=self._world.environ,
                start_new_session=True,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        return self._shell

    async def close(self) -> None:
        """Shut the window: what still runs in it ends."""
        if self._shell is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._shell.pid, signal.SIGKILL)
            await self._shell.wait()


_INSTALL_SECONDS = 600  # the first command on a page may install what it needs


class Lasting:
    """A command that stays until Ctrl-C, in a terminal of its own."""

    def __init__(self, process: asyncio.subprocess.Process, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self._process = process
        self._output = bytearray()
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, folder: Path, environ: Mapping[str, str], text: str, words: str
    ) -> Lasting:
        """Return once it has printed these words. Raises Trouble."""
        process = await asyncio.create_subprocess_exec(
            *("sh", "-euc", text),
            cwd=folder,
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        made = cls(process, environ)
        ready = asyncio.Event()
        made._reading = asyncio.create_task(made._read(words.encode(), ready))
        try:
            async with asyncio.timeout(_INSTALL_SECONDS):
                await ready.wait()
        except TimeoutError:
            await made.end()
        if words.encode() not in made._output:
            raise Trouble(f"never printed {words!r}:\n{made._output.decode(errors='replace')}")
        return made

    async def _read(self, words: bytes, ready: asyncio.Event) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._output += line
            if words in self._output:
                ready.set()
        ready.set()

    async def end(self) -> None:
        """Ctrl-C."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._process.wait()
        except TimeoutError:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise
        if self._reading is not None:
            await self._reading


class Reader:
    """Types pages, block by block. What stays is ended on leaving."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._staying: list[Lasting] = []

    async def __aenter__(self) -> Reader:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._end_what_stays()

    async def read(self, page: Page, known: Collection[str] = ()) -> str:
        """Type its blocks in one terminal, and after one that stays in another. Raises Trouble.

        known: blocks that were typed elsewhere, word for word. Returns what was printed.
        """
        terminal = Terminal(self._world)
        printed = ""
        try:
            for block in page.blocks():
                if block.test is None and block.text not in known:
                    printed += await self._type(page, block, terminal)
                    if block.waits_for is not None:  # its terminal is taken: a new one is opened
                        await terminal.close()
                        terminal = Terminal(self._world)
        finally:
            await terminal.close()
        return printed

    async def _type(self, page: Page, block: Block, terminal: Terminal) -> str:
        text = self._world.filled_in(block.text)
        if block.after_ctrl_c:
            ended = self._staying.pop()
            await ended.end()
            await terminal.adopt(
                ended.environ
            )  # its terminal is free again: this one stands for both
        if block.waits_for is not None:
            await self.start(text, block.waits_for, await terminal.environ())
            return ""
        went_well, output = await terminal.type(text)
        if not went_well:
            raise Trouble(f"{page.name}:{block.line}\n{block.text}\n{output}")
        return output

    async def start(self, text: str, words: str, environ: Mapping[str, str]) -> None:
        """Leave a command running in a terminal of its own. Raises Trouble."""
        self._staying.append(await Lasting.start(self._world.folder, environ, text, words))

    async def _end_what_stays(self) -> None:
        while self._staying:
            await self._staying.pop().end()
