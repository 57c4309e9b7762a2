"""Callback URLs: the address to give a provider at submit, their list, their revocation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from receiver.api.tasks import known_provider
from receiver.endpoint import Call, Endpoint, Reply
from receiver.models import (
    CallbackUrlInput,
    CallbackUrlItem,
    CallbackUrlView,
    ListQuery,
    Page,
)
from receiver.problems import Problem
from receiver.provider import Provider
from receiver.revoked import RevokedTokens
from receiver.tokens import CallbackTokens, new_token_id
from store.callback_tokens import revoke
from store.callback_urls import CallbackUrl, NewCallbackUrl, create, list_callback_urls
from store.clock import Clock
from store.keys import Scope
from store.store import Store

SINGLE_TASK_LIFE = timedelta(days=7)
"""Of a URL for one task when no other was asked for: which task that is, is remembered as long."""

_TOKEN_ID = re.compile(r"cb_[0-9a-z]{26}")


@dataclass(frozen=True, slots=True)
class CallbackUrlApi:
    store: Store
    tokens: CallbackTokens
    revoked: RevokedTokens
    providers: Mapping[str, Provider]
    public_url: str
    clock: Clock

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                "POST",
                "/v1/callback-urls",
                "Make a callback URL for a provider; whoever knows it can push",
                self.make,
                {201: CallbackUrlView},
                Scope.WRITE,
                body=CallbackUrlInput,
            ),
            Endpoint(
                "GET",
                "/v1/callback-urls",
                "List the callback URLs that work, newest first, without the URLs themselves",
                self.list,
                {200: Page[CallbackUrlItem]},
                query=ListQuery,
            ),
            Endpoint(
                "DELETE",
                "/v1/callback-urls/{id}",
                "Revoke a callback URL; it is as unknown as a wrong one within two seconds",
                self.revoke,
                {204: None},
                Scope.WRITE,
                problems=(404, 409),
            ),
        ]

    async def make(self, call: Call) -> Reply:
        wish = call.body(CallbackUrlInput)
        provider = known_provider(self.providers, wish.provider)
        if not provider.pushes:
            raise Problem(422, f"{provider.title} does not push: track its tasks, they are polled")
        expires_at = self._end(wish)
        token_id = new_token_id(expires_at)
        try:
            token = self.tokens.issue(
                provider.name,
                token_id,
                expires_at=expires_at,
                metadata=wish.metadata or {},
                single_task=wish.single_task,
            )
        except ValueError as error:
            raise Problem(422, str(error)) from None
        made = NewCallbackUrl(
            id=token_id,
            provider=provider.name,
            metadata=wish.metadata or {},
            single_task=wish.single_task,
            created_by=call.required().key_id,
            expires_at=expires_at,
        )
        await call.write(self.store, create, made, str)
        view = CallbackUrlView(
            id=token_id,
            url=f"{self.public_url}/callbacks/{provider.name}/{token}",
            expires_at=expires_at,
            single_task=wish.single_task,
        )
        return Reply(201, view)

    async def list(self, call: Call) -> Reply:
        query = call.query(ListQuery)
        found = await self.store.read(
            list_callback_urls, now=self.clock(), limit=query.limit + 1, before=query.cursor
        )
        page = found[: query.limit]
        cursor = page[-1].place if len(found) > query.limit else None
        return Reply(
            200, Page[CallbackUrlItem](data=[_item(url) for url in page], next_cursor=cursor)
        )

    async def revoke(self, call: Call) -> Reply:
        token_id = call.path["id"]
        if not _TOKEN_ID.fullmatch(token_id):
            raise Problem(404, "nothing has that id")
        # revoking again changes nothing, and is no row in the audit
        await call.write(self.store, revoke, token_id, lambda new: token_id if new else None)
        await self.revoked.refresh()
        return Reply(204)

    def _end(self, wish: CallbackUrlInput) -> datetime | None:
        if wish.expires_in is not None:
            return self.clock() + timedelta(seconds=wish.expires_in)
        return self.clock() + SINGLE_TASK_LIFE if wish.single_task else None


def _item(url: CallbackUrl) -> CallbackUrlItem:
    return CallbackUrlItem(
        id=url.id,
        provider=url.provider,
        metadata=dict(url.metadata),
        single_task=url.single_task,
        created_by=url.created_by,
        created_at=url.created_at,
        expires_at=url.expires_at,
        last_used_at=url.last_used_at,
    )
