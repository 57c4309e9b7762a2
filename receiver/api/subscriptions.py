"""Subscriptions: who gets events, and a trial of whether they arrive."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from operator import attrgetter
from typing import Any, Protocol

from receiver.api.destination import DestinationRules, Destinations, Wants
from receiver.api.tasks import known_provider
from receiver.endpoint import Call, Endpoint, Reply
from receiver.models import (
    ListQuery,
    Page,
    ResumeInput,
    SubscriptionInput,
    SubscriptionPatch,
    SubscriptionView,
    SubscriptionWithSecret,
    TrialView,
)
from receiver.places import Places
from receiver.problems import Problem
from receiver.provider import Provider
from store import subscriptions
from store.backlog import Backlog, read_backlogs
from store.errors import ChangedMeanwhileError, ConflictError, NotFoundError
from store.keys import Scope
from store.matching import Subscription
from store.store import Store
from store.vault import Vault

_TRIES = 3
"""Of a change, while others change the same subscription."""

SECRET_OVERLAP = timedelta(hours=24)
"""How long the old secret signs beside the new one after a rotation."""


class Rules(DestinationRules, Protocol):
    """What dispatch decides about a subscription; the app joins the two (deploy/rules.py)."""

    def new_secret(self) -> str:
        """A fresh whsec_… signing secret."""

    def check_headers(self, headers: dict[str, str]) -> dict[str, str]:
        """The headers as they may be sent. Raises ValueError with the rule."""

    def check_shape(self, format_name: str, shape: str) -> None:
        """Whether it makes a body of a sample event. Raises ValueError with the reason."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a test delivery came to. answer: the beginning of the body that came back."""

    delivered: bool
    status_code: int | None
    reason: str | None
    duration: timedelta
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionApi:
    store: Store
    vault: Vault
    rules: Rules
    try_out: Callable[[Subscription], Awaitable[Trial]]
    strangers: Places
    retention: timedelta
    providers: Mapping[str, Provider]

    def endpoints(self) -> list[Endpoint]:
        one = "/v1/subscriptions/{id}"
        return [
            Endpoint(
                "POST",
                "/v1/subscriptions",
                "Subscribe a URL; the answer shows the signing secret, once",
                self.create,
                {201: SubscriptionWithSecret},
                Scope.WRITE,
                body=SubscriptionInput,
                problems=(409,),
            ),
            Endpoint(
                "GET",
                "/v1/subscriptions",
                "List subscriptions, newest first",
                self.list,
                {200: Page[SubscriptionView]},
                query=ListQuery,
            ),
            Endpoint(
                "GET",
                one,
                "Show a subscription",
                self.show,
                {200: SubscriptionView},
                problems=(404,),
            ),
            Endpoint(
                "PATCH",
                one,
                "Change a subscription; active false pauses it, true resumes or enables it",
                self.change,
                {200: SubscriptionView},
                Scope.WRITE,
                body=SubscriptionPatch,
                problems=(404, 409),
            ),
            Endpoint(
                "DELETE",
                one,
                "Delete a subscription; deliveries that still wait for it are canceled",
                self.delete,
                {204: None},
                Scope.WRITE,
                problems=(404,),
            ),
            Endpoint(
                "POST",
                f"{one}/pause",
                "Pause a subscription; what it wants is kept until it is resumed",
                self.pause,
                {200: SubscriptionView},
                Scope.WRITE,
                problems=(404, 409),
            ),
            Endpoint(
                "POST",
                f"{one}/resume",
                "Resume a subscription; what was kept goes out in order, or is skipped",
                self.resume,
                {200: SubscriptionView},
                Scope.WRITE,
                body=ResumeInput,
                problems=(404,),
            ),
            Endpoint(
                "POST",
                f"{one}/test",
                "Send a sample event now and say how it went",
                self.test,
                {200: TrialView},
                Scope.WRITE,
                problems=(404,),
                room=self.strangers,
            ),
            Endpoint(
                "POST",
                f"{one}/rotate-secret",
                "Make a new signing secret; the old one signs beside it for a day",
                self.rotate,
                {200: SubscriptionWithSecret},
                Scope.WRITE,
                problems=(404,),
            ),
        ]

    async def create(self, call: Call) -> Reply:
        wish = call.body(SubscriptionInput)
        self._check_providers(wish.providers)
        destination = await self._destinations.made(wish)
        self._check_shape(destination["format"], wish.shape)
        headers = self._headers(wish.headers or {})
        secret = self.rules.new_secret()
        made = await call.write(
            self.store,
            subscriptions.create,
            subscriptions.NewSubscription(
                **destination,
                language=wish.language,
                secret_locked=self.vault.lock(secret),
                types=_tuple(wish.types),
                providers=_tuple(wish.providers),
                metadata=wish.metadata,
                filter=wish.filter,
                shape=wish.shape,
                method=wish.method,
                description=wish.description,
                headers_locked=self.vault.lock(headers) if headers else None,
                header_names=tuple(headers),
                active=wish.active,
                twin=self._twin(wish),
            ),
            changed=attrgetter("id"),
        )
        return Reply(201, await self._with_secret(made, secret))

    async def list(self, call: Call) -> Reply:
        query = call.query(ListQuery)
        found = await self.store.read(
            subscriptions.list_subscriptions, limit=query.limit + 1, before=query.cursor
        )
        listed = found[: query.limit]
        backlogs = await self._backlogs(listed)
        page = [self._view(each, backlogs.get(each.id)) for each in listed]
        cursor = page[-1].id if len(found) > query.limit else None
        return Reply(200, Page[SubscriptionView](data=page, next_cursor=cursor))

    async def show(self, call: Call) -> Reply:
        return Reply(200, await self._viewed(await self._subscription(call)))

    async def change(self, call: Call) -> Reply:
        wish = call.body(SubscriptionPatch)
        for name in ("url", "format", "language", "active"):
            if name in wish.model_fields_set and getattr(wish, name) is None:
                raise Problem(422, f"field {name!r} cannot be null")
        self._check_providers(wish.providers)
        for _ in range(_TRIES):
            with contextlib.suppress(ChangedMeanwhileError):
                return await self._change(call, await self._subscription(call), wish)
        raise ConflictError("others are changing this subscription at the moment: try again")

    async def _change(self, call: Call, known: Subscription, wish: SubscriptionPatch) -> Reply:
        """Decide by the subscription as it was read, and change it only if it still is that one."""
        values: dict[str, Any] = wish.model_dump(exclude_unset=True)
        for name in ("service_secret", "allow_duplicate"):
            values.pop(name, None)
        change = await self._destinations.moved(known, wish)
        values |= change.columns
        if "shape" in values or "format" in values:
            shape = values.get("shape", known.shape)
            self._check_shape(wish.format or known.format, shape)
        if "headers" in values:
            headers = self._headers(values.pop("headers") or {})
            values["headers_locked"] = self.vault.lock(headers) if headers else None
            values["header_names"] = tuple(headers)
        twin = self._destinations.twin_after(known, wish)
        edit = subscriptions.Edit(known.id, values, seen=known, twin=twin)
        remarks = change.move.remarks() if change.move else None
        changed = await call.write(self.store, subscriptions.edit, edit, remarks=remarks)
        return Reply(200, await self._viewed(changed))

    async def pause(self, call: Call) -> Reply:
        paused = await call.write(self.store, subscriptions.pause, call.path["id"])
        return Reply(200, await self._viewed(paused))

    async def resume(self, call: Call) -> Reply:
        skip = call.body(ResumeInput).backlog == "skip"
        wish = subscriptions.Resume(call.path["id"], skip=skip)
        return Reply(
            200, await self._viewed(await call.write(self.store, subscriptions.resume, wish))
        )

    async def delete(self, call: Call) -> Reply:
        await call.write(self.store, subscriptions.delete, call.path["id"])
        return Reply(204)

    async def test(self, call: Call) -> Reply:
        trial = await self.try_out(await self._subscription(call))
        return Reply(
            200,
            TrialView(
                delivered=trial.delivered,
                status_code=trial.status_code,
                reason=trial.reason,
                duration_ms=int(trial.duration.total_seconds() * 1000),
                answer=trial.answer,
                hint=None if trial.delivered else _HINTS.get(trial.status_code or 0),
            ),
        )

    async def rotate(self, call: Call) -> Reply:
        secret = self.rules.new_secret()
        rotation = subscriptions.Rotation(call.path["id"], self.vault.lock(secret), SECRET_OVERLAP)
        rotated = await call.write(self.store, subscriptions.rotate, rotation)
        return Reply(200, await self._with_secret(rotated, secret))

    @property
    def _destinations(self) -> Destinations:
        return Destinations(self.rules, self.vault)

    def _twin(self, wish: SubscriptionInput) -> subscriptions.Twin | None:
        if wish.allow_duplicate:
            return None
        return self._destinations.twin_of(wish.url, Wants.of(wish))

    def _check_providers(self, names: Sequence[str] | None) -> None:
        for name in names or ():
            known_provider(self.providers, name, "field 'providers'")

    def _check_shape(self, format_name: str, shape: str | None) -> None:
        if shape is None:
            return
        try:
            self.rules.check_shape(format_name, shape)
        except ValueError as error:
            raise Problem(422, f"field 'shape': {error}") from None

    def _headers(self, headers: dict[str, str]) -> dict[str, str]:
        try:
            return self.rules.check_headers(headers)
        except ValueError as error:
            raise Problem(422, f"field 'headers': {error}") from None

    async def _subscription(self, call: Call) -> Subscription:
        found = await self.store.read(subscriptions.get_subscription, call.path["id"])
        if found is None:
            raise NotFoundError("no such subscription")
        return found

    async def _backlogs(self, listed: Sequence[Subscription]) -> dict[str, Backlog]:
        return await self.store.read(read_backlogs, [each.id for each in listed])

    async def _viewed(self, known: Subscription) -> SubscriptionView:
        return self._view(known, (await self._backlogs([known])).get(known.id))

    def _view(self, known: Subscription, backlog: Backlog | None) -> SubscriptionView:
        return SubscriptionView(**self._fields(known, backlog))

    async def _with_secret(self, known: Subscription, secret: str) -> SubscriptionWithSecret:
        backlog = (await self._backlogs([known])).get(known.id)
        return SubscriptionWithSecret(**self._fields(known, backlog), secret=secret)

    def _fields(self, known: Subscription, backlog: Backlog | None) -> dict[str, Any]:
        interest = known.interest
        oldest = backlog.oldest if backlog else None
        advice = self.rules.advice(known.url, known.format)
        return {
            "id": known.id,
            "url": self._destinations.shown(known),
            "types": list(interest.types) if interest.types is not None else None,
            "providers": list(interest.providers) if interest.providers is not None else None,
            "metadata": interest.metadata,
            "filter": known.filter,
            "format": known.format,
            "language": known.language,
            "service_secret": "•••" if known.service_secret_locked else None,
            "shape": known.shape,
            "method": known.method or "POST",
            "headers": dict.fromkeys(known.header_names, "•••"),
            "description": known.description,
            "max_in_flight": known.max_in_flight,
            "rate_per_second": known.rate_per_second,
            "active": known.active,
            "disabled_reason": known.disabled_reason,
            "failing_since": known.failing_since,
            "waiting": backlog.waiting if backlog else 0,
            "waiting_expires_at": oldest + self.retention if oldest else None,
            "warnings": [advice] if advice else [],
            "created_at": known.created_at,
            "updated_at": known.updated_at,
        }


_SIGNATURE = (
    "the subscriber most often checks the signature with another secret:"
    " `taskbell verify` says which part does not match"
)
_HINTS = {400: _SIGNATURE, 401: _SIGNATURE, 403: _SIGNATURE}


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)
