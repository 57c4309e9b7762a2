"""What a process counts, for Prometheus: the one file that knows it.

The store tells what each transaction came to, the door and the poller what happens at them
(receiver/watch.py); what is open is asked of the store when somebody looks. No label holds an id,
a URL, or a word that comes from outside.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deploy import __version__
from dispatch.sink import sinks
from receiver.failures import Code
from receiver.provider import providers
from receiver.watch import Watch
from store.backlog import EXPIRING_WITHIN, Kept, count_kept
from store.clock import Clock
from store.deliveries import Finished
from store.errors import StoreUnavailableError
from store.events import EVENT_TYPES, Source, Status, Verdict
from store.provider_states import ProviderState, State, never_polled, read_states
from store.records import Recorded, Report, Unread
from store.retention import expire_waiting
from store.stats import Backlog, read_backlog
from store.store import Store
from store.writer import Committed

OTHER = "other"
FRESH_SECONDS = 5.0
"""How long what was asked of the store is good for, however many look."""

TROUBLES = frozenset(Code) - {Code.UNKNOWN_WORD}
"""Codes of ProviderError that have a label of their own; providers' own codes have none."""

_CHALLENGE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3)
_WAIT_SECONDS = (0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60)
_ATTEMPT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
_TRANSACTION_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_WRITES = (1, 2, 5, 10, 20, 50, 100, 200, 512)


M = TypeVar("M", Counter, Histogram)


Labels = tuple[str, ...]
Tally = dict[Labels, int]


def _add(tally: Tally, labels: Labels) -> None:
    tally[labels] = tally.get(labels, 0) + 1


class _Children(dict[Labels, M]):
    """A metric's children by their labels: the library takes longer to find one than to count."""

    def __init__(self, metric: M) -> None:
        self._metric: M = metric

    def __missing__(self, labels: Labels) -> M:
        child = self[labels] = self._metric.labels(*labels)
        return child


class _Counters(_Children[Counter]):
    def add(self, tally: Tally) -> None:
        for labels, count in tally.items():
            self[labels].inc(count)


class Metrics(Watch):
    """Counts, and writes the page. followers, connections: how many are open now."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        monotonic: Callable[[], float],
        *,
        followers: Callable[[], int],
        retention: timedelta = timedelta(days=30),
    ) -> None:
        # one more sample for every counter, which nobody reads
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.connections: Callable[[], int] = lambda: 0
        self.unknown_words: Callable[[], int] = lambda: 0
        self._providers, self._formats = frozenset(providers()), frozenset(sinks())
        self._registry = CollectorRegistry()
        self._backlog = _BacklogOf(store, clock, monotonic, retention)
        self._registry.register(self._backlog)
        ProcessCollector(registry=self._registry)
        self._count_what_comes()
        self._count_what_goes()
        self._count_writes()
        self._gauge("taskbell_event_followers", "Streams, and calls that wait.", followers)
        self._gauge("taskbell_client_connections", "Open connections.", lambda: self.connections())
        about = "Status words of providers that no table knows; the log names each."
        self._gauge("taskbell_unknown_words", about, lambda: self.unknown_words())
        self._name_build("postgresql" if store.database.postgresql else "sqlite")

    async def page(self) -> tuple[bytes, str]:
        """The text that Prometheus reads, and its media type."""
        await self._backlog.refresh()
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    # What there is to count

    def _count_what_comes(self) -> None:
        self._pushes = self._counter(
            "taskbell_pushes", "Pushes taken, by what became of them.", "provider", "verdict"
        )
        self._refused = self._counter(
            "taskbell_pushes_refused", "Pushes answered with a problem.", "provider", "status"
        )
        self._challenges = self._histogram(
            "taskbell_challenge_seconds",
            "From a challenge's request to its answer.",
            _CHALLENGE_SECONDS,
            "provider",
        )
        self._polls = self._counter(
            "taskbell_polls", "Questions answered: a status, or trouble.", "provider", "result"
        )
        self._waits = self._histogram(
            "taskbell_poll_wait_seconds",
            "How long questions waited for their turn in a provider's budget.",
            _WAIT_SECONDS,
            "provider",
        )
        self._rescued = self._counter(
            "taskbell_rescued_by_poll", "Endings whose push never came.", "provider"
        )
        for provider in self._providers:
            self._rescued[(provider,)].inc(0)
            for verdict in set(Verdict) - {Verdict.CHALLENGE}:
                self._pushes[provider, verdict].inc(0)

    def _count_what_goes(self) -> None:
        self._events = self._counter("taskbell_events", "Events recorded.", "type")
        self._attempts = self._counter(
            "taskbell_delivery_attempts", "Attempts, by what they came to.", "format", "result"
        )
        self._attempt_seconds = self._histogram(
            "taskbell_delivery_attempt_seconds",
            "How long attempts took.",
            _ATTEMPT_SECONDS,
            "format",
        )
        self._expired = Counter(
            "taskbell_deliveries_expired",
            "Deliveries kept for a paused subscription that were canceled at retention.",
            registry=self._registry,
        )
        for event_type in EVENT_TYPES:
            self._events[(event_type,)].inc(0)

    def _count_writes(self) -> None:
        self._writes = Histogram(
            "taskbell_transaction_writes",
            "Writes that shared a transaction.",
            buckets=_WRITES,
            registry=self._registry,
        )
        self._transactions = Histogram(
            "taskbell_transaction_seconds",
            "From a transaction's start to its commit.",
            buckets=_TRANSACTION_SECONDS,
            registry=self._registry,
        )

    def _counter(self, name: str, about: str, *labels: str) -> _Counters:
        return _Counters(Counter(name, about, labels, registry=self._registry))

    def _histogram(
        self, name: str, about: str, buckets: Sequence[float], *labels: str
    ) -> _Children[Histogram]:
        made = Histogram(name, about, labels, buckets=buckets, registry=self._registry)
        return _Children(made)

    def _gauge(self, name: str, about: str, count: Callable[[], int]) -> None:
        Gauge(name, about, registry=self._registry).set_function(lambda: float(count()))

    def _name_build(self, database: str) -> None:
        build = Info("taskbell_build", "Which version runs, and on what.", registry=self._registry)
        python = platform.python_version()
        build.info({"version": __version__, "python": python, "database": database})

    # What the callback door and the poller tell

    def challenged(self, provider: str, seconds: float) -> None:
        self._challenges[(self._known(provider),)].observe(seconds)

    def refused(self, provider: str, status: int) -> None:
        self._refused[self._known(provider), str(status)].inc()

    def waited(self, provider: str, seconds: float) -> None:
        self._waits[(self._known(provider),)].observe(seconds)

    def asked(self, provider: str, result: str) -> None:
        known = result if result in _RESULTS else OTHER
        self._polls[self._known(provider), known].inc()

    # What the store tells

    def committed(self, committed: Committed) -> None:
        """Called in the writer's thread, once a transaction."""
        self._writes.observe(len(committed.done))
        self._transactions.observe(committed.seconds)
        events: Tally = {}
        for event_type in committed.events:
            _add(events, (event_type,))
        pushes: Tally = {}
        for name, item, answer in committed.done:
            if isinstance(item, Report):
                self._reported(item, answer, pushes)
            elif isinstance(item, Finished):
                self._attempted(item)
            elif name == expire_waiting.name:
                self._expired.inc(answer)
            elif isinstance(item, Unread):
                _add(pushes, (self._known(item.provider), Verdict.UNREADABLE))
        self._events.add(events)
        self._pushes.add(pushes)

    def _reported(self, report: Report, answer: Any, pushes: Tally) -> None:
        provider = self._known(report.provider)
        if report.source is Source.PUSH:
            # a push that the store refused was kept all the same, as a receipt
            _add(pushes, (provider, answer.verdict if isinstance(answer, Recorded) else OTHER))
        elif isinstance(answer, Recorded) and _was_rescued(answer):
            self._rescued[(provider,)].inc()

    def _attempted(self, finished: Finished) -> None:
        form = finished.delivery.subscription.format
        form = form if form in self._formats else OTHER
        self._attempts[form, _result(finished)].inc()
        self._attempt_seconds[(form,)].observe(finished.attempt.duration.total_seconds())

    def _known(self, provider: str) -> str:
        return provider if provider in self._providers else OTHER


_RESULTS = TROUBLES | frozenset(Status)


def _was_rescued(recorded: Recorded) -> bool:
    """By the report behind it, which found the ending."""
    return bool(recorded.event_id and recorded.task and recorded.task.rescued_by_poll)


def _result(finished: Finished) -> str:
    if finished.delivered:
        return "delivered"
    if finished.refused is not None:
        return "refused"
    return "dead" if finished.retry_in is None else "retry"


class _BacklogOf(Collector):
    """Gauges of what is open in the store. Without the store only that it is away is told."""

    def __init__(
        self, store: Store, clock: Clock, monotonic: Callable[[], float], retention: timedelta
    ) -> None:
        self._store = store
        self._clock = clock
        self._retention = retention
        self._monotonic = monotonic
        self._asked_at = -math.inf
        self._found: Backlog | None = None
        self._kept = Kept(0, {})
        self._states: Mapping[str, ProviderState] = {}

    async def refresh(self) -> None:
        """Ask the store, unless it was asked a moment ago."""
        now = self._monotonic()
        if now - self._asked_at < FRESH_SECONDS:
            return
        self._asked_at = now
        try:
            self._found = await self._store.read(read_backlog)
            soon = self._clock() - self._retention + EXPIRING_WITHIN
            self._kept = await self._store.read(count_kept, soon)
            self._states = await self._store.read(read_states)
        except StoreUnavailableError:
            self._found = None

    def collect(self) -> Iterator[Metric]:
        about = "Whether the store answered when it was last asked."
        yield GaugeMetricFamily("taskbell_store_up", about, int(self._found is not None))
        if self._found is not None:
            yield from self._tasks(self._found)
            yield from self._deliveries(self._found)
            yield self._providers()

    def _providers(self) -> Metric:
        about = "1 for the state that a provider is in, 0 for the others."
        states = GaugeMetricFamily("taskbell_provider_state", about, labels=["provider", "state"])
        now = self._clock()
        for name in sorted(providers()):
            known = self._states.get(name) or never_polled(name, now)
            for state in State:
                states.add_metric([name, state], int(known.at(now).state is state))
        return states

    def _tasks(self, found: Backlog) -> Iterator[Metric]:
        counts = GaugeMetricFamily("taskbell_tasks_open", "Open tasks.", labels=["status"])
        ages = GaugeMetricFamily(
            "taskbell_tasks_oldest_seconds", "Age of the oldest open task.", labels=["status"]
        )
        for status in (Status.QUEUED, Status.PROCESSING):
            known = found.tasks.get(status)
            counts.add_metric([status], known.count if known else 0)
            ages.add_metric([status], self._since(known.oldest if known else None))
        yield counts
        yield ages

    def _deliveries(self, found: Backlog) -> Iterator[Metric]:
        counts = GaugeMetricFamily(
            "taskbell_deliveries_open",
            "Deliveries that wait, are kept while paused, or are sent.",
            labels=["status"],
        )
        counts.add_metric(["pending"], max(0, found.waiting - self._kept.count))
        counts.add_metric(["kept"], self._kept.count)
        counts.add_metric(["in_flight"], found.in_flight)
        yield counts
        yield GaugeMetricFamily(
            "taskbell_deliveries_expiring",
            "Deliveries kept for paused subscriptions that expire within a day.",
            sum(self._kept.expiring.values()),
        )
        yield GaugeMetricFamily(
            "taskbell_deliveries_overdue_seconds",
            "How long ago the first waiting delivery was due.",
            self._since(found.first_due),
        )

    def _since(self, moment: datetime | None) -> float:
        return max(0.0, (self._clock() - moment).total_seconds()) if moment else 0.0
