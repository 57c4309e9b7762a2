"""Events: read them in commit order, deliver one again."""

from __future__ import annotations

from dataclasses import dataclass

from receiver.endpoint import Call, Endpoint, Reply
from receiver.models import EventsQuery, EventView, Page, ReplayInput, ReplayView
from store import eventlog
from store.deliveries import Replay, replay
from store.errors import NotFoundError
from store.keys import Scope
from store.store import Store


@dataclass(frozen=True, slots=True)
class EventApi:
    store: Store

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                "GET",
                "/v1/events",
                "List events after a cursor, in commit order; a reader that goes on misses none",
                self.list,
                {200: Page[EventView]},
                query=EventsQuery,
                problems=(410,),
            ),
            Endpoint(
                "GET",
                "/v1/events/{id}",
                "Show an event",
                self.show,
                {200: EventView},
                problems=(404,),
            ),
            Endpoint(
                "POST",
                "/v1/events/{id}/replay",
                "Deliver an event again, to one subscription or to all that want it",
                self.replay,
                {202: ReplayView},
                Scope.WRITE,
                body=ReplayInput,
                problems=(404,),
            ),
        ]

    async def list(self, call: Call) -> Reply:
        query = call.query(EventsQuery)
        found = await self.store.read(
            eventlog.list_events,
            limit=query.limit + 1,
            after=query.after,
            event_type=query.type,
            task_id=query.task,
        )
        page = [event_view(event) for event in found[: query.limit]]
        cursor = str(page[-1].cursor) if len(found) > query.limit else None
        return Reply(200, Page[EventView](data=page, next_cursor=cursor))

    async def show(self, call: Call) -> Reply:
        event = await self.store.read(eventlog.get_event, call.path["id"])
        if event is None:
            raise NotFoundError("no such event")
        return Reply(200, event_view(event))

    async def replay(self, call: Call) -> Reply:
        wish = Replay(call.path["id"], call.body(ReplayInput).subscription)
        return Reply(202, ReplayView(deliveries=await call.write(self.store, replay, wish)))


def event_view(event: eventlog.EventView) -> EventView:
    return EventView.model_construct(**event.body, cursor=event.cursor)
