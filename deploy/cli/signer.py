"""Signing pushes as Atlas Cloud does, with a key of one's own that a server can be told to believe."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deploy.cli import output
from deploy.cli.errors import CommandError, UsageError
from deploy.demo import atlascloud_simulator as atlascloud


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs as Atlas Cloud does. Its key id follows from the key: the server remembers keys by it."""

    key: Ed25519PrivateKey

    @property
    def key_id(self) -> str:
        return "taskbell-" + self.key.public_key().public_bytes_raw().hex()[:16]

    def headers(self, push: Mapping[str, Any], body: bytes, timestamp: int) -> dict[str, str]:
        return atlascloud.push_headers(self.key, self.key_id, push, body, timestamp)

    def page(self) -> bytes:
        return json.dumps(atlascloud.key_page(self.key, self.key_id)).encode()


def key_in(file: Path) -> Ed25519PrivateKey:
    """The key in a PEM file; made, for nobody else to read, when there is no such file."""
    try:
        if not file.exists():
            _make_key(file)
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise UsageError(f"--private-key: {file}: {error.strerror}") from None
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"--private-key: {file} holds no Ed25519 key in PEM without a password")
    return key


def _make_key(file: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(pem)
    output.message(f"made a key: {file}")


@contextlib.contextmanager
def serving(signer: Signer, port: int | None) -> Iterator[None]:
    """Answer every GET on a port of this machine with the key's page, while the block runs."""
    if port is None:
        yield
        return

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = signer.page()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Page)
    except OSError as error:
        raise CommandError(f"--jwks-port {port}: {error.strerror}") from None
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
