"""Questions and commands through a proxy, to servers with a private authority, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.cli.client import Client
from deploy.cli.errors import CommandError
from receiver.failures import Blame
from receiver.provider import ProviderError
from receiver.way import STRAIGHT, Way
from tests.dispatch.certificates import Authority
from tests.receiver.test_asking import KEY, asker_over

HOST = "api.provider.example"
NOWHERE = 1


@dataclass
class Proxy:
    """A forward proxy that leads every host to one server. refuses: with this status."""

    target: int
    refuses: int = 0
    requests: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head.decode())
            if self.refuses:
                writer.write(b"HTTP/1.1 %d No\r\ncontent-length: 0\r\n\r\n" % self.refuses)
            else:
                await self._lead_on(head, reader, writer)
        writer.close()

    async def _lead_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        onward, back = await asyncio.open_connection("127.0.0.1", self.target)
        if head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            back.write(head)
        await asyncio.gather(_copy(reader, back), _copy(onward, writer))
        with contextlib.suppress(ConnectionError):
            await back.wait_closed()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await source.read(65_536):
            target.write(piece)
            await target.drain()
    target.close()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server; at its end all of its connections are over."""
    served: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if served:
            await asyncio.wait(served)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{"a": 1}')
        await writer.drain()
    writer.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), HOST)


@pytest.mark.parametrize("trusted_by", ["ca_file", "more_ca_file"])
async def test_an_https_provider_is_asked_through_a_tunnel(
    authority: Authority, trusted_by: str
) -> None:
    async with listening(answer, authority.server()) as port:
        proxy = Proxy(port)
        async with listening(proxy.serve) as proxy_port:
            url = f"http://user:pass%20word@127.0.0.1:{proxy_port}"
            way = Way(url, **{trusted_by: str(authority.certificate)})
            asker = asker_over(None, base_url=f"https://{HOST}", way=way)
            got = await asker.get("/tasks")
            await asker.close()

    [request] = proxy.requests
    assert got.body == {"a": 1}
    assert request.startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\n")
    credentials = base64.b64encode(b"user:pass word").decode()
    assert f"proxy-authorization: basic {credentials.lower()}" in request.lower()
    assert KEY not in request  # it is for the provider


async def test_an_http_provider_is_asked_by_the_proxy(authority: Authority) -> None:
    async with listening(answer) as port:
        proxy = Proxy(port)
        async with listening(proxy.serve) as proxy_port:
            way = Way(f"http://127.0.0.1:{proxy_port}")
            asker = asker_over(None, base_url=f"http://{HOST}", way=way)
            got = await asker.get("/tasks", {"a": "b"})
            await asker.close()

    assert got.body == {"a": 1}
    assert proxy.requests[0].startswith(f"GET http://{HOST}/tasks?a=b HTTP/1.1\r\n")


@pytest.mark.parametrize("refuses", [403, 407, 502])
async def test_a_proxy_that_refuses_is_trouble_on_the_way(
    authority: Authority, refuses: int
) -> None:
    proxy = Proxy(NOWHERE, refuses=refuses)
    async with listening(proxy.serve) as proxy_port:
        way = Way(f"http://user:hush@127.0.0.1:{proxy_port}")
        asker = asker_over(None, base_url=f"https://{HOST}", way=way)
        with pytest.raises(ProviderError) as caught:
            await asker.get("/tasks")
        await asker.close()

    error = caught.value
    assert (error.code, error.blame, error.permanent) == ("unreachable", Blame.WAY, False)
    assert f"the proxy answered {refuses}" in str(error)
    assert "hush" not in str(error)


async def test_a_proxy_that_is_not_there_is_named_as_such() -> None:
    asker = asker_over(None, base_url=f"https://{HOST}", way=Way(f"http://127.0.0.1:{NOWHERE}"))
    with pytest.raises(ProviderError, match="no connection to the proxy"):
        await asker.get("/tasks")
    await asker.close()


async def test_an_authority_that_nobody_named_is_not_trusted(authority: Authority) -> None:
    async with listening(answer, authority.server()) as port:
        proxy = Proxy(port)
        async with listening(proxy.serve) as proxy_port:
            way = Way(f"http://127.0.0.1:{proxy_port}")
            asker = asker_over(None, base_url=f"https://{HOST}", way=way)
            with pytest.raises(ProviderError, match="certificate") as caught:
                await asker.get("/tasks")
            await asker.close()

    assert caught.value.code == "unreachable"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_command_reaches_its_server_through_a_proxy(
    authority: Authority, scheme: str
) -> None:
    tls = authority.server() if scheme == "https" else None
    async with listening(answer, tls) as port:
        proxy = Proxy(port)
        async with listening(proxy.serve) as proxy_port:
            way = Way(f"http://127.0.0.1:{proxy_port}", ca_file=str(authority.certificate))
            with Client(f"{scheme}://{HOST}", "k" * 32, way=way) as client:
                body = await asyncio.to_thread(client.get, "/v1/tasks")

    assert body == {"a": 1}
    assert len(proxy.requests) == 1


async def test_a_command_trusts_no_authority_that_nobody_named(authority: Authority) -> None:
    proxied = Proxy(NOWHERE)
    async with listening(answer, authority.server()) as port:
        proxied.target = port
        async with listening(proxied.serve) as proxy_port:
            with (
                Client(
                    f"https://{HOST}", None, way=Way(f"http://127.0.0.1:{proxy_port}")
                ) as client,
                pytest.raises(CommandError, match="no safe connection"),
            ):
                await asyncio.to_thread(client.get, "/v1/tasks")


def test_a_way_of_files_that_are_not_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Way(ca_file=str(tmp_path / "missing")).tls()
    assert STRAIGHT.tls().check_hostname
