"""The pages under deploy/docs/reference, written from the code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer
from prometheus_client.registry import Collector
from typer import _click as click

from deploy.cli import build_app
from deploy.metrics import Metrics
from deploy.serving import openapi_document
from deploy.setting_names import GENERAL, OF_A_PROVIDER, Setting
from deploy.settings import PREFIX
from dispatch.sink import Event, Target, sinks
from receiver.glossary import EXAMPLES, meaning
from receiver.manual import Field, Group, Manual, Operation, Shape, manual_of
from receiver.manual_page import PROBLEMS
from receiver.provider import providers
from store.clock import monotonic, system_clock
from store.database import open_database
from store.events import OWN_EVENTS, TASK_EVENTS
from store.schema import migrate
from store.store import Store
from store.text import json_bytes

HEADING = "<!-- written by python -m tests.docs.generate -->\n"


def row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"


def table(*columns: str) -> str:
    return row(*columns) + "|" + "---|" * len(columns) + "\n"


# Settings


def settings_page() -> str:
    return "".join(
        [
            "# Settings\n\n",
            "Environment variables, or a `.env` file in the working directory; the environment wins. An"
            " unknown `TASKBELL_…` name or a bad value stops the start with one line that names it"
            " (`tests/deploy/test_settings.py`). An empty value is as good as none.\n\n",
            table("name", "default", "what it does"),
            *(_setting(PREFIX, each) for each in GENERAL),
            "\n## Of a provider\n\n",
            f"`<PROVIDER>` is {_words(name.upper() for name in providers())}.\n\n",
            table("name", "default", "what it does"),
            *(_setting(f"{PREFIX}<PROVIDER>_", each) for each in OF_A_PROVIDER),
            "\n",
            table("provider", "base URL", "requests a second", "at once"),
            *_providers(),
        ]
    )


def _setting(prefix: str, setting: Setting) -> str:
    default = f"`{setting.default}`" if setting.default is not None else setting.otherwise
    return row(f"`{prefix}{setting.name}`", default, setting.meaning)


def _providers() -> Iterator[str]:
    for name, provider in providers().items():
        budget = provider.budget
        yield row(
            f"`{name.upper()}`, {provider.title}",
            f"`{provider.base_url}`",
            f"{budget.requests_per_second:g}",
            str(budget.concurrency),
        )


def _words(names: Iterator[str]) -> str:
    *others, last = (f"`{name}`" for name in names)
    return f"{', '.join(others)} or {last}"


# The API


def api_page() -> str:
    manual = manual_of(openapi_document())
    return "".join(
        [
            "# API\n\n",
            "A server shows this page at `/docs`, and the OpenAPI document that both are made from at"
            " `/openapi.json`. Commands take the server and a key from `TASKBELL_URL` and"
            " `TASKBELL_API_KEY`, and the id in a path from `ID`; `tests/receiver/test_manual.py` runs"
            " each of them.\n\n",
            "A key goes into `Authorization: Bearer …`; its scope is `read`, `write` or `admin`, each of"
            " which may do what the one before may. Lists are read on with `cursor` (events: `after`)"
            " until `next_cursor` is null. Unknown fields and parameters are refused.\n",
            *(part for group in manual.groups for part in _group(group)),
            *_problems(),
            *_bodies(manual),
        ]
    )


def _group(group: Group) -> Iterator[str]:
    yield f"\n## {group.name}\n"
    for operation in group.operations:
        yield from _operation(operation)


def _operation(operation: Operation) -> Iterator[str]:
    yield f"\n### {operation.method} {operation.path}\n\n{operation.summary}. {operation.key}\n\n"
    yield from _fields("parameter", operation.parameters)
    if operation.body is not None:
        yield from _fields("field", operation.body.fields)
    yield "<!-- run by tests/receiver/test_manual.py -->\n"
    yield f"```sh\n{operation.curl}\n```\n\n"
    good = (f"`{each.status}` {each.shape or each.media_type or ''}" for each in operation.answers)
    yield f"Answers {', '.join(each.strip() for each in good)};"
    yield f" problems {', '.join(map(str, operation.problems))}.\n"


def _fields(what: str, fields: tuple[Field, ...]) -> Iterator[str]:
    if fields:
        yield table(what, "value", "meaning")
        yield from (_field(each) for each in fields)
        yield "\n"


def _field(field: Field) -> str:
    default = f", default `{field.default}`" if field.default else ""
    required = ", required" if field.required else ""
    return row(f"`{field.name}`", f"{field.kind}{default}{required}", field.meaning)


def _problems() -> Iterator[str]:
    yield "\n## Problems\n\n"
    yield "What cannot be done is answered with `application/problem+json` (RFC 9457).\n\n"
    yield table("status", "meaning")
    yield from (row(f"`{status}`", said) for status, said in PROBLEMS.items())


def _bodies(manual: Manual) -> Iterator[str]:
    yield "\n## Bodies\n"
    for shape in manual.shapes:
        yield f"\n### {shape.name}\n\n"
        if shape.meaning:
            yield f"{shape.meaning}\n\n"
        yield from _body(shape)


def _body(shape: Shape) -> Iterator[str]:
    if shape.words:
        yield f"{', '.join(f'`{word}`' for word in shape.words)}\n"
        return
    yield from (part.removesuffix("\n\n") for part in _fields("field", shape.fields))
    if shape.example is not None:
        yield f"\n```json\n{shape.example}\n```\n"


# Events

EVENT_MEANINGS = {
    "task.queued": "the task waits at its provider",
    "task.processing": "the provider works on it",
    "task.timed_out": "its deadline passed; a real ending may still come, with `late` true",
    "task.succeeded": "it ended well; `outputs` has what was made",
    "task.failed": "it ended badly; `error` says why",
    "task.canceled": "it was canceled at the provider, or is no longer tracked (`error.code`"
    " `untracked`)",
    "subscription.disabled": "a subscription was switched off by Taskbell",
    "delivery.dead": "a delivery used up its schedule",
    "provider.down": "polls of a provider fail, and nothing shows that it is there",
    "provider.recovered": "the first good answer of a provider after `provider.down`",
}

PROVIDER_EVENT = {
    "provider": {
        "name": "minimax",
        "title": "MiniMax",
        "state": "down",
        "reason": EXAMPLES["ProviderView"]["reason"],
        "since": EXAMPLES["ProviderView"]["since"],
    },
    "previous": {"state": "ok", "reason": None, "since": "2026-11-21T12:00:00.000000Z"},
}


def events_page() -> str:
    event = EXAMPLES["EventView"]
    body = {name: value for name, value in event.items() if name != "cursor"}
    return "".join(
        [
            "# Events\n\n",
            table("type", "when"),
            *(row(f"`{name}`", EVENT_MEANINGS[name]) for name in (*TASK_EVENTS, *OWN_EVENTS)),
            "\nA subscription without `types` gets `task.*`; the others only when it names them, or"
            " their family: `provider.*`, `delivery.*`, `subscription.*`.\n",
            "\n## What a subscriber is sent\n\n",
            "`format: webhook`, the default. The body is signed as it is sent, byte for byte, and is the"
            " same on every attempt and replay; so is `webhook-id`. Answer with 2xx.\n\n",
            _request("webhook", body),
            "\n`format: cloudevents`, in structured mode:\n\n",
            _request("cloudevents", body),
            "\n## The body\n\n",
            table("field", "meaning"),
            *(row(f"`{name}`", meaning("EventView", name) or "") for name in body),
            "\n`data` holds, for events about a task:\n\n",
            table("field", "meaning"),
            row("`task`", "the task after this step"),
            *(
                row(f"`task.{name}`", meaning("TaskView", name) or "")
                for name in EXAMPLES["TaskView"]
            ),
            row("`previous_status`", "where it stood before; null for its first event"),
            row("`source`", "what told it: `push`, `poll` or `api`"),
            row("`late`", "whether it had timed out before"),
            "\nFor `provider.down` and `provider.recovered` it holds the provider and the state that it"
            " left. `providers` of a subscription counts here too, `metadata` does not:\n\n",
            f"```json\n{json.dumps(PROVIDER_EVENT, indent=2)}\n```\n",
        ]
    )


def _request(format_name: str, body: Mapping[str, Any]) -> str:
    """The request that a sink makes of an event, as it goes over the wire."""
    task = body["data"]["task"]
    event = Event(
        id=body["id"],
        type=body["type"],
        source=f"/taskbell/{task['provider']}",
        subject=task["id"],
        time=datetime.fromisoformat(body["timestamp"]),
        body=json_bytes(body),
    )
    target = Target("sub_1", "https://your-app.example.com/hook", ("whsec_" + 43 * "A" + "=",), {})
    sent = sinks()[format_name].render(event, target, datetime(2026, 11, 21, 12, 2, 30, tzinfo=UTC))
    headers = "".join(f"{name}: {_shown(name, value)}\n" for name, value in sent.headers.items())
    pretty = json.dumps(json.loads(sent.body), indent=2, ensure_ascii=False)
    return f"```http\nPOST /hook\n{headers}\n{pretty}\n```\n"


def _shown(name: str, value: str) -> str:
    return {"webhook-signature": "v1,<base64>", "user-agent": "taskbell/<version>"}.get(name, value)


# The command line


def cli_page() -> str:
    app: Any = typer.main.get_command(build_app())
    return "".join(
        [
            "# Command line\n\n",
            "In a checkout, `./deploy/run` stands for `taskbell`. Client commands find the server at"
            " `TASKBELL_URL` and send `TASKBELL_API_KEY`; beside a development server they need"
            " neither. Exit codes: 0 done, 1 what was asked about failed, 2 wrong use or time is up.\n",
            *(part for name, command in app.commands.items() for part in _command(name, command)),
        ]
    )


def _command(name: str, command: Any) -> Iterator[str]:
    context = click.Context(command, info_name=f"taskbell {name}")
    pieces = " ".join(piece.strip("{}") for piece in command.collect_usage_pieces(context))
    yield f"\n## {name}\n\n{_sentence(command.help)}\n\n"
    yield f"```text\ntaskbell {name} {pieces}\n```\n\n"
    records = [each.get_help_record(context) for each in command.params]
    records = [record for record in records if record and not record[0].startswith("--help")]
    if records:
        yield table("argument or option", "")
        yield from (row(f"`{usage}`", _sentence(help_text)) for usage, help_text in records)
        yield "\n"
    if command.epilog:
        _, _, examples = command.epilog.partition(": ")
        yield f"For example: {', '.join(f'`{each}`' for each in examples.split('; '))}\n"
    for sub_name, sub_command in getattr(command, "commands", {}).items():
        yield from _command(f"{name} {sub_name}", sub_command)


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


# Metrics


def metrics_page() -> str:
    return "".join(
        [
            "# Metrics\n\n",
            "`GET /metrics`, for Prometheus, with a key of scope `read`. Each process counts what it"
            " did itself; what is open in the store is told by all of them. No label holds an id, a URL"
            " or a word from outside.\n\n",
            table("name", "type", "labels", "what it says"),
            *(row(*cells) for cells in sorted(_metrics())),
        ]
    )


def _metrics() -> Iterator[tuple[str, str, str, str]]:
    with TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{Path(folder) / 'empty.db'}")
        migrate(database)
        with closing(Store(database, system_clock)) as store:
            metrics = Metrics(store, system_clock, monotonic, followers=lambda: 0)
            asyncio.run(metrics.page())  # asks the store what is open
            collectors = list(metrics._registry._collector_to_names)
            found = {each for collector in collectors for each in _of_collector(collector)}
    yield from found


def _of_collector(collector: Collector) -> Iterator[tuple[str, str, str, str]]:
    declared = tuple(getattr(collector, "_labelnames", ()))
    for metric in collector.collect():
        if not metric.name.startswith("taskbell_"):
            continue  # of the process: the client library documents those
        labels = declared or {name for each in metric.samples for name in each.labels}
        suffix = {"counter": "_total", "info": "_info"}.get(metric.type, "")
        shown = ", ".join(f"`{name}`" for name in sorted(labels) if name != "le")
        yield f"`{metric.name}{suffix}`", metric.type, shown, metric.documentation


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "api.md": api_page,
    "events.md": events_page,
    "cli.md": cli_page,
    "metrics.md": metrics_page,
}


def written(name: str) -> str:
    return HEADING + PAGES[name]()
