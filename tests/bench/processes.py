"""Programs that are measured: started, ended whatever happens, and what they cost the machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from deploy.settings import process_environment
from tests.bench.progress import say
from tests.bench.system import Broken

ROOT = Path(__file__).parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def program(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run it; end it at the end, by force after ten seconds."""
    # a group of its own: Ctrl-C is for us, and we end it
    process = subprocess.Popen(command, text=True, process_group=0, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def output(*command: str | Path) -> bytes:
    """What a program printed."""
    return subprocess.check_output(list(map(str, command)), cwd=ROOT, process_group=0)


@contextmanager
def server(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A program that was just started, in its log's folder; what it prints goes to the log."""
    environ = {name: value for name, value in process_environment().items() if not _setting(name)}
    environ |= environment or {}
    with (
        log.open("ab") as printed,
        program(
            *map(str, command), env=environ, cwd=log.parent, stdout=printed, stderr=printed
        ) as process,
    ):
        try:
            yield process
        except Broken:
            say(f"the end of what {log.stem} printed:\n{log.read_text(errors='replace')[-2000:]}")
            raise


def _setting(name: str) -> bool:
    """Whether it would make the measured Taskbell another one than everybody else's."""
    return name.startswith("TASKBELL_") or name.endswith("_API_KEY")


def until_ready(url: str, process: subprocess.Popen[str], log: Path) -> None:
    """Return when a GET of the URL brings a 200. Raises Broken when it never will."""

    def answers() -> bool:
        if process.poll() is not None:
            return True
        try:
            return httpx.get(url, trust_env=False, verify=False, timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    in_time = wait_until(answers, seconds=60)
    if not in_time or process.poll() is not None:
        raise Broken(f"{log.stem} did not start")


def wait_until(true: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Whether it came true in time."""
    give_up = time.monotonic() + seconds
    while not true():
        if time.monotonic() > give_up:
            return False
        time.sleep(every)
    return True


def cpu_seconds(pids: Sequence[int]) -> float:
    """What these processes have used so far, user and system, with children they waited for.

    One that has ended counts nothing: name its parent after it.
    """
    return sum(sum(map(int, _stat(pid)[11:15])) for pid in pids) / _TICKS


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def peak_memory_bytes(pid: int) -> int:
    """The most of it that was ever in memory."""
    return _memory_bytes(pid, "VmHWM")


def memory_bytes(pid: int) -> int:
    """What of it is in memory now."""
    return _memory_bytes(pid, "VmRSS")


def _memory_bytes(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the state on: the name before may hold blanks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
