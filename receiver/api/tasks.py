"""Tasks: track, list, ask now, stop tracking."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from receiver.endpoint import Call, Endpoint, Reply
from receiver.models import ErrorView, Page, TaskInput, TasksQuery, TaskView, TrackedView
from receiver.places import Places
from receiver.problems import Problem
from receiver.provider import Provider
from store.errors import ConflictError, NotFoundError, TooLargeError
from store.events import Failure, Kind, Source, Status, Task, TaskUpdate, Verdict, task_json
from store.keys import Scope
from store.nearest import not_known
from store.records import Recorded, Registration, Report, record
from store.store import Store
from store.tasks import ask_now, get_task, list_tasks

_EXPECTING_PUSH = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class TaskApi:
    """missing_key: what to say when no process has a key for a provider."""

    store: Store
    providers: Mapping[str, Provider]
    timeout: Callable[[Kind | None], timedelta]
    strangers: Places
    missing_key: Callable[[str], Awaitable[Failure | None]]

    def endpoints(self) -> list[Endpoint]:
        one = "/v1/tasks/{id}"
        return [
            Endpoint(
                "POST",
                "/v1/tasks",
                "Track a task; 200 when it is tracked already",
                self.track,
                {201: TrackedView, 200: TrackedView},
                Scope.WRITE,
                body=TaskInput,
            ),
            Endpoint(
                "GET",
                "/v1/tasks",
                "List tasks, newest first",
                self.list,
                {200: Page[TaskView]},
                query=TasksQuery,
            ),
            Endpoint("GET", one, "Show a task", self.show, {200: TaskView}, problems=(404,)),
            Endpoint(
                "POST",
                f"{one}/refresh",
                "Ask the provider now",
                self.refresh,
                {202: TrackedView},
                Scope.WRITE,
                problems=(404, 409),
                room=self.strangers,
            ),
            Endpoint(
                "POST",
                f"{one}/cancel",
                "Stop tracking; nothing is said to the provider",
                self.cancel,
                {200: TaskView},
                Scope.WRITE,
                problems=(404, 409),
            ),
        ]

    async def track(self, call: Call) -> Reply:
        wish = call.body(TaskInput)
        known_provider(self.providers, wish.provider)
        timeout = timedelta(seconds=wish.timeout_seconds) if wish.timeout_seconds else None
        missing = await self.missing_key(wish.provider)
        report = Report(
            provider=wish.provider,
            provider_task_id=wish.task_id,
            update=TaskUpdate(Status.QUEUED, ""),
            source=Source.API,
            trusted=False,
            registration=Registration(
                timeout=timeout or self.timeout(wish.kind),
                kind=wish.kind,
                model=wish.model,
                family=wish.family,
                metadata=wish.metadata or {},
                expect_push=wish.expect_push,
            ),
            ask_in=_EXPECTING_PUSH if wish.expect_push else timedelta(0),
            trouble=missing,
        )
        try:
            recorded = await call.write(self.store, record, report, _recorded_id)
        except TooLargeError as error:
            raise Problem(422, f"field 'metadata': {error}") from None
        assert recorded.task is not None  # noqa: S101 - a registration always makes one
        new = recorded.verdict is Verdict.RECORDED
        return Reply(201 if new else 200, _warned(recorded.task, missing))

    async def list(self, call: Call) -> Reply:
        query = call.query(TasksQuery)
        found = await self.store.read(
            list_tasks,
            limit=query.limit + 1,
            before=query.cursor,
            status=query.status,
            provider=query.provider,
        )
        page = found[: query.limit]
        cursor = page[-1].id if len(found) > query.limit else None
        return Reply(
            200, Page[TaskView](data=[task_view(task) for task in page], next_cursor=cursor)
        )

    async def show(self, call: Call) -> Reply:
        return Reply(200, task_view(await self._task(call)))

    async def refresh(self, call: Call) -> Reply:
        task = await self._task(call)
        if not await call.write(self.store, ask_now, task.id, lambda due: task.id if due else None):
            raise ConflictError(f"task {task.id} has ended: it is {task.status}")
        missing = await self.missing_key(task.provider)
        return Reply(202, _warned(await self._task(call), missing))

    async def cancel(self, call: Call) -> Reply:
        task = await self._task(call)
        reason = Failure("untracked", "tracking was stopped through the API")
        recorded = await call.write(
            self.store,
            record,
            Report(
                provider=task.provider,
                provider_task_id=task.provider_task_id,
                update=TaskUpdate(Status.CANCELED, task.provider_status or "", error=reason),
                source=Source.API,
                trusted=False,
            ),
            _recorded_id,
        )
        if recorded.task is None:
            raise NotFoundError(f"no task {task.id}")
        if recorded.verdict is Verdict.CONTRADICTION:
            raise ConflictError(f"task {task.id} has ended: it is {recorded.task.status}")
        return Reply(200, task_view(recorded.task))

    async def _task(self, call: Call) -> Task:
        task = await self.store.read(get_task, call.path["id"])
        if task is None:
            raise NotFoundError("no such task")
        return task


def _recorded_id(recorded: Recorded) -> str | None:
    """The task's id when the report changed it."""
    new = recorded.verdict is Verdict.RECORDED or recorded.amended
    return recorded.task.id if recorded.task and new else None


def _warned(task: Task, missing: Failure | None) -> TaskView:
    """The task, with what keeps it from being followed."""
    view = task_view(task)
    if missing is None or task.status.final:
        return view
    warning = ErrorView(code=missing.code, message=missing.message)
    return TrackedView(**view.model_dump(), warnings=[warning])


def task_view(task: Task) -> TaskView:
    return TaskView.model_validate(task_json(task))


def known_provider(
    providers: Mapping[str, Provider], name: str, place: str = "field 'provider'"
) -> Provider:
    """Return the adapter of that name. Raises Problem 422 that lists the ones there are."""
    if name not in providers:
        raise Problem(422, f"{place}: {not_known(name, 'a provider', sorted(providers))}")
    return providers[name]
