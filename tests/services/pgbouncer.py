"""A real PgBouncer before the tests' PostgreSQL."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg

from store.clock import monotonic
from tests.databases import server_user
from tests.services.program import program

_SECONDS = 20


class PgBouncer:
    """folder: where its socket lies. log: what it has said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def url(self, database_url: str) -> str:
        """Return how a database is reached through it."""
        name = urlsplit(database_url).path.lstrip("/")
        return f"postgresql://postgres@/{name}?host={self.folder}&port=6432"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextlib.contextmanager
def pgbouncer(
    database_url: str, mode: str, more: Mapping[str, str] | None = None
) -> Iterator[PgBouncer]:
    """Run one before the server of a database, with the settings that Debian ships and these."""
    path = program("pgbouncer")
    with tempfile.TemporaryDirectory(prefix="taskbell-bouncer-") as made:
        folder = Path(made)
        folder.chmod(0o777)
        settings = {
            "pool_mode": mode,
            "auth_type": "any",
            "listen_addr": "",
            "listen_port": "6432",
            "unix_socket_dir": str(folder),
            "logfile": str(folder / "log"),
            "pidfile": str(folder / "pid"),
            "default_pool_size": "20",
            **(more or {}),
        }
        [host] = parse_qs(urlsplit(database_url).query)["host"]
        lines = ["[databases]", f"* = host={host} user=postgres", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        file = folder / "pgbouncer.ini"
        file.write_text("\n".join(lines) + "\n")
        file.chmod(0o644)
        user = server_user()  # it does not run as root
        mine = shutil.copy(path, folder)  # a checkout below /root is closed to that user
        process = subprocess.Popen(
            [mine, "-q", str(file)],
            user=user.uid,
            group=user.gid,
            extra_groups=user.groups,
            stderr=subprocess.DEVNULL,
        )
        try:
            bouncer = PgBouncer(folder)
            _wait_for(bouncer.url(database_url), process)
            yield bouncer
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(_SECONDS)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    give_up = monotonic() + _SECONDS
    pause = threading.Event()
    while True:
        try:
            psycopg.connect(url, autocommit=True).close()
        except psycopg.OperationalError:
            if process.poll() is not None or monotonic() > give_up:
                raise
            pause.wait(0.02)
        else:
            return
