"""Callback URLs: the address to give a provider at submit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from receiver.api.tasks import known_provider
from receiver.endpoint import Call, Endpoint, Reply
from receiver.models import CallbackUrlInput, CallbackUrlView
from receiver.problems import Problem
from receiver.provider import Provider
from receiver.tokens import CallbackTokens, new_token_id
from store.clock import Clock
from store.keys import Scope


@dataclass(frozen=True, slots=True)
class CallbackUrlApi:
    tokens: CallbackTokens
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
            )
        ]

    async def make(self, call: Call) -> Reply:
        wish = call.body(CallbackUrlInput)
        provider = known_provider(self.providers, wish.provider)
        if not provider.pushes:
            raise Problem(422, f"{provider.title} does not push: track its tasks, they are polled")
        expires_at = None
        if wish.expires_in is not None:
            expires_at = self.clock() + timedelta(seconds=wish.expires_in)
        try:
            token = self.tokens.issue(
                provider.name,
                new_token_id(),
                expires_at=expires_at,
                metadata=wish.metadata or {},
            )
        except ValueError as error:
            raise Problem(422, str(error)) from None
        url = f"{self.public_url}/callbacks/{provider.name}/{token}"
        return Reply(201, CallbackUrlView(url=url, expires_at=expires_at))
