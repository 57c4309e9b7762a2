"""Push → durable → delivered, through one Taskbell process: how many a second, how late.

.venv/bin/python tests/bench/flow.py [--pushes 6000] [--runs 3] [--database-url …]

Sender, server and sink are processes of their own. The sink is measured alone first, by the same
sender, so that it is seen not to be the limit.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from deploy.demo.stage import free_port
from deploy.settings import process_environment

HERE = Path(__file__).parent
CONNECTIONS = 64


class Sink:
    """The sink's process. count() is how many requests it has answered so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin
        assert process.stdout
        self._in, self._out = process.stdin, process.stdout
        self.url = f"http://127.0.0.1:{int(self._out.readline())}/hook"

    def count(self) -> tuple[int, float, float]:
        """Requests, and the moments (monotonic seconds) of the first and the last."""
        self._in.write("\n")
        self._in.flush()
        count, first, last = self._out.readline().split()
        return int(count), float(first), float(last)


@contextmanager
def program(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def sink() -> Iterator[Sink]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with program(sys.executable, str(HERE / "sink.py"), **pipes) as process:
        yield Sink(process)


def send(url: str, pushes: int) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "sender.py"), url, str(pushes), str(CONNECTIONS)]
    answer: dict[str, Any] = json.loads(subprocess.check_output(command))
    return answer


@contextmanager
def taskbell(folder: str, database_url: str | None, target: str) -> Iterator[str]:
    """A server with one subscription; the callback URL to push to."""
    port, key = free_port(), secrets.token_urlsafe(32)
    environ = {
        **process_environment(),
        "TASKBELL_DATABASE_URL": database_url or f"sqlite:///{folder}/bench.db",
        "TASKBELL_SECRET_KEYS": secrets.token_urlsafe(32),
        "TASKBELL_API_KEY": key,
        "TASKBELL_PORT": str(port),
        "TASKBELL_ALLOW_NETWORKS": "127.0.0.0/8",
    }
    command = [sys.executable, "-c", "from deploy.cli import main; main()", "serve"]
    with (
        program(*command, env=environ, cwd=HERE.parents[1], stderr=subprocess.DEVNULL),
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {key}"}
        ) as api,
    ):
        _wait_until_ready(api)
        wish = {"url": target, "types": ["task.succeeded"], "max_in_flight": 256}
        made = api.post("/v1/subscriptions", json=wish).raise_for_status().json()
        url: str = api.post("/v1/callback-urls", json={"provider": "minimax"}).json()["url"]
        yield url
        api.delete(f"/v1/subscriptions/{made['id']}")


def _wait_until_ready(api: httpx.Client) -> None:
    for _ in range(200):
        try:
            if api.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit("the server did not become ready")


def run(url: str, receiver: Sink, pushes: int) -> dict[str, float]:
    before, _, _ = receiver.count()
    sent = send(url, pushes)
    if sent["statuses"] != {"200": pushes}:
        raise SystemExit(f"not every push was taken: {sent['statuses']}")
    last = _wait_until_delivered(receiver, before + pushes)
    return {
        "pushes/s": pushes / sent["seconds"],
        "delivered/s": pushes / (last - sent["began"]),
        "answer p50 ms": sent["p50"],
        "answer p99 ms": sent["p99"],
    }


def _wait_until_delivered(receiver: Sink, wanted: int) -> float:
    """When the last delivery arrived."""
    for _ in range(600):
        count, _, last = receiver.count()
        if count >= wanted:
            return last
        time.sleep(0.05)
    raise SystemExit("not every delivery arrived within 30 s")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pushes", type=int, default=6000)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--database-url", help="instead of SQLite in a folder of its own")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, sink() as receiver:
        alone = send(receiver.url, chosen.pushes)
        with taskbell(folder, chosen.database_url, receiver.url) as url:
            runs = [run(url, receiver, chosen.pushes) for _ in range(chosen.runs)]
    table = Table("median of runs", *runs[0])
    medians = (statistics.median(each[name] for each in runs) for name in runs[0])
    table.add_row(str(chosen.runs), *(f"{median:,.1f}" for median in medians))
    Console().print(f"the sink alone: {chosen.pushes / alone['seconds']:,.0f} requests/s")
    Console().print(table)


if __name__ == "__main__":
    main()
