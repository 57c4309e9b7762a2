"""An event about a task that is in no table: what is sent to try a subscription, and shown for one."""

from __future__ import annotations

from dispatch.sink import Event
from store.clock import Clock
from store.events import Change, Kind, Output, Source, Status, Task
from store.ids import new_id
from store.outbox import task_event_row


def sample_event(clock: Clock) -> Event:
    """A task.succeeded about a task that is in no table; its metadata says that it is a test."""
    now = clock()
    task = Task(
        id=new_id("task", now),
        provider="minimax",
        provider_task_id="0",
        created_at=now,
        updated_at=now,
        deadline_at=now,
        kind=Kind.VIDEO,
        model="MiniMax-Hailuo-2.3",
        status=Status.SUCCEEDED,
        provider_status="Success",
        progress=1.0,
        outputs=(Output(url="https://example.com/video.mp4", kind=Kind.VIDEO),),
        metadata={"taskbell_test": True},
        version=1,
        finished_at=now,
        source=Source.API,
    )
    row = task_event_row(Change(task, Status.PROCESSING, "task.succeeded"), task, now)
    return Event(row["id"], row["type"], "/taskbell/minimax", task.id, now, row["body"])
