"""Commands about tasks: track, watch, tasks."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli import output
from deploy.cli.completion import provider_names
from deploy.cli.errors import UsageError
from deploy.cli.frame import Surroundings, surroundings
from deploy.cli.lists import show_list
from deploy.cli.options import Json, Limit, Meta, ProviderName, pairs, seconds
from deploy.cli.output import Column
from store.events import Kind, Status

if TYPE_CHECKING:
    from deploy.cli.client import Client


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: taskbell track minimax 176843862716480 --kind video --wait")(track)
    app.command(epilog="Example: taskbell watch task_01kb3x0e5x --timeout 10m && echo done")(watch)
    app.command(epilog="Example: taskbell tasks --status failed --provider atlascloud")(tasks)


Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout", metavar="DURATION", help="Wait at most so long: 90s, 10m, 2h. Then exit 2."
    ),
]


def track(
    context: typer.Context,
    provider: ProviderName,
    task_id: Annotated[str, typer.Argument(metavar="TASK_ID", help="The provider's id.")],
    kind: Annotated[Kind | None, typer.Option(help="What is being made.")] = None,
    model: Annotated[str | None, typer.Option(help="The model that makes it.")] = None,
    family: Annotated[
        str | None, typer.Option(help="Which of the provider's APIs it belongs to.")
    ] = None,
    meta: Meta = None,
    expect_push: Annotated[
        bool, typer.Option("--expect-push", help="A callback URL was given to the provider.")
    ] = False,
    deadline: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="When tracking ends with task.timed_out for every subscriber: 90s, 10m, 2h, 7d.",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Watch it until it ends.")] = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Follow a task that was submitted to a provider."""
    if not task_id.strip():
        raise UsageError(
            "TASK_ID is empty: the provider answered the submit without one; look at what it said"
        )
    if timeout is not None and not wait:
        raise UsageError(
            "--timeout bounds the waiting of --wait, which is not given;"
            " --deadline says when tracking ends"
        )
    patience = seconds("--timeout", timeout) if timeout is not None else None
    around = surroundings(context)
    body = {
        "provider": provider,
        "task_id": task_id,
        "kind": kind,
        "model": model,
        "family": family,
        "metadata": pairs("--meta", meta),
        "expect_push": expect_push or None,
        "timeout_seconds": seconds("--deadline", deadline) if deadline is not None else None,
    }
    with around.connect() as api:
        answer = api.post("/v1/tasks", body)
        task = answer.body
        if answer.status == 200:
            output.message(_already_tracked(task, deadline))
        warnings = task.pop("warnings", []) if wait else task.get("warnings", [])
        for warning in warnings:
            output.message(f"warning: {warning.get('message')}")
        if not as_json:
            names = ("id", "provider", "provider_task_id", "status")
            output.result("  ".join(output.word(task.get(name)) for name in names))
        elif not wait:
            output.json_line(task)
        if wait:
            _watch(api, task, around, patience, as_json=as_json)


def _already_tracked(task: dict[str, Any], deadline: str | None) -> str:
    if deadline is None:
        return "already tracked"
    # the one that was told to subscribers stays
    return f"already tracked, with the deadline {output.when(task.get('deadline_at'), None)}"


def watch(
    context: typer.Context,
    task_id: Annotated[str, typer.Argument(metavar="TASK", help="Taskbell's id: task_…")],
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Show a task until it ends.

    Exit code 0: succeeded, 1: failed or canceled, 2: timed out, or waited for too long.
    """
    from deploy.cli.client import segment

    if not task_id.startswith("task_"):
        raise UsageError(f"TASK {task_id!r} is not Taskbell's id of a task (task_…)")
    patience = seconds("--timeout", timeout) if timeout is not None else None
    around = surroundings(context)
    with around.connect() as api:
        task = api.get(f"/v1/tasks/{segment('TASK', task_id)}")
        _watch(api, task, around, patience, as_json=as_json)


def _watch(
    api: Client, task: dict[str, Any], around: Surroundings, patience: int | None, *, as_json: bool
) -> None:
    from deploy.cli.watching import WaitedTooLong, face_for, follow

    again = f"the task goes on; see it again with: taskbell watch {task.get('id')}"
    try:
        with face_for(task, as_json=as_json, clock=around.clock) as face:
            code = follow(api, task, face, around, patience)
    except WaitedTooLong:
        output.message(f"no ending in {patience} s: {again}")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        output.message(again)
        raise typer.Exit(130) from None
    raise typer.Exit(code)


def tasks(
    context: typer.Context,
    status: Annotated[Status | None, typer.Option(help="Only with this status.")] = None,
    provider: Annotated[
        str | None, typer.Option(help="Only of this provider.", autocompletion=provider_names)
    ] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List tasks, newest first."""
    around = surroundings(context)
    with around.connect() as api:
        found = api.listing("/v1/tasks", {"status": status, "provider": provider}, limit=limit)
    show_list(found, "tasks", _columns, clock=around.clock, as_json=as_json)


def _columns(now: datetime | None) -> list[Column]:
    return [
        Column("ID", lambda task: task.get("id"), whole=True),
        Column("STATUS", lambda task: task.get("status"), status=True),
        Column("PROVIDER", lambda task: task.get("provider")),
        Column("PROVIDER TASK", lambda task: task.get("provider_task_id")),
        Column("MODEL", lambda task: task.get("model"), spare=True),
        Column("UPDATED", lambda task: output.when(task.get("updated_at"), now), whole=True),
    ]
