"""Programs of a peer: started, waited for, ended with everything they started themselves."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import wait_until
from tests.bench.system import Broken

_START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Program:
    process: subprocess.Popen[bytes]
    log: Path

    def ready_when(self, is_so: Callable[[], bool]) -> None:
        """Wait until it is. Raises Broken when it takes too long or the program ends."""
        answered = wait_until(lambda: self._has_ended() or is_so(), _START_SECONDS)
        if not answered or self._has_ended():
            said = self.log.read_text(errors="replace")[-2000:]
            raise Broken(f"{self.log.stem} did not start\n{said}")

    def listens_at(self, port: int) -> None:
        """Wait until it does. Raises Broken."""
        self.ready_when(lambda: _accepts(port))

    def _has_ended(self) -> bool:
        return self.process.poll() is not None


@contextmanager
def program(
    command: Sequence[str | Path],
    folder: Path,
    log: str,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Program]:
    """Run it in the folder, what it prints goes to the log there."""
    with (folder / log).open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Program(process, folder / log)
    finally:
        _end(process)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """At once, with its children: a clean shutdown would wait for work nobody measures."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
