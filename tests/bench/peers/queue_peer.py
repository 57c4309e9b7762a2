"""What the peers have in common: a web app puts jobs into a queue, a worker does them.

The programs are in apps/. They find broker, sinks and secret in `peer.json` in their working
directory, and each worker process says there that it is ready by a file `ready-<pid>`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers.environment import APPS, interpreter
from tests.bench.peers.programs import free_port, program
from tests.bench.peers.redis_server import redis
from tests.bench.system import Broken

Broker = Callable[[Path, str | None], AbstractContextManager[str]]
_ENVIRON = {"PYTHONPATH": str(APPS)}
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True, slots=True)
class FastAPIPeer:
    """The FastAPI app `web` in apps/<app>.py, and the words after `python -m` for its worker.

    The worker is started `times` times, and each makes `processes` processes that take jobs.
    prepare: words run once before that.
    """

    name: str
    durability: str
    app: str
    worker: Sequence[str]
    times: int = 1
    processes: int = 1
    prepare: Sequence[str] = ()
    broker: Broker = redis

    @contextmanager
    def running(self, folder: Path, database: str | None, sinks: Sequence[str]) -> Iterator[str]:
        python = [str(interpreter(self.app)), "-m"]
        port = free_port()
        serve = ["uvicorn", f"{self.app}:web", f"--port={port}", "--no-access-log"]
        serve.append("--timeout-keep-alive=75")
        with ExitStack() as stack:
            describe(folder, stack.enter_context(self.broker(folder, database)), sinks)
            if self.prepare:
                _run_once([*python, *self.prepare], folder)
            web, *workers = [
                stack.enter_context(
                    program([*python, *words], folder, f"{n}-{words[0]}.log", _ENVIRON)
                )
                for n, words in enumerate([serve, *[self.worker] * self.times])
            ]
            workers[-1].ready_when(lambda: ready(folder) >= self.times * self.processes)
            web.listens_at(port)
            yield f"http://127.0.0.1:{port}/push"


def _run_once(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, env=_ENVIRON, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Broken(f"{command[2]} failed\n{done.stderr[-2000:]}")


def describe(folder: Path, broker: str, sinks: Sequence[str]) -> None:
    settings: Mapping[str, object] = {"broker": broker, "sinks": list(sinks), "secret": _SECRET}
    (folder / "peer.json").write_text(json.dumps(settings))


def ready(folder: Path) -> int:
    """How many worker processes are."""
    return len(list(folder.glob("ready-*")))
