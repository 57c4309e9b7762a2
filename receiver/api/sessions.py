"""Sessions: who is signed in to the dashboard, and signing them out."""

from __future__ import annotations

from dataclasses import dataclass

from receiver.access import Access
from receiver.endpoint import Call, Endpoint, Reply
from receiver.models import ListQuery, Page, SessionItem
from store.clock import Clock
from store.keys import Scope
from store.logins import End, Login, end, list_logins
from store.store import Store


@dataclass(frozen=True, slots=True)
class SessionApi:
    """A key sees and ends its own sessions, an admin key all of them."""

    store: Store
    access: Access
    clock: Clock

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                "GET",
                "/v1/sessions",
                "List who is signed in, newest first: with this key, or for an admin key with any",
                self.list,
                {200: Page[SessionItem]},
                query=ListQuery,
            ),
            Endpoint(
                "DELETE",
                "/v1/sessions/{id}",
                "Sign a session out; it is refused at once here, within two seconds elsewhere",
                self.end,
                {204: None},
                problems=(404,),
            ),
        ]

    async def list(self, call: Call) -> Reply:
        query = call.query(ListQuery)
        found = await self.store.read(
            list_logins,
            now=self.clock(),
            limit=query.limit + 1,
            before=query.cursor,
            key_id=_only(call),
        )
        page = [_item(login) for login in found[: query.limit]]
        cursor = page[-1].id if len(found) > query.limit else None
        return Reply(200, Page[SessionItem](data=page, next_cursor=cursor))

    async def end(self, call: Call) -> Reply:
        await call.write(self.store, end, End(call.path["id"], _only(call)))
        self.access.changed()
        return Reply(204)


def _only(call: Call) -> str | None:
    """The key whose sessions alone the caller may see; None: all."""
    holder = call.required()
    return None if holder.scope.allows(Scope.ADMIN) else holder.key_id


def _item(login: Login) -> SessionItem:
    return SessionItem(
        id=login.id,
        key_id=login.key_id,
        name=login.name,
        created_at=login.created_at,
        last_seen_at=login.last_seen_at,
        expires_at=login.expires_at,
    )
