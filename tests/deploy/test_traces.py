"""Traces: one a task, a span for each push and attempt, and nothing at all while they are off."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.responses import Response

from deploy.app import make_app
from deploy.service import make_service
from deploy.settings import load, wants_traces
from deploy.traces import INSTALL, Traces, open_traces
from dispatch.trace import trace_id
from store.clock import ManualClock, system_clock
from store.database import open_database
from store.events import Source
from store.store import Store
from tests.app import ADMIN_KEY, SECRET_KEYS, Taskbell, bearer, minimax
from tests.dispatch.hook import Hook
from tests.e2e.process import until
from tests.making import push, tell
from tests.patience import PATIENCE_SECONDS

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def taskbell(sqlite_url: str, spans: InMemorySpanExporter) -> AsyncIterator[Taskbell]:
    """Traced, and dispatching."""
    values = {
        "DATABASE_URL": sqlite_url,
        "SECRET_KEYS": ",".join(SECRET_KEYS),
        "API_KEY": ADMIN_KEY,
        "ROLES": "receive,dispatch",
        "ALLOW_NETWORKS": "127.0.0.0/8",
        "RETRY_SCHEDULE": "0.01",
    }
    settings = load({f"TASKBELL_{name}": value for name, value in values.items()})
    traces = Traces(SimpleSpanProcessor(spans), system_clock)
    service = make_service(settings, open_database(sqlite_url), traces=traces)
    app = make_app(service)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://taskbell.test") as door,
        httpx.AsyncClient(
            transport=transport, base_url="http://taskbell.test", headers=bearer(ADMIN_KEY)
        ) as api,
    ):
        yield Taskbell(service, app, api, door)


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    async with Hook(system_clock).served() as served:
        yield served


async def finished(spans: InMemorySpanExporter, count: int) -> list[ReadableSpan]:
    async def come() -> bool:
        return len(spans.get_finished_spans()) >= count

    await until(come, PATIENCE_SECONDS, every=0.01)
    return list(spans.get_finished_spans())


async def test_a_push_and_its_attempts_stand_in_one_trace_which_receivers_are_told(
    taskbell: Taskbell, hook: Hook, spans: InMemorySpanExporter
) -> None:
    hook.answers.append(Response(status_code=500))
    subscription = await taskbell.subscribe(hook.url)

    await taskbell.push(minimax(status="Success", file_id="1"))
    push, first, second = await finished(spans, 3)

    [task] = await taskbell.tasks()
    [event] = await taskbell.events()
    assert [span.name for span in (push, first, second)] == ["push", "attempt", "attempt"]
    assert push.attributes == {
        "taskbell.provider": "minimax",
        "taskbell.task": task["id"],
        "taskbell.verdict": "recorded",
        "taskbell.event": event["id"],
    }
    assert second.attributes is not None
    assert second.attributes["taskbell.event"] == event["id"]
    assert second.attributes["taskbell.subscription"] == subscription["id"]
    assert second.attributes["taskbell.attempt"] == "2"
    assert [(span.attributes or {})["taskbell.result"] for span in (first, second)] == [
        "retry",
        "delivered",
    ]
    told = [taken.headers["traceparent"] for taken in hook.taken]
    assert told == [
        f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"
        for span in (first, second)
    ]
    assert len({span.context.trace_id for span in (push, first, second)}) == 1
    assert first.start_time is not None
    assert first.end_time is not None
    assert first.start_time < first.end_time


async def test_two_tasks_have_two_traces(taskbell: Taskbell, spans: InMemorySpanExporter) -> None:
    await taskbell.push(minimax("1"))
    await taskbell.push(minimax("2"))

    one, two = await finished(spans, 2)

    assert one.context.trace_id != two.context.trace_id


def test_what_a_poll_taught_stands_in_the_tasks_trace(
    sqlite_url: str, clock: ManualClock, spans: InMemorySpanExporter
) -> None:
    store = Store(open_database(sqlite_url), clock)
    store.watch(Traces(SimpleSpanProcessor(spans), clock).committed)

    told = tell(store, replace(push(trusted=True), source=Source.POLL))
    store.close()

    [span] = spans.get_finished_spans()
    assert told.task is not None
    assert span.name == "poll"
    assert span.context.trace_id == trace_id(told.task.id)


async def test_spans_reach_the_collector_that_the_environment_names(
    sqlite_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Hook(clock).served("/v1/traces") as collector:
        url = collector.url.removesuffix("/v1/traces")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        traces = open_traces(clock)
        assert traces is not None
        store = Store(open_database(sqlite_url), clock)
        store.watch(traces.committed)
        tell(store, push(trusted=True))
        store.close()
        await asyncio.to_thread(traces.close)

    [taken] = collector.taken
    assert taken.headers["content-type"] == "application/x-protobuf"
    assert b"taskbell.verdict" in taken.body


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
    ],
)
def test_opentelemetrys_own_variables_switch_them_on(environ: dict[str, str], wanted: bool) -> None:
    assert wants_traces(environ) is wanted


def test_without_the_extra_a_line_says_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    assert open_traces(system_clock) is None
    assert caplog.messages == [INSTALL]


def test_nothing_of_it_and_of_apprise_is_imported_while_nobody_wants_it() -> None:
    code = (
        "import sys, deploy.traces, dispatch.sending; dispatch.sending.sinks();"
        "print([name for name in ('opentelemetry', 'apprise', 'requests') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
