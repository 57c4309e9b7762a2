"""A real nginx and a real Caddy before a real Taskbell, with the files of deploy/proxy.

Only ports, certificates and the folders of logs are other ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from store.clock import monotonic, system_clock
from tests.deployment.dockerfile import ROOT
from tests.e2e.process import Process, processes, until
from tests.ports import free_port

HOST = "taskbell.example.com"
FOLDER = ROOT / "deploy/proxy"
LONGER = 22
"""Seconds; the proxies wait 20 for anything but streams and /wait."""


@dataclass(frozen=True, slots=True)
class Proxied:
    """A Taskbell and a client that reaches it through the proxy only."""

    taskbell: Process
    client: httpx.AsyncClient
    logs: Path

    async def callback(self) -> str:
        """A new callback URL's path."""
        made = await self.client.post("/v1/callback-urls", json={"provider": "minimax"})
        assert made.status_code == 201, made.text
        url = httpx.URL(made.json()["url"])
        assert url.host == HOST
        return url.path


def nginx(folder: Path, port: int, upstream: int) -> list[str]:
    plain = free_port()
    text = (FOLDER / "nginx.conf").read_text()
    for old, new in (
        (r"listen 80;", f"listen 127.0.0.1:{plain};"),
        (r"listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"),
        (r" *listen \[::\].*;", ""),
        (r"127\.0\.0\.1:8000", f"127.0.0.1:{upstream}"),
        (r"/etc/letsencrypt/live/[^/]+", str(folder)),
        (r"/var/log/nginx", str(folder / "logs")),
    ):
        text, changed = re.subn(old, new, text)
        assert changed, old
    (folder / "taskbell.conf").write_text(text)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/logs/main.log info;\n"
        f"events {{}}\nhttp {{\n{temporary}include taskbell.conf;\n}}\n"
    )
    return [_program("nginx"), "-p", str(folder), "-c", "nginx.conf"]


def caddy(folder: Path, port: int, upstream: int) -> list[str]:
    text = (FOLDER / "Caddyfile").read_text()
    for old, new in (
        (r"\A((?:#.*\n)*)\{", r"\1{\n\tadmin off\n\tauto_https disable_redirects\n"),
        (
            rf"^{HOST} {{",
            f"https://{HOST}:{port} {{\n\ttls {folder}/fullchain.pem {folder}/privkey.pem",
        ),
        (r"127\.0\.0\.1:8000", f"127.0.0.1:{upstream}"),
    ):
        text, changed = re.subn(old, new, text, flags=re.MULTILINE)
        assert changed, old
    (folder / "Caddyfile").write_text(text)
    return [
        _program("caddy"),
        "run",
        "--config",
        str(folder / "Caddyfile"),
        "--adapter",
        "caddyfile",
    ]


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"there is no {name}: start this with tests/deployment/run"
    return found


def make_certificate(folder: Path) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), system_clock()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, SHA256())
    )
    (folder / "fullchain.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "privkey.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


@pytest.fixture(params=[nginx, caddy])
async def proxied(
    request: pytest.FixtureRequest, sqlite_url: str, tmp_path: Path
) -> AsyncIterator[Proxied]:
    prepare: Callable[[Path, int, int], list[str]] = request.param
    (tmp_path / "logs").mkdir()
    make_certificate(tmp_path)
    port = free_port()
    public = {"TASKBELL_PUBLIC_URL": f"https://{HOST}:{port}"}
    async with processes(tmp_path, sqlite_url, public) as [taskbell]:
        command = prepare(tmp_path, port, taskbell.port)
        async with _running(command, tmp_path), _client(taskbell, port) as client:
            await until(lambda: _answers(client), 10)
            yield Proxied(taskbell, client, tmp_path / "logs")


@contextlib.asynccontextmanager
async def _running(command: list[str], folder: Path) -> AsyncIterator[None]:
    with (folder / "logs/output.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=output, stderr=output, env={"HOME": str(folder)}
        )
        try:
            yield
        finally:
            process.terminate()
            await process.wait()


def _client(taskbell: Process, port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{port}",
        headers={"host": f"{HOST}:{port}", "authorization": taskbell.api.headers["authorization"]},
        verify=False,
        trust_env=False,
        timeout=60,
        event_hooks={"request": [_name_the_host]},
    )


async def _name_the_host(request: httpx.Request) -> None:
    request.extensions["sni_hostname"] = HOST


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.HTTPError:
        return False


def ended(task: str) -> dict[str, str]:
    return {"task_id": task, "status": "Success", "file_id": "1"}


async def test_pushes_pass_and_their_tokens_stay_out_of_the_logs(proxied: Proxied) -> None:
    path = await proxied.callback()
    client = proxied.client

    challenge = await client.post(path, json={"challenge": "hello"})
    push = await client.post(path, json=ended("1"))
    large = await client.post(path, content=b" " * (1024 * 1024 + 1))
    forged = await client.post(path[:-1], json=ended("2"))
    numbers = await client.get("/metrics")
    login = await client.get("/login")
    await client.post(path, json=ended("1"), headers={"host": "evil.example.net"})
    stranger = await client.get("/v1/tasks", headers={"host": "evil.example.net"})
    proxied.taskbell.kill()
    away = await client.post(path, json=ended("3"))

    assert challenge.json() == {"challenge": "hello"}
    assert [each.status_code for each in (push, large, forged, numbers)] == [200, 413, 404, 404]
    assert away.status_code == 502
    assert login.headers["content-type"].startswith("text/html")
    assert stranger.status_code in (200, 421)  # Caddy has no such site, and answers emptily
    assert not stranger.content or stranger.status_code == 421
    assert push.headers["strict-transport-security"] == "max-age=31536000"
    token = path.rpartition("/")[2]
    texts = [file.read_text() for file in proxied.logs.iterdir()]
    assert any("/callbacks/minimax/-" in text for text in texts)
    assert not [text for text in texts if token[:20] in text]


async def test_a_stream_tells_at_once_and_lives_on(proxied: Proxied) -> None:
    path = await proxied.callback()
    arrived: list[float] = []

    async def follow() -> None:
        async with proxied.client.stream("GET", "/v1/events/stream?type=task.*") as stream:
            assert stream.status_code == 200
            started.set()
            async for line in stream.aiter_lines():
                if line.startswith("data:") and json.loads(line[5:])["type"] == "task.succeeded":
                    arrived.append(monotonic())

    started = asyncio.Event()
    following = asyncio.create_task(follow())
    await started.wait()
    pushed = []
    for pause in (0.5, LONGER):
        await asyncio.sleep(pause)
        pushed.append(monotonic())
        assert (await proxied.client.post(path, json=ended(str(pause)))).status_code == 200
    await until(lambda: _is(len(arrived) == 2), 5)
    following.cancel()

    assert all(end - begin < 2 for begin, end in zip(pushed, arrived, strict=True))


async def test_a_call_that_waits_is_waited_for(proxied: Proxied) -> None:
    wish = {"provider": "minimax", "task_id": "w1"}
    task = (await proxied.client.post("/v1/tasks", json=wish)).json()

    answer = await proxied.client.get(f"/v1/tasks/{task['id']}/wait?timeout={LONGER}")

    assert answer.status_code == 202


async def _is(true: bool) -> bool:
    return true
