"""Events: what was recorded, what the provider had said, and delivering it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from pydantic import Field
from starlette.responses import Response

from receiver.models import EventType, Id, ProviderName, Query, ReplayView
from receiver.pages.bodies import asking, body_of, sending, visible
from receiver.pages.frame import Page
from receiver.pages.tasks import shown
from receiver.pages.visit import Visit
from receiver.provider import Provider
from store.errors import NotFoundError
from store.eventlist import STRETCH, Filter, look_through
from store.events import EVENT_TYPES
from store.sent import MOST, EventStory, read_event_story
from store.store import Store
from store.subscriptions import list_subscriptions

LIMIT = 50
OFFERED = 200
"""Subscriptions that a form offers: the newest."""

Cursor = Annotated[int, Field(ge=0, le=2**63 - 1)]


class EventsFilter(Query):
    """What the form above the list sends. after, before: newer or older than that cursor."""

    type: EventType | None = None
    provider: ProviderName | None = None
    task: Id | None = None
    before: Cursor | None = None
    after: Cursor | None = None

    @property
    def chosen(self) -> dict[str, str]:
        """The filters alone, by the names of their fields."""
        values = {"type": self.type, "provider": self.provider, "task": self.task}
        return {name: value for name, value in values.items() if value}

    def link(self, *without: str, **more: int | None) -> str:
        """The list with these filters, but for some, and from somewhere else."""
        query = {name: value for name, value in self.chosen.items() if name not in without}
        query |= {name: str(value) for name, value in more.items() if value is not None}
        return f"/events?{urlencode(query)}" if query else "/events"


@dataclass(frozen=True, slots=True)
class EventPages:
    store: Store
    providers: Mapping[str, Provider]
    public_url: str

    def pages(self) -> list[Page]:
        return [
            Page("/events", self.list),
            Page("/events/{id}", self.show),
            Page("/events/{id}/replay", self.replay, "POST"),
        ]

    async def list(self, visit: Visit) -> Response:
        wanted = visit.query(EventsFilter)
        found = await self.store.read(
            look_through,
            Filter(wanted.type, wanted.provider, wanted.task),
            limit=LIMIT,
            before=wanted.before,
            after=wanted.after,
        )
        names = {"type": "event", "provider": "provider", "task": "task"}
        return visit.page(
            "events.html",
            wanted=wanted,
            found=found,
            removals=[
                (visit.words(f"filter.{name}"), shown(visit, names[name], value), wanted.link(name))
                for name, value in wanted.chosen.items()
            ],
            older=None if found.older is None else wanted.link(before=found.older),
            newer=None if found.newer is None else wanted.link(after=found.newer),
            stretch=f"{STRETCH:,}",
            providers=self.providers,
            provider_names=[(name, each.title) for name, each in self.providers.items()],
            type_names=[(each, visit.words(f"event.{each}")) for each in EVENT_TYPES],
        )

    async def show(self, visit: Visit) -> Response:
        story = await self.store.read(read_event_story, visit.id)
        if story is None:
            raise NotFoundError("no such event")
        event = story.event
        return visit.page(
            "event.html",
            story=story,
            event=event,
            data=event.data,
            body=body_of(event.body),
            raw=body_of(story.push.raw) if story.push else None,
            origin=_origin(story),
            provider=self.providers.get(event.provider or ""),
            asking=asking(self.public_url, event.id),
            sending=sending(event.body, event.id),
            most=MOST,
            subscriptions=await self._offered(visit),
        )

    async def replay(self, visit: Visit) -> Response:
        wish = {"subscription": visit.form.get("subscription") or None}
        made = await visit.act("event.replayed", wish)
        assert isinstance(made, ReplayView)  # noqa: S101 - the endpoint's own answer
        if len(made.deliveries) == 1:
            return visit.see_other(f"/deliveries/{made.deliveries[0]}", "event.replayed")
        said = "event.replayed" if made.deliveries else "event.replayed_to_nobody"
        return visit.see_other(f"/events/{visit.id}", said)

    async def _offered(self, visit: Visit) -> Sequence[tuple[str, str]]:
        if not visit.may("write"):
            return []
        found = await self.store.read(list_subscriptions, limit=OFFERED)
        return [(each.id, visible(each.description or each.url)) for each in found if each.active]


def _origin(story: EventStory) -> str:
    """Which sentence tells where the event comes from."""
    if story.push is not None:
        return "confirmed" if story.push.verdict == "held" else "push"
    source = story.event.data.get("source")
    return source if source in ("poll", "api") else "lost" if source == "push" else "own"
