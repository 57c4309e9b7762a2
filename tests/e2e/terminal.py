"""A command in a pseudo-terminal of 80 columns that is its own, as a person has it before them."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from tests.patience import PATIENCE_SECONDS

COLUMNS = 80
SECONDS = PATIENCE_SECONDS
HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"

# Ctrl-C reaches a command only from the terminal that it belongs to
_OWN_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """What a command shows, and the keys that are pressed. Made by `opened`."""

    def __init__(self, ours: int, process: subprocess.Popen[bytes]) -> None:
        self._ours = ours
        self._process = process
        self._seen = b""

    @property
    def text(self) -> str:
        """All that came, with what steers the terminal."""
        return self._seen.decode(errors="replace").replace("\r\n", "\n")

    @property
    def lines(self) -> list[str]:
        """The same without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.text).splitlines()

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    async def until(self, text: str, times: int = 1) -> str:
        """What was shown, once a text was so often. Raises TimeoutError."""
        async with asyncio.timeout(SECONDS):
            while self.text.count(text) < times:
                self._seen += await asyncio.to_thread(os.read, self._ours, 4096)
        return self.text

    async def end(self) -> int:
        """The exit code, when all was read."""
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
            async with asyncio.timeout(SECONDS):
                while part := await asyncio.to_thread(os.read, self._ours, 4096):
                    self._seen += part
        return await asyncio.to_thread(self._process.wait, SECONDS)


@contextlib.asynccontextmanager
async def opened(
    command: Sequence[str | Path], folder: Path, environment: Mapping[str, str]
) -> AsyncIterator[Terminal]:
    ours, process = _start(command, folder, environment)
    try:
        yield Terminal(ours, process)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)


def _start(
    command: Sequence[str | Path], folder: Path, environment: Mapping[str, str]
) -> tuple[int, subprocess.Popen[bytes]]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-IS", "-c", _OWN_TERMINAL, *command],
        cwd=folder,
        env={"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    return ours, process
