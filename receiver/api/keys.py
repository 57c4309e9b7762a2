"""API keys: made, listed, revoked."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from receiver.access import Access
from receiver.endpoint import Call, Endpoint, Reply
from receiver.models import ApiKeyInput, ApiKeyView, ApiKeyWithSecret, ListQuery, Page
from store import keys
from store.keys import ApiKey, NewKey, Scope, new_key_text
from store.store import Store


@dataclass(frozen=True, slots=True)
class KeyApi:
    store: Store
    access: Access

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                "POST",
                "/v1/api-keys",
                "Make an API key; the answer shows it, once",
                self.create,
                {201: ApiKeyWithSecret},
                Scope.ADMIN,
                body=ApiKeyInput,
            ),
            Endpoint(
                "GET",
                "/v1/api-keys",
                "List API keys, newest first",
                self.list,
                {200: Page[ApiKeyView]},
                Scope.ADMIN,
                query=ListQuery,
            ),
            Endpoint(
                "DELETE",
                "/v1/api-keys/{id}",
                "Revoke an API key and end its sessions; refused at once here, within two seconds elsewhere",
                self.revoke,
                {204: None},
                Scope.ADMIN,
                problems=(404,),
            ),
        ]

    async def create(self, call: Call) -> Reply:
        wish = call.body(ApiKeyInput)
        text = new_key_text()
        new = NewKey(wish.name, wish.scope, text)
        made = await call.write(self.store, keys.create, new, attrgetter("id"))
        return Reply(201, ApiKeyWithSecret(**_fields(made), key=text))

    async def list(self, call: Call) -> Reply:
        query = call.query(ListQuery)
        found = await self.store.read(keys.list_keys, limit=query.limit + 1, before=query.cursor)
        page = [ApiKeyView(**_fields(each)) for each in found[: query.limit]]
        cursor = page[-1].id if len(found) > query.limit else None
        return Reply(200, Page[ApiKeyView](data=page, next_cursor=cursor))

    async def revoke(self, call: Call) -> Reply:
        await call.write(self.store, keys.revoke, call.path["id"])
        self.access.changed()
        return Reply(204)


def _fields(key: ApiKey) -> dict[str, Any]:
    return {"id": key.id, "name": key.name, "scope": key.scope, "created_at": key.created_at}
