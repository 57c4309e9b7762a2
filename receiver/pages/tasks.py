"""Tasks: the list that everything begins with, and what happened to one of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

from pydantic import StringConstraints
from starlette.responses import Response

from receiver.models import Id, ProviderName, Query, TaskView, Text
from receiver.pages.frame import Page
from receiver.pages.visit import Visit
from receiver.provider import Provider
from store.durations import model_of
from store.errors import NotFoundError
from store.events import Failure, Kind, Status, Task
from store.store import Store
from store.tasklist import STRETCH, Filter, look_through
from store.timeline import MOST, Timeline, read_timeline

LIMIT = 50
SLOW = 2.0
"""So many times the usual time is slow."""

Words = Annotated[Text, StringConstraints(strip_whitespace=True, max_length=200)]


class TasksFilter(Query):
    """What the form above the list sends. after: newer than this task; before: older."""

    status: Status | None = None
    provider: ProviderName | None = None
    kind: Kind | None = None
    model: Words | None = None
    q: Words | None = None
    before: Id | None = None
    after: Id | None = None

    @property
    def chosen(self) -> dict[str, str]:
        """The filters alone, by the names of their fields."""
        return {
            name: str(value)
            for name in ("status", "provider", "kind", "model", "q")
            if (value := getattr(self, name))
        }

    def link(self, *without: str, **more: str) -> str:
        """The list with these filters, but for some, and from somewhere else."""
        query = {name: value for name, value in self.chosen.items() if name not in without} | more
        return f"/?{urlencode(query)}" if query else "/"


@dataclass(frozen=True, slots=True)
class Line:
    """A task as a line of the list shows it. elapsed: until it ended, or now.

    times: how many times the usual time that is; None when no usual time is known.
    """

    task: Task
    elapsed: timedelta
    usual: float | None

    @property
    def times(self) -> float | None:
        return self.elapsed.total_seconds() / self.usual if self.usual else None

    @property
    def slow(self) -> bool:
        return self.times is not None and self.times >= SLOW and not self.task.status.final


@dataclass(frozen=True, slots=True)
class TaskPages:
    store: Store
    providers: Mapping[str, Provider]
    missing_key: Callable[[str], Awaitable[Failure | None]]

    def pages(self) -> list[Page]:
        return [
            Page("/", self.list),
            Page("/tasks/{id}", self.show),
            Page("/tasks/{id}/refresh", self.refresh, "POST"),
            Page("/tasks/{id}/cancel", self.cancel, "POST"),
        ]

    async def list(self, visit: Visit) -> Response:
        wanted = visit.query(TasksFilter)
        found = await self.store.read(
            look_through,
            Filter(wanted.status, wanted.provider, wanted.kind, wanted.model, wanted.q),
            providers=self.providers,
            limit=LIMIT,
            before=wanted.before,
            after=wanted.after,
        )
        return visit.page(
            "tasks.html",
            wanted=wanted,
            found=found,
            lines=[_line(visit, task, found.usual.get(model_of(task))) for task in found.tasks],
            removals=[
                (visit.words(f"filter.{name}"), shown(visit, name, value), wanted.link(name))
                for name, value in wanted.chosen.items()
            ],
            older=found.older and wanted.link(before=found.older),
            newer=found.newer and wanted.link(after=found.newer),
            stretch=f"{STRETCH:,}",
            models=sorted({task.model for task in found.tasks if task.model}),
            providers=self.providers,
            provider_names=[(name, each.title) for name, each in self.providers.items()],
            status_names=[(each, visit.words(f"status.{each}")) for each in Status],
            kind_names=[(each, visit.words(f"kind.{each}")) for each in Kind],
        )

    async def show(self, visit: Visit) -> Response:
        timeline = await self.store.read(read_timeline, visit.id)
        if timeline is None:
            raise NotFoundError("no such task")
        return visit.page(
            "task.html",
            previews=True,
            timeline=timeline,
            line=_line(visit, timeline.task, timeline.usual),
            moments=_moments(timeline),
            hosts=[urlsplit(output.url or "").hostname for output in timeline.task.outputs],
            most=MOST,
            provider=self.providers.get(timeline.task.provider),
        )

    async def refresh(self, visit: Visit) -> Response:
        task = await visit.act("task.refreshed")
        assert isinstance(task, TaskView)  # noqa: S101 - the endpoint's own answer
        asked = await self.missing_key(task.provider) is None
        said = "task.refreshed" if asked else "task.refreshed_without_key"
        return visit.see_other(f"/tasks/{visit.id}", said)

    async def cancel(self, visit: Visit) -> Response:
        await visit.act("task.canceled")
        return visit.see_other(f"/tasks/{visit.id}", "task.canceled")


def shown(visit: Visit, name: str, value: str) -> str:
    """The value of a filter as people call it."""
    return visit.words.or_else(f"{name}.{value}", value)


def _line(visit: Visit, task: Task, usual: float | None) -> Line:
    return Line(task, max((task.finished_at or visit.now) - task.created_at, timedelta()), usual)


def _moments(timeline: Timeline) -> list[tuple[str, Any]]:
    """What happened, oldest first, each with its kind: what the template tells apart."""
    moments: list[tuple[str, Any]] = [("received", each) for each in timeline.received]
    moments += [("recorded", each) for each in timeline.recorded]
    moments += [("owed", each) for each in timeline.owed]
    order = {"received": 0, "recorded": 1, "owed": 2}
    return sorted(moments, key=lambda moment: (moment[1].at, order[moment[0]]))
