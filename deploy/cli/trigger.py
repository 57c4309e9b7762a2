"""The command that pushes to a running server as a provider would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli import output
from deploy.cli.errors import CommandError, UsageError
from deploy.cli.frame import surroundings
from deploy.cli.options import Json, count
from deploy.cli.output import Column
from store.nearest import nearest

if TYPE_CHECKING:
    from deploy.cli.client import Client
    from deploy.cli.pushing import Pushed
    from deploy.cli.signer import Signer
    from deploy.demo.cases import Case

_CALLBACK_SECONDS = 3600
_NEWEST = 100
_LINE = 500  # characters, when it is no terminal


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: taskbell trigger minimax.success --set file_id=42 --repeat 3")(
        trigger
    )


def trigger(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="PROVIDER.CASE",
            help="minimax.success, atlascloud.failed, … Without it they are listed.",
            show_default=False,
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=VALUE", help="Change a field: task.usage.total_seconds=7."
        ),
    ] = None,
    task_id: Annotated[
        str | None, typer.Option("--task", metavar="ID", help="The provider's id. Default: new.")
    ] = None,
    repeat: Annotated[int, typer.Option(parser=count, metavar="N", help="Send it so often.")] = 1,
    reorder: Annotated[
        bool, typer.Option("--reorder", help="Send what comes before it too, but afterwards.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A callback URL. Default: one is made for an hour."),
    ] = None,
    private_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ed25519 key that signs (PEM); made when not there."),
    ] = None,
    jwks_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Serve the key's page on this port meanwhile."),
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List what can be sent.")] = False,
    as_json: Json = False,
) -> None:
    """Send a provider's push to a running server. Exit code 1: the server refused it.

    Atlas Cloud signs: say --private-key dev.pem --jwks-port 9009, and start the server with
    TASKBELL_ATLASCLOUD_BASE_URL=http://127.0.0.1:9009 so that it believes that key.
    """
    if name is None or show_list:
        _list(as_json)
        return
    from deploy.cli.changes import changed
    from deploy.cli.pushing import new_client, push
    from deploy.demo.cases import new_task_id, sequence

    case = _case(name)
    cases = _out_of_order(case) if reorder else sequence(case)[-1:]
    around = surroundings(context)
    now = around.clock()
    task_id = task_id or new_task_id(case.provider)
    bodies = [(each, changed(each.body(task_id, now), changes or ())) for each in cases]
    with (
        _signer(case, private_key, jwks_port) as signer,
        around.connect() as api,
        new_client(api.way) as http,
    ):
        address = url or _callback_url(api, case)
        pushed = [
            _say(push(http, address, each, body, signer, around), as_json)
            for each, body in bodies
            for _ in range(repeat)
        ]
        found = _task(api, pushed[-1]) if any(each.taken for each in pushed) else None
    _sum_up(pushed, found, as_json)


def _list(as_json: bool) -> None:
    from deploy.demo.cases import CASES, NOT_PUSHED

    rows = [{"case": name, "sentence": case.sentence} for name, case in CASES.items()]
    if as_json:
        for row in rows:
            output.json_line(row)
        return
    columns = [
        Column("CASE", lambda row: row["case"], whole=True),
        Column("WHAT IT SAYS", lambda row: row["sentence"]),
    ]
    output.rows_as_columns(rows, columns)
    for reason in NOT_PUSHED.values():
        output.message(reason)


def _case(name: str) -> Case:
    """The case of that name. Raises UsageError, which says what there is."""
    from deploy.demo.cases import CASES, NOT_PUSHED

    if name in CASES:
        return CASES[name]
    for prefix, reason in NOT_PUSHED.items():
        if name.startswith(prefix):
            raise UsageError(f"{reason}; follow a task with: taskbell track")
    provider = name.partition(".")[0]
    of_provider = [each for each in CASES if each.startswith(f"{provider}.")]
    there = f"Known: {', '.join(of_provider)}" if of_provider else "See taskbell trigger --list"
    near = nearest(name, CASES)
    hint = f"; did you mean {near!r}?" if near else "."
    raise UsageError(f"PROVIDER.CASE {name!r} is not known{hint} {there}")


def _out_of_order(case: Case) -> list[Case]:
    from deploy.demo.cases import sequence

    cases = sequence(case)
    if len(cases) == 1:
        raise UsageError(f"--reorder: nothing is pushed before {case.full_name}")
    return cases[::-1]


def _callback_url(api: Client, case: Case) -> str:
    wish = {"provider": case.provider, "expires_in": _CALLBACK_SECONDS}
    return str(api.post("/v1/callback-urls", wish).body.get("url"))


@contextmanager
def _signer(case: Case, file: Path | None, port: int | None) -> Iterator[Signer | None]:
    from deploy.cli.signer import Signer, key_in, serving
    from receiver.provider import providers

    if not providers()[case.provider].signed:
        if file is not None or port is not None:
            raise UsageError(f"--private-key, --jwks-port: {case.provider} does not sign")
        yield None
    elif file is None:
        raise UsageError(
            f"{case.provider} signs what it pushes, and the server asks TASKBELL_ATLASCLOUD_BASE_URL"
            " for the key: start it with http://127.0.0.1:9009 there, and add"
            " --private-key dev.pem --jwks-port 9009"
        )
    else:
        signer = Signer(key_in(file))
        with serving(signer, port):
            yield signer


def _say(pushed: Pushed, as_json: bool) -> Pushed:
    if not as_json:
        output.result(_cut(f"--> {pushed.case.full_name}  {pushed.shown_body}"))
        milliseconds = f"{pushed.seconds * 1000:.0f} ms"
        output.result(_cut(f"<-- {pushed.status}  {milliseconds}  {pushed.answer}"))
    return pushed


def _cut(line: str) -> str:
    """As much as the terminal's line holds; --json shows all of it."""
    console = output.terminal()
    most = _LINE if console is None else console.width
    return line if len(line) <= most else line[: most - 1] + "…"


def _task(api: Client, pushed: Pushed) -> dict[str, Any] | None:
    """The task that the push was about, when it is among the newest."""
    if pushed.task_id is None:
        return None
    asked = {"provider": pushed.case.provider}
    rows = api.listing("/v1/tasks", asked, limit=_NEWEST).rows
    return next((row for row in rows if row.get("provider_task_id") == pushed.task_id), None)


def _sum_up(pushed: Sequence[Pushed], task: dict[str, Any] | None, as_json: bool) -> None:
    """Say what came of it. Raises CommandError when the server refused."""
    if as_json:
        sent = [each.as_json() for each in pushed]
        output.json_line({"pushes": sent, "task": task})
    elif task is not None:
        names = ("id", "provider", "provider_task_id", "status")
        output.result("  ".join(output.word(task.get(each)) for each in names))
    if any(each.ends and each.taken for each in pushed) and not _has_ended(task):
        provider = pushed[0].case.provider
        output.message(
            f"it has not ended: with an API key the server first asks {provider}, which does not"
            f" know this task (TASKBELL_{provider.upper()}_CONFIRM=never believes pushes)"
        )
    refused = [each for each in pushed if not each.taken]
    if refused:
        raise CommandError(f"{len(refused)} of {len(pushed)} pushes were refused")


def _has_ended(task: dict[str, Any] | None) -> bool:
    return task is not None and task.get("status") not in ("queued", "processing")
