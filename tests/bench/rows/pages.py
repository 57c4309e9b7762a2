"""Milliseconds to the first byte of each page, with 100,000 tasks and a million deliveries behind it.

One person looks at one page after the other: the median of twenty looks at each, and the worst.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

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
    scene = crowd.scene
    task, one = scene.tasks["failed"], scene.subscriptions["crm"]
    return {
        "tasks": "/",
        "tasks, failed": "/?status=failed",
        "tasks, text that is nowhere": "/?q=nowhere+to+be+found",
        "tasks, model that is nowhere": "/?model=nowhere",
        "tasks, the oldest": f"/?after=task_{'0' * 26}",
        "a task": f"/tasks/{task}",
        "events": "/events",
        "events, provider that is nowhere": "/events?provider=nowhere",
        "events of a type": "/events?type=task.timed_out",
        "an event": f"/events/{scene.events['usual 3']}",
        "deliveries": "/deliveries",
        "deliveries, dead": "/deliveries?status=dead",
        "deliveries, dead to one": f"/deliveries?status=dead&subscription={one}",
        "dead deliveries, counted": f"/deliveries/replay?subscription={one}",
        "deliveries, canceled": "/deliveries?status=canceled",
        "a delivery": f"/deliveries/{scene.deliveries['crm', 'dead']}",
        "subscriptions": "/subscriptions",
        "a subscription": f"/subscriptions/{one}",
        "providers": "/providers",
    }


def _lines(bench: Bench, engine: str, person: httpx.Client, what: str, path: str) -> Iterator[Line]:
    figures: dict[str, Callable[[list[float]], float]] = {"": statistics.median, ", at worst": max}
    try:
        runs = [[_first_byte_ms(person, path) for _ in range(_LOOKS)] for _ in range(bench.runs)]
    except Broken as reason:
        yield Line(f"ms to {what}", engine, Measured("taskbell", missing=str(reason)))
        return
    for name, of in figures.items():
        measured = Measured("taskbell", tuple(map(of, runs)))
        yield Line(f"ms to {what}{name}", engine, measured, goal=below(300))


def _first_byte_ms(person: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    with person.stream("GET", path) as response:
        taken = time.perf_counter() - began
        response.read()
    if response.status_code != 200:
        raise Broken(f"{path} answered {response.status_code}")
    return taken * 1000


@contextmanager
def _signed_in(callback_url: str) -> Iterator[httpx.Client]:
    """A person's browser, as far as that takes: cookies, and an API key typed into a form."""
    home = callback_url.partition("/callbacks/")[0]
    with httpx.Client(base_url=home, timeout=60, trust_env=False) as person:
        token = re.search(r'name="form_token" value="([^"]+)"', person.get("/login").text)
        if token is None:
            raise Broken("there is no form to sign in with")
        answer = person.post("/login", data={"form_token": token[1], "key": API_KEY})
        if answer.status_code != 303:
            raise Broken(f"signing in was answered {answer.status_code}")
        yield person


ROW: Row = Pages()
