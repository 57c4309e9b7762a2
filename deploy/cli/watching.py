"""Following one task to its end, live on a terminal or line by line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from deploy.cli import output
from deploy.cli.client import Client, segment
from deploy.cli.errors import ServerAway
from deploy.cli.frame import Surroundings, terminable
from store.clock import Clock
from store.events import Failure

INTERVAL_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
"""How long a server that has answered before may stay away."""

EXIT_CODES = {"succeeded": 0, "failed": 1, "canceled": 1, "timed_out": 2}

Json = dict[str, Any]


class Face(Protocol):
    """How a task is shown while it is followed."""

    def show(self, task: Json) -> None:
        """The task as the server just described it."""

    def away(self, reason: str) -> None:
        """The server has stopped answering. Said once each time it does."""

    def end(self, task: Json) -> None:
        """Nothing will follow."""


class WaitedTooLong(Exception):
    """The task has not ended in the time that was given to it."""


def follow(
    api: Client, task: Json, face: Face, around: Surroundings, patience: float | None = None
) -> int:
    """Show a task until it ends; the exit code for its ending.

    patience: for how many seconds. Raises CommandError, and WaitedTooLong when they are over.
    """
    path = f"/v1/tasks/{segment('task', str(task.get('id')))}"
    give_up = math.inf if patience is None else around.monotonic() + patience
    face.show(task)
    while task.get("status") not in EXIT_CODES:
        _rest(around, give_up)
        task = _ask(api, path, face, around, give_up)
        face.show(task)
    face.end(task)
    return EXIT_CODES[task["status"]]


def _rest(around: Surroundings, give_up: float) -> None:
    left = give_up - around.monotonic()
    if left <= 0:
        raise WaitedTooLong
    around.sleep(min(INTERVAL_SECONDS, left))


def _ask(api: Client, path: str, face: Face, around: Surroundings, give_up: float) -> Json:
    away_since: float | None = None
    while True:
        try:
            return api.get(path)
        except ServerAway as error:
            now = around.monotonic()
            if away_since is None:
                away_since = now
                face.away(str(error))
            elif now - away_since >= PATIENCE_SECONDS:
                raise
            _rest(around, give_up)


@contextmanager
def face_for(task: Json, *, as_json: bool, clock: Clock) -> Iterator[Face]:
    """The face that fits stdout. A terminal is left as it was found, however the block is left."""
    console = None if as_json else output.terminal()
    if as_json:
        yield JsonFace()
    elif console is None:
        yield LineFace()
    else:
        # `timeout 60 taskbell watch …` must not leave the terminal without its cursor
        with terminable(), LiveFace(task, console, clock) as face:
            yield face


class JsonFace:
    """The task as a JSON line, whenever something about it changed."""

    def __init__(self) -> None:
        self._last: Json | None = None

    def show(self, task: Json) -> None:
        if task != self._last:
            output.json_line(task)
        self._last = task

    def away(self, reason: str) -> None:
        _say_away(reason)

    def end(self, task: Json) -> None:
        pass


class LineFace:
    """A line for each change of the status, of the provider's own word for it, and each tenth done.

    And one for each new trouble, and for its end.
    """

    def __init__(self) -> None:
        self._last: tuple[Any, ...] | None = None
        self._trouble: str | None = None

    def show(self, task: Json) -> None:
        words = (task.get("status"), task.get("provider_status"))
        done = _progress(task)
        state = (*words, None if done is None else int(done * 10))
        if state != self._last:
            time = output.when(task.get("updated_at"), None)
            share = [] if done is None else [f"{done:.0%}"]
            output.result("  ".join([time, *map(output.word, words), *share]))
        self._last = state
        self._show_trouble(task)

    def _show_trouble(self, task: Json) -> None:
        code = (task.get("trouble") or {}).get("code")
        if code != self._trouble:
            goes_on = task.get("status") not in EXIT_CODES
            said = _trouble(task) or ("the trouble is over" if goes_on else None)
            if said:
                output.result(f"{output.when(task.get('updated_at'), None)}  {said}")
        self._trouble = code

    def away(self, reason: str) -> None:
        _say_away(reason)

    def end(self, task: Json) -> None:
        for line in ending(task):
            output.result(line)


class LiveFace:
    """A picture that moves: status, time gone by, the provider's word, progress."""

    def __init__(self, task: Json, console: Console, clock: Clock) -> None:
        self._task = task
        self._away = False
        self._clock = clock
        self._spinner = Spinner("dots")
        self._live = Live(
            self,
            console=console,
            refresh_per_second=8,
            redirect_stdout=False,
            redirect_stderr=False,  # it may lead to a file
        )

    def __enter__(self) -> LiveFace:
        self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._live.stop()

    def show(self, task: Json) -> None:
        self._task, self._away = task, False

    def away(self, reason: str) -> None:
        self._away = True

    def end(self, task: Json) -> None:
        self._live.stop()
        for line in ending(task):
            output.result(line)

    def __rich__(self) -> Group:
        trouble = _trouble(self._task)
        said = [Text(output.plain(trouble), style="yellow")] if trouble else []
        return Group(self._state(), self._description(), *said)

    def _state(self) -> Table:
        status = str(self._task.get("status"))
        self._spinner.text = Text(output.plain(status))
        row: list[Any] = [
            output.look(status) if status in EXIT_CODES else self._spinner,
            Text(output.stopwatch(self._elapsed())),
        ]
        if self._task.get("provider_status"):
            row.append(Text(output.word(self._task["provider_status"])))
        progress = _progress(self._task)
        if progress is not None:
            row += [ProgressBar(total=1.0, completed=progress, width=24), Text(f"{progress:.0%}")]
        return _line(row)

    def _description(self) -> Table:
        known = (self._task.get(name) for name in ("id", "provider", "provider_task_id", "model"))
        row = [Text(output.word(value), style="dim") for value in known if value]
        if self._away:
            row.insert(0, Text("the server is not answering, trying again", style="yellow"))
        return _line(row)

    def _elapsed(self) -> float:
        begun = output.moment(self._task.get("created_at"))
        ended = output.moment(self._task.get("finished_at")) or self._clock()
        return (ended - begun).total_seconds() if begun else 0.0


def _trouble(task: Json) -> str | None:
    """Why there is no news."""
    trouble = task.get("trouble") or {}
    return f"no news: {trouble.get('message')}" if trouble else None


def _progress(task: Json) -> float | None:
    """How much is done, from 0 to 1, while it is not all."""
    progress = task.get("progress")
    if not isinstance(progress, int | float) or task.get("status") in EXIT_CODES:
        return None
    return float(progress)


def _line(row: list[Any]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for _ in row:
        grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_row(*row)
    return grid


def _say_away(reason: str) -> None:
    output.message(f"{reason} (trying again for {PATIENCE_SECONDS:.0f} s)")


def ending(task: Json) -> list[str]:
    """How a task ended, in plain words."""
    status = task.get("status")
    if status == "succeeded":
        return [_output(each) for each in task.get("outputs") or ()] or ["it named no outputs"]
    if status == "timed_out":
        deadline = output.when(task.get("deadline_at"), None)
        said = [f"timed out: no ending before {deadline}; a late one will still be recorded"]
        trouble = _trouble(task)
        return [*said, trouble] if trouble else said
    error = task.get("error") or {}
    reason = error.get("message") or "the provider gave no reason"
    told = ": ".join(filter(None, (error.get("code"), _meaning(task, error))))
    return [f"{status}: {reason} (code {told})" if told else f"{status}: {reason}"]


def _meaning(task: Json, error: Json) -> str:
    """What the provider's code means, where its message does not say it."""
    from receiver.provider import providers
    from receiver.trouble import explained

    failure = Failure(str(error.get("code")), str(error.get("message") or ""))
    return explained(failure, providers().get(str(task.get("provider"))), "en")


def _output(made: Json) -> str:
    kind = made.get("kind") or "output"
    if not made.get("url"):
        return f"{kind}  file {made.get('file_id')}, no URL"
    until = f"  (until {output.when(made['expires_at'], None)})" if made.get("expires_at") else ""
    return f"{kind}  {made['url']}{until}"
