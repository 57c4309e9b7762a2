"""OpenTelemetry traces, an optional extra: a span for each push, poll and attempt that was recorded.

Spans are made after the commit, in the writer's thread, from what the store tells; where they go,
OpenTelemetry's own environment variables say. Nothing of it is imported while they say nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from deploy import __version__
from dispatch.trace import span_id, trace_id
from store.clock import Clock
from store.deliveries import Finished
from store.records import Recorded, Report
from store.writer import Committed

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

logger = logging.getLogger("taskbell")

INSTALL = "traces are wanted, but not installed: pip install 'taskbell[otel]'"


class Traces:
    def __init__(self, processor: SpanProcessor, clock: Clock) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        class Ids(RandomIdGenerator):
            """The ids that were chosen for the next span; all are begun in one thread."""

            trace, span = 0, 0

            def generate_trace_id(self) -> int:
                return self.trace

            def generate_span_id(self) -> int:
                return self.span or super().generate_span_id()

        self._clock, self._ids = clock, Ids()
        resource = Resource.create({"service.name": "taskbell", "service.version": __version__})
        self._provider = TracerProvider(
            resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("taskbell", __version__)

    def committed(self, committed: Committed) -> None:
        for _, item, answer in committed.done:
            if isinstance(item, Report) and isinstance(answer, Recorded) and answer.task:
                self._learnt(item, answer, answer.task.id, committed.seconds)
            elif isinstance(item, Finished):
                self._attempted(item)

    def close(self) -> None:
        """Send what waits. Blocks."""
        self._provider.shutdown()

    def _learnt(self, report: Report, recorded: Recorded, task_id: str, seconds: float) -> None:
        lasted = timedelta(seconds=seconds)
        said = {"provider": report.provider, "task": task_id, "verdict": recorded.verdict}
        said |= {"event": recorded.event_id} if recorded.event_id else {}
        self._span(report.source, trace_id(task_id), 0, self._clock() - lasted, lasted, said)

    def _attempted(self, finished: Finished) -> None:
        delivery, attempt = finished.delivery, finished.attempt
        subscription = delivery.subscription
        said = {
            "delivery": delivery.id,
            "event": delivery.event_id,
            "subscription": subscription.id,
            "format": subscription.format,
            "attempt": str(delivery.attempt),
            "result": attempt.result,
        }
        trace = trace_id(delivery.subject or delivery.event_id)
        span = span_id(delivery.event_id, subscription.id, attempt.started_at)
        self._span("attempt", trace, span, attempt.started_at, attempt.duration, said)

    def _span(
        self,
        name: str,
        trace: int,
        span: int,
        started_at: datetime,
        lasted: timedelta,
        said: Mapping[str, str],
    ) -> None:
        from opentelemetry.context import Context

        self._ids.trace, self._ids.span = trace, span
        attributes = {f"taskbell.{name}": value for name, value in said.items()}
        begun = self._tracer.start_span(
            name, Context(), attributes=attributes, start_time=_nanoseconds(started_at)
        )
        begun.end(_nanoseconds(started_at + lasted))


def open_traces(clock: Clock) -> Traces | None:
    """Traces to where OTEL_EXPORTER_OTLP_ENDPOINT says; None, and a warning, without the extra."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        logger.warning(INSTALL)
        return None
    return Traces(BatchSpanProcessor(OTLPSpanExporter()), clock)


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000
