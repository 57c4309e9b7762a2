"""Where the peers' libraries live: `.bench/` in the checkout, made at the first use, kept.

Each peer has a folder of its own, since they do not agree on one version of the Redis client.
Remove `.bench/` to begin anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.system import Unavailable

APPS = Path(__file__).parent / "apps"
_HOME = Path(__file__).parents[3] / ".bench"
_PATIENCE_SECONDS = 600


def interpreter(app: str) -> Path:
    """A Python that has what apps/<app>.txt lists, and nothing else. Raises Unavailable."""
    folder = _HOME / app
    python = folder / "bin" / "python"
    wanted = APPS / f"{app}.txt"
    if not _is_made(folder, wanted):
        wheels = ("--only-binary", ":all:", "--no-deps", "--requirement", wanted)
        _run(sys.executable, "-m", "venv", "--clear", folder)
        _run(python, "-m", "pip", "install", "--quiet", *wheels)
        _mark_made(folder, wanted)
    return python


def node_program(app: str) -> Path:
    """A copy of apps/<app>/ with its node_modules. Raises Unavailable."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Unavailable("needs node and npm")
    folder = _HOME / app
    wanted = APPS / app / "package-lock.json"
    made = _is_made(folder, wanted)
    shutil.copytree(APPS / app, folder, dirs_exist_ok=True)
    if not made:
        # not `npm ci`: it refuses a lock without the optional packages of other platforms
        _run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder)
        _mark_made(folder, wanted)
    return folder


def redis_server() -> str:
    """The program: the one installed, else Debian's when we may install it. Raises Unavailable."""
    if shutil.which("redis-server") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _run("apt-get", "update", "--quiet")
        _run("apt-get", "install", "--quiet", "--yes", "--no-install-recommends", "redis-server")
    program = shutil.which("redis-server")
    if program is None:
        raise Unavailable("needs redis-server")
    return program


def _is_made(folder: Path, wanted: Path) -> bool:
    stamp = folder / "made-from"
    return stamp.exists() and stamp.read_text() == _stamp(folder, wanted)


def _mark_made(folder: Path, wanted: Path) -> None:
    (folder / "made-from").write_text(_stamp(folder, wanted))


def _stamp(folder: Path, wanted: Path) -> str:
    """An environment moves neither to another place nor to another Python."""
    return f"{folder}\n{sys.version}\n{wanted.read_text()}"


def _run(*command: str | Path) -> None:
    words = [str(word) for word in command]
    print("preparing a peer, once:", _shown(words), file=sys.stderr, flush=True)
    _HOME.mkdir(exist_ok=True)
    (_HOME / ".gitignore").write_text("*\n")
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_PATIENCE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{words[0]}: {error}") from None
    if done.returncode:
        print(done.stdout[-2000:], file=sys.stderr)
        raise Unavailable(f"{_shown(words)} failed")


def _shown(words: Sequence[str]) -> str:
    return " ".join([Path(words[0]).name, *words[1:]])
