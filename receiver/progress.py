"""Progress between two events: a provider's percentage or its own word, for those who watch a task.

It is on the task's row and in no event, because an event is a change of status. Nothing is written
for it, and what nobody took is not kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from store.events import Task
from store.store import Store
from store.tasks import changed_tasks


class Watcher(Protocol):
    def show(self, task: Task) -> None:
        """The task as it is now; perhaps as it was."""


class Progress:
    """Looks at all open tasks that are watched, with one question."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watchers: dict[str, set[Watcher]] = {}
        self._seen: dict[str, datetime | None] = {}

    def add(self, watcher: Watcher, task_ids: Iterable[str]) -> None:
        for task_id in task_ids:
            self._watchers.setdefault(task_id, set()).add(watcher)
            self._seen[task_id] = None  # this one has not seen it

    def remove(self, watcher: Watcher, task_ids: Iterable[str]) -> None:
        for task_id in task_ids:
            self._watchers[task_id].discard(watcher)
            if not self._watchers[task_id]:
                del self._watchers[task_id], self._seen[task_id]

    async def look(self) -> None:
        """Show what was written since the last look. Raises StoreUnavailableError."""
        if not self._seen:
            return
        for task in await self._store.read(changed_tasks, dict(self._seen)):
            if task.id in self._seen:
                self._seen[task.id] = task.updated_at
            for watcher in self._watchers.get(task.id, ()):
                watcher.show(task)
