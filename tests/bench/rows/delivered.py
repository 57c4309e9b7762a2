"""Push → durable → delivered: events a second, until the last one has arrived at every sink.

Every system is pushed as fast as it answers, then drained. One process of Taskbell has all roles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from tests.bench.baseline import Naive, bare_route
from tests.bench.bench import Bench
from tests.bench.figures import Goal, Line, at_least, more_than
from tests.bench.flow import events_delivered, pushes_taken
from tests.bench.load import running_sink
from tests.bench.row import Row
from tests.bench.system import System, peers
from tests.bench.taskbell import Taskbell

_PYTHON_PEER, _NAIVE = 6.0, 15.0
_OTHER_PEERS = {"bullmq": 1.0}


class Delivered:
    name = "delivered"
    about = "events a second from push to delivery, 1 and 10 subscriptions, against the peers"

    def measure(self, bench: Bench) -> Iterator[Line]:
        for subscriptions in (1,) if bench.quick else (1, 10):
            takers = {"bare route": partial(_bare, bench)} if subscriptions == 1 else {}
            for engine in bench.engines:
                takers[f"taskbell, {engine}"] = partial(
                    _events, bench, Taskbell(), engine, subscriptions
                )
                takers[f"naive, {engine}"] = partial(_events, bench, Naive(), engine, subscriptions)
            for peer in peers().values():
                takers[peer.name] = partial(_events, bench, peer, bench.engines[-1], subscriptions)
            found = bench.measured(takers)
            what = f"events/s delivered to {subscriptions}"
            for engine in bench.engines:
                for name, goal in _goals(engine, subscriptions).items():
                    yield Line(what, engine, found[f"taskbell, {engine}"], found[name], goal)


def _goals(engine: str, subscriptions: int) -> Mapping[str, Goal]:
    """At ten subscriptions Taskbell is to be ahead by more than at one."""
    ahead = at_least if subscriptions == 1 else more_than
    goals = {"bare route": at_least(0.1)} if subscriptions == 1 else {}
    goals[f"naive, {engine}"] = ahead(_NAIVE)
    return goals | {
        peer.name: ahead(_OTHER_PEERS.get(file, _PYTHON_PEER)) for file, peer in peers().items()
    }


def _bare(bench: Bench) -> float:
    with bench.folder() as folder, bare_route(folder) as url:
        return pushes_taken(url, _seconds(bench))


def _events(bench: Bench, system: System, engine: str, subscriptions: int) -> float:
    with (
        bench.folder() as folder,
        bench.given(engine) as database,
        running_sink() as sink,
        system.running(folder, database, sink.urls(subscriptions)) as url,
    ):
        return events_delivered(url, sink, subscriptions, _seconds(bench))


def _seconds(bench: Bench) -> float:
    return 0.5 if bench.quick else 6.0


ROW: Row = Delivered()
