"""Whoever Taskbell connects to: a host that stands in the common name only is not proven."""

from __future__ import annotations

import ast
import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from deploy.cli.certificates import trusted
from receiver.transport import AiohttpTransport
from tests.dispatch.certificates import Authority

ROOT = Path(__file__).parents[2]


async def provider(url: str) -> None:
    async with httpx.AsyncClient(transport=AiohttpTransport(1)) as client:
        await client.get(url)


async def command(url: str) -> None:
    def ask() -> None:
        with httpx.Client(verify=trusted(), trust_env=False) as client:
            client.get(url)

    await asyncio.to_thread(ask)


@pytest.mark.parametrize("ask", [provider, command])
@pytest.mark.parametrize("names", [["localhost"], []], ids=["alternative", "common only"])
async def test_only_an_alternative_name_proves_a_host(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[str], Awaitable[None]],
    names: list[str],
) -> None:
    authority = Authority(tmp_path, "localhost", common_name="localhost", names=names)
    monkeypatch.setattr(httpx, "create_ssl_context", lambda **_: authority.client())

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=authority.server())
    async with server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
        if names:
            await ask(url)
        else:
            with pytest.raises(httpx.ConnectError, match=r"(?i)hostname mismatch"):
                await ask(url)


@pytest.mark.parametrize("folder", ["dispatch", "receiver", "deploy", "store"])
def test_no_context_is_made_without_that_rule(folder: str) -> None:
    """Each call that makes a context stands in by_alternative_names(…), or is given one."""
    for file in (ROOT / folder).rglob("*.py"):
        if "examples" in file.parts:
            continue
        tree = ast.parse(file.read_text("utf-8"))
        ruled = {
            id(argument)
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "by_alternative_names"
            for argument in call.args
        }
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call):
                continue
            made = ast.unparse(call.func)
            given = {keyword.arg for keyword in call.keywords}
            if made.endswith((".create_default_context", ".create_ssl_context", ".SSLContext")):
                assert id(call) in ruled, f"{file}:{call.lineno}"
            if made in ("httpx.get", "httpx.post", "httpx.Client", "httpx.AsyncClient"):
                assert given & {"verify", "transport"}, f"{file}:{call.lineno}"


def test_the_rule_is_off_in_the_library_s_own_context() -> None:
    """Should it be on one day, store/tls.py can go."""
    assert ssl.create_default_context().hostname_checks_common_name
    assert not trusted().hostname_checks_common_name
