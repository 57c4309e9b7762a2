"""How hard a running system can be pushed, and how late it delivers: what several rows measure."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.load import Sink, send
from tests.bench.system import Broken


@dataclass(frozen=True, slots=True)
class Delay:
    """Milliseconds from a push to its delivery, at `rate` pushes a second."""

    rate: float
    p50: float
    p99: float


def pushes_taken(url: str, seconds: float) -> float:
    """Pushes a second, as fast as they are answered, for about that long."""
    probe = send(url, _few(seconds))
    return send(url, _enough(probe.per_second, seconds)).per_second


def events_delivered(url: str, sink: Sink, sinks: int, seconds: float) -> float:
    """Pushes a second until the last was delivered to each sink, over about that long."""
    probe = _through(url, sink, sinks, _few(seconds))
    if seconds > 1:  # the first ones opened connections and filled caches: ask again
        probe = _through(url, sink, sinks, _few(seconds))
    return _through(url, sink, sinks, _enough(probe, seconds))


def delay(url: str, sink: Sink, rate: float, seconds: float) -> Delay:
    sink.reset()
    sink.record()
    sent = send(url, _enough(rate, seconds), rate=rate)
    sink.wait(sent.count)
    arrivals = sink.arrivals()
    if lost := sent.moments.keys() - arrivals.keys():
        raise Broken(f"{len(lost)} of {sent.count} pushes were not delivered, others twice")
    took = sorted(arrivals[number] - moment for number, moment in sent.moments.items())
    return Delay(rate, took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000)


def _through(url: str, sink: Sink, sinks: int, pushes: int) -> float:
    sink.reset()
    sent = send(url, pushes)
    return pushes / (sink.wait(pushes * sinks).last - sent.began)


def _enough(per_second: float, seconds: float) -> int:
    return max(_few(seconds), int(per_second * seconds))


def _few(seconds: float) -> int:
    """Pushes that even the slowest gets through in that time."""
    return max(20, int(seconds * 50))
