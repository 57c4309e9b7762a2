"""A real nginx or Caddy with the file of deploy/proxy, on ports of its own.

What differs from the file: ports, certificates, where logs go, which hosts stand behind it, and a
second port without TLS for clients that speak none.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from store.clock import monotonic, system_clock
from tests.bench.processes import ROOT
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port

HOST = "taskbell.example.com"
FOLDER = ROOT / "deploy/proxy"

Edit = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Proxy:
    """name: the program. file: of deploy/proxy. words: its arguments, for a folder."""

    name: str
    file: str
    words: Callable[[Path], list[str]]
    write: Callable[[str, Path, Ports], None]


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the proxy listens, with TLS and without, and where its hosts do."""

    tls: int
    plain: int
    hosts: Sequence[int]


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy that answers. folder/logs has what it wrote."""

    ports: Ports
    folder: Path


@contextlib.asynccontextmanager
async def running(
    proxy: Proxy,
    program: str,
    folder: Path,
    hosts: Sequence[int],
    edit: Edit = lambda text: text,
    *,
    port: int | None = None,
) -> AsyncIterator[Running]:
    """Start the proxy before these ports of this machine; edit changes the file's text first.

    port: the one with TLS, when it was chosen before.
    """
    (folder / "logs").mkdir(parents=True)
    ports = Ports(port or free_port(), free_port(), hosts)
    for name, content in zip(("fullchain.pem", "privkey.pem"), _certificate(), strict=True):
        (folder / name).write_bytes(content)
    proxy.write(edit((FOLDER / proxy.file).read_text()), folder, ports)
    output_file = folder / "logs/output.log"
    with output_file.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            program, *proxy.words(folder), stdout=output, stderr=output, env={"HOME": str(folder)}
        )
    try:
        if not await _listens(ports.plain, process):
            raise RuntimeError(output_file.read_text()[-2000:])
        yield Running(ports, folder)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _listens(port: int, process: asyncio.subprocess.Process) -> bool:
    give_up = monotonic() + PATIENCE_SECONDS
    while monotonic() < give_up and process.returncode is None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return True
        await asyncio.sleep(0.02)
    return False


def substituted(text: str, *changes: tuple[str, str]) -> str:
    """Return the text with each pattern replaced. Each must be there."""
    for pattern, new in changes:
        text, changed = re.subn(pattern, new, text, flags=re.MULTILINE)
        assert changed, pattern
    return text


def _write_nginx(text: str, folder: Path, ports: Ports) -> None:
    text = substituted(
        text,
        (r"listen 80;", f"listen 127.0.0.1:{free_port()};"),
        (
            r"listen 443 ssl http2;",
            f"listen 127.0.0.1:{ports.tls} ssl http2;\n    listen 127.0.0.1:{ports.plain};",
        ),
        (r" *listen \[::\].*;", ""),
        (r"/etc/letsencrypt/live/[^/]+", str(folder)),
        (r"/var/log/nginx", str(folder / "logs")),
    )
    if len(ports.hosts) > 1:
        text = substituted(
            text, (r"^( *)#server \S+:8000", rf"\1server 127.0.0.1:{ports.hosts[1]}")
        )
    text = substituted(text, (r"127\.0\.0\.1:8000", f"127.0.0.1:{ports.hosts[0]}"))
    (folder / "taskbell.conf").write_text(text)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/logs/main.log info;\n"
        f"events {{}}\nhttp {{\n{temporary}include taskbell.conf;\n}}\n"
    )


def _write_caddy(text: str, folder: Path, ports: Ports) -> None:
    certificate = f"\ttls {folder}/fullchain.pem {folder}/privkey.pem"
    text = substituted(
        text,
        (r"\A((?:#.*\n)*)\{", r"\1{\n\tadmin off\n\tauto_https disable_redirects\n"),
        (r"^\tservers {", "\tservers {\n\t\tprotocols h1 h2"),  # tests.ports holds the UDP port
        # a site has TLS or it has not: the same once more without
        (rf"^{HOST} ({{(?s:.*))\Z", rf"https://{HOST}:{ports.tls} \1\nhttp://:{ports.plain} \1"),
        (rf"^(https://{HOST}.*)", rf"\1\n{certificate}"),
        (r"127\.0\.0\.1:8000", " ".join(f"127.0.0.1:{port}" for port in ports.hosts)),
    )
    if len(ports.hosts) > 1:
        text = substituted(text, (r"^(\t+)#(request_buffers|lb_retry_match)", r"\1\2"))
    (folder / "Caddyfile").write_text(text)


NGINX = Proxy(
    "nginx",
    "nginx.conf",
    lambda folder: ["-p", str(folder), "-c", "nginx.conf"],
    _write_nginx,
)
CADDY = Proxy(
    "caddy",
    "Caddyfile",
    lambda folder: ["run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"],
    _write_caddy,
)


@cache
def _certificate() -> tuple[bytes, bytes]:
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
    return (
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
