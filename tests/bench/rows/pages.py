"""Milliseconds to the first byte of each page, with 100,000 tasks and a million deliveries behind it.

One person looks at one page after the other: the median of twenty looks at each, and the worst.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx

from store.clock import system_clock
from tests.bench.bench import Bench
from tests.bench.crowd import Crowd, make_crowd
from tests.bench.figures import Line, Measured, below
from tests.bench.progress import say
from tests.bench.row import Row
from tests.bench.system import Broken
from tests.bench.taskbell import API_KEY, serving

_LOOKS = 20


class Pages:
    name = "pages"
    about = "the first byte of each page over 100,000 tasks and a million deliveries"

    def measure(self, bench: Bench) -> Iterator[Line]:
        for engine in bench.engines:
            with ExitStack() as stack:
                folder = stack.enter_context(bench.folder())
                database = stack.enter_context(bench.database(engine))
                say(f"  filling {engine}")
                crowd = make_crowd(database, system_clock(), bench.size(100_000, quick=10_000))
                say(f"  {crowd.tasks:,} tasks, {crowd.deliveries:,} deliveries")
                taskbell = stack.enter_context(serving(folder, database, roles="receive"))
                person = stack.enter_context(_signed_in(taskbell.url))
                for what, path in _pages(crowd).items():
                    yield from _lines(bench, engine, person, what, path)


def _pages(crowd: Crowd) -> Mapping[str, str]:
    """Each screen as it opens, and what is hardest to answer on it."""
    task = crowd.scene.tasks["failed"]
    return {
        "tasks": "/",
        "tasks, failed": "/?status=failed",
        "tasks, text that is nowhere": "/?q=nowhere+to+be+found",
        "tasks, model that is nowhere": "/?model=nowhere",
        "tasks, the oldest": "/?after=task_0",
        "a task": f"/tasks/{task}",
    }


def _lines(bench: Bench, engine: str, person: httpx.Client, what: str, path: str) -> Iterator[Line]:
    runs = [[_first_byte_ms(person, path) for _ in range(_LOOKS)] for _ in range(bench.runs)]
    median = Measured("taskbell", tuple(map(statistics.median, runs)))
    worst = Measured("taskbell", tuple(map(max, runs)))
    yield Line(f"ms to {what}", engine, median, goal=below(300))
    yield Line(f"ms to {what}, at worst", engine, worst, goal=below(300))


def _first_byte_ms(person: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    with person.stream("GET", path) as response:
        taken = time.perf_counter() - began
        response.read()
    if response.status_code != 200:
        raise Broken(f"{path} answered {response.status_code}")
    return taken * 1000


def _signed_in(callback_url: str) -> httpx.Client:
    """A person's browser, as far as that takes: cookies, and an API key typed into a form."""
    parts = urlsplit(callback_url)
    person = httpx.Client(base_url=f"{parts.scheme}://{parts.netloc}", timeout=60, trust_env=False)
    form = person.get("/login").text
    [token] = re.findall(r'name="form_token" value="([^"]+)"', form)
    answer = person.post("/login", data={"form_token": token, "key": API_KEY})
    if answer.status_code != 303:
        raise Broken(f"signing in was answered {answer.status_code}")
    return person


ROW: Row = Pages()
