"""Waiting for a task's end in one call."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass

from receiver.api.tasks import task_view
from receiver.endpoint import Call, Endpoint, Reply
from receiver.feed import Feed, Follower
from receiver.models import TaskView, WaitQuery
from store.errors import NotFoundError
from store.eventlog import Wanted
from store.events import Status, Task
from store.store import Store
from store.tasks import get_task

_OPEN = (Status.QUEUED, Status.PROCESSING)
_ENDINGS = frozenset(f"task.{status}" for status in Status if status not in _OPEN)


@dataclass(frozen=True, slots=True)
class WaitApi:
    store: Store
    feed: Feed

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                "GET",
                "/v1/tasks/{id}/wait",
                "Wait for a task's end, or its time-out; 202 when the time is up before",
                self.wait,
                {200: TaskView, 202: TaskView},
                query=WaitQuery,
                problems=(404,),
            )
        ]

    async def wait(self, call: Call) -> Reply:
        """A timed-out task is answered too: nobody expects anything of it any more."""
        task_id, seconds = call.path["id"], call.query(WaitQuery).timeout
        wanted = Wanted(types=_ENDINGS, task_ids=frozenset({task_id}))
        with self.feed.follow(wanted, await self.feed.now()) as follower:
            task = await self._task(task_id)  # as it is at the place where we begin to follow
            if task.status not in _OPEN:
                return Reply(200, task_view(task))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds), follower.leaving_with(call.receive):
                    if ending := await self._ending(follower, call):
                        return Reply(200, ending)
        task = await self._task(task_id)
        return Reply(202 if task.status in _OPEN else 200, task_view(task))

    async def _ending(self, follower: Follower, call: Call) -> TaskView | None:
        """The task as it ended; None when the client or we have to leave before.

        Raises Problem when the key is no longer good.
        """
        rechecks = self.feed.rechecks
        while not follower.over:
            entries = await follower.next()
            if self.feed.rechecks != rechecks:
                rechecks = self.feed.rechecks
                await call.admit()
            for entry in entries:
                return TaskView.model_validate(json.loads(entry.body)["data"]["task"])
        return None

    async def _task(self, task_id: str) -> Task:
        task = await self.store.read(get_task, task_id)
        if task is None:
            raise NotFoundError("no such task")
        return task
