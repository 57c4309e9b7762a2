"""One attempt, from event to verdict: open the secrets, render, post, judge."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dispatch.client import Client, SendFailed
from dispatch.headers import why_not
from dispatch.hooks import service_at
from dispatch.redaction import redacted
from dispatch.sink import (
    Answer,
    CannotRender,
    Event,
    Outcome,
    Request,
    Result,
    Sink,
    Target,
    sinks,
)
from dispatch.sinks.apprise import Apprise
from dispatch.trace import span_id, trace_id, traceparent
from store.clock import Clock, monotonic
from store.matching import Subscription
from store.vault import Vault, VaultError

logger = logging.getLogger("taskbell.dispatch")

_REMEMBERED_MOST = 10_000
_SHORTEST_SECRET = 8
# two changes may have one time: a target must never be made of parts of both
_OPENED_BY = (
    *("id", "updated_at", "url", "url_locked", "headers_locked", "secret_locked"),
    *("old_secret_locked", "service_secret_locked", "language", "shape", "method"),
)


@dataclass(frozen=True, slots=True)
class Sent:
    """How an attempt went. answer is None when none came."""

    outcome: Outcome
    answer: Answer | None
    started_at: datetime
    duration: timedelta


class Sender:
    """Sends events to subscriptions. Raises nothing that a subscriber could cause."""

    def __init__(self, client: Client, vault: Vault, clock: Clock, *, traced: bool = False) -> None:
        """Traced: tell receivers in which trace the attempt stands."""
        self._traced = traced
        self._client = client
        self._vault = vault
        self._clock = clock
        self._opened: dict[tuple[object, ...], Target] = {}

    async def send(self, event: Event, subscription: Subscription) -> Sent:
        started_at, start = self._clock(), monotonic()
        trace = self._trace(event, subscription, started_at)
        outcome, answer = await self._attempt(event, subscription, trace)
        return Sent(outcome, answer, started_at, timedelta(seconds=monotonic() - start))

    def _trace(self, event: Event, subscription: Subscription, at: datetime) -> dict[str, str]:
        if not self._traced:
            return {}
        trace = trace_id(event.subject or event.id)
        return {"traceparent": traceparent(trace, span_id(event.id, subscription.id, at))}

    async def _attempt(
        self, event: Event, subscription: Subscription, trace: Mapping[str, str]
    ) -> tuple[Outcome, Answer | None]:
        sink = sinks().get(subscription.format)
        if sink is None:  # written by a newer version
            return Outcome(Result.RETRY, f"format {subscription.format!r} is not known here"), None
        try:
            target = self._target(subscription)
        except VaultError as error:
            return Outcome(Result.RETRY, str(error)), None
        try:
            if isinstance(sink, Apprise):
                request = await sink.rendered(event, target, self._clock())
            else:
                request = sink.render(event, target, self._clock())
            if trace:
                request = replace(request, headers={**request.headers, **trace})
            outcome, answer = await self._exchange(sink, request)
        except CannotRender as error:
            return Outcome(Result.RETRY, str(error)), None
        except SendFailed as failure:
            return Outcome(Result.RETRY, failure.reason), None
        if isinstance(sink, Apprise):  # what of it is secret, only the library knows
            return outcome, replace(answer, body=b"")
        answer = _without_secrets(answer, target)
        outcome = _said_without_secrets(outcome, target)
        service = sink.service or service_at(target.url)
        if service is not None:
            return redacted(outcome, answer, target.url, service)
        return outcome, answer

    async def _exchange(self, sink: Sink, request: Request) -> tuple[Outcome, Answer]:
        answer = await self._client.post(request)
        outcome = sink.judge(answer, self._clock())
        if not outcome.unfit or request.instead is None:
            return outcome, answer
        answer = await self._client.post(request.instead, spent=answer.seconds)
        return sink.judge(answer, self._clock()), answer

    def _target(self, subscription: Subscription) -> Target:
        """The subscription with its secrets open; opened once for each time it was changed."""
        key = tuple(getattr(subscription, name) for name in _OPENED_BY)
        if key not in self._opened:
            if len(self._opened) >= _REMEMBERED_MOST:
                self._opened.clear()
            self._opened[key] = self._open(subscription)
        target = self._opened[key]
        if len(target.secrets) > 1 and self._overlap_is_over(subscription):
            return replace(target, secrets=target.secrets[:1])
        return target

    def _open(self, subscription: Subscription) -> Target:
        secrets = [self._vault.open(subscription.secret_locked)]
        if subscription.old_secret_locked:
            secrets.append(self._vault.open(subscription.old_secret_locked))
        headers, url = subscription.headers_locked, subscription.url_locked
        service_secret = subscription.service_secret_locked
        return Target(
            subscription_id=subscription.id,
            url=self._vault.open(url) if url else subscription.url,
            secrets=tuple(secrets),
            headers=_sendable(subscription.id, self._vault.open(headers) if headers else {}),
            language=subscription.language,
            service_secret=self._vault.open(service_secret) if service_secret else None,
            shape=subscription.shape,
            method=subscription.method or "POST",
        )

    def _overlap_is_over(self, subscription: Subscription) -> bool:
        until = subscription.old_secret_until
        return until is None or until <= self._clock()


def _sendable(subscription_id: str, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Leave out what may not be set any more, and say so once for each opening."""
    for name in headers:
        reason = why_not(name)
        if reason is not None:
            logger.warning(
                "subscription %s: header %s is not sent: %s", subscription_id, name, reason
            )
    return {name: value for name, value in headers.items() if why_not(name) is None}


def _said_without_secrets(outcome: Outcome, target: Target) -> Outcome:
    """A subscriber may send a header's value back as the host of a redirect."""
    reason = outcome.reason
    for word in _secret_words(target):
        reason = re.sub(re.escape(word), "…", reason, flags=re.IGNORECASE)  # hosts are lower case
    return outcome if reason == outcome.reason else replace(outcome, reason=reason)


def _without_secrets(answer: Answer, target: Target) -> Answer:
    """As it may be kept and shown: some receivers send back the headers that they were sent."""
    body = answer.body
    for word in _secret_words(target):
        body = body.replace(word.encode(), "…".encode())
    return answer if body == answer.body else replace(answer, body=body)


def _secret_words(target: Target) -> list[str]:
    words = (word for value in target.headers.values() for word in value.split())
    return [word for word in words if len(word) >= _SHORTEST_SECRET]
