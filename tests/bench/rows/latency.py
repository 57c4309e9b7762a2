"""Milliseconds from a push to its delivery, at half the load that each system can sustain.

A peer that can sustain more than Taskbell is pushed at Taskbell's half only: whichever is kinder.
The bare client posts to the sink at Taskbell's pace, with nothing between: its round trip.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from tests.bench.baseline import Naive, bare_client
from tests.bench.bench import Bench, Turns
from tests.bench.figures import Line, Measured, below
from tests.bench.flow import Delay, delay, events_delivered
from tests.bench.load import running_sink
from tests.bench.row import Row
from tests.bench.system import System, peers
from tests.bench.taskbell import Taskbell


class Latency:
    name = "latency"
    about = "milliseconds from push to delivery at half load, against the peers"

    def measure(self, bench: Bench) -> Iterator[Line]:
        halves = _Halves(bench)
        ours = {f"taskbell, {engine}": engine for engine in bench.engines}
        naive = {f"naive, {engine}": engine for engine in bench.engines}
        takers: dict[str, Callable[[], Delay]]
        takers = {name: partial(halves.of, Taskbell(), engine) for name, engine in ours.items()}
        takers["bare client"] = halves.of_bare_client
        takers |= {name: partial(halves.of, Naive(), engine) for name, engine in naive.items()}
        others = [peer.name for peer in peers().values()]
        for peer in peers().values():
            takers[peer.name] = partial(halves.of, peer, bench.engines[-1])
        found = bench.in_turns(takers)
        p50 = {name: _figure(turns, lambda delay: delay.p50) for name, turns in found.items()}
        p99 = {name: _figure(turns, lambda delay: delay.p99) for name, turns in found.items()}
        for us, engine in ours.items():
            pace = p50[us].name.rpartition(" at ")[2]
            what = f"ms to delivery at half load, {pace}"
            yield Line(f"p50 {what}", engine, p50[us], p50["bare client"], below(5))
            for them in (f"naive, {engine}", *others):
                yield Line(f"p50 {what}", engine, p50[us], p50[them], below(1))
            for them in (f"naive, {engine}", *others):
                yield Line(f"p99 {what}", engine, p99[us], p99[them], below(1))


def _figure(turns: Turns[Delay], of: Callable[[Delay], float]) -> Measured:
    """The name says at what pace, in pushes a second."""
    figure = turns.figure(of)
    if turns.missing:
        return figure
    rate = statistics.median(delay.rate for delay in turns.taken)
    return replace(figure, name=f"{turns.name} at {rate:,.0f}/s")


class _Halves:
    """Measures delays. What Taskbell was pushed at is the most that anybody after it is."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._seconds = 0.5 if bench.quick else 6.0
        self._most = float("inf")

    def of(self, system: System, engine: str) -> Delay:
        with (
            self._bench.folder() as folder,
            self._bench.given(engine) as database,
            running_sink() as sink,
            system.running(folder, database, [sink.url]) as url,
        ):
            half = events_delivered(url, sink, 1, self._seconds) / 2
            if isinstance(system, Taskbell):
                self._most = min(self._most, half)
            else:
                half = min(self._most, half)
            return delay(url, sink, half, self._seconds)

    def of_bare_client(self) -> Delay:
        with running_sink() as sink:
            took = bare_client(sink.url, self._seconds, self._most)
            return Delay(self._most, took["p50"], took["p99"])


ROW: Row = Latency()
