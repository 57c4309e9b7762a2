"""The callback door: providers' challenges and pushes. The token in the URL is the proof."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from receiver.body import BadBody, BodyTooLarge, BodyTooSlow, dump_json, parse_json, read_body
from receiver.problems import Problem, store_away
from receiver.provider import (
    NO_CHALLENGE,
    BadSignature,
    KeyRing,
    Provider,
    UnreadableBody,
)
from receiver.tokens import CallbackToken, CallbackTokens
from receiver.watch import Watch
from receiver.words import UnknownWords
from store.clock import Clock, monotonic
from store.errors import StoreUnavailableError
from store.events import Kind, Source, TaskUpdate
from store.records import Receipt, Recorded, Registration, Report, Unread, keep_unread, record
from store.store import Store

logger = logging.getLogger("taskbell.callbacks")

BODY_LIMIT = 1024 * 1024
BODY_SECONDS = 5.0
CHALLENGE_LIMIT = 4 * 1024
_TAKEN = b'{"status":"success"}'
PUSH_PACE = timedelta(seconds=60)
"""The first question about a task that pushes, in case the next push is lost."""

Timeout = Callable[[Kind | None], timedelta]


@dataclass(frozen=True, slots=True)
class Entrance:
    """A provider at the door: its adapter, its public keys, whether its pushes need confirming."""

    provider: Provider
    keys: KeyRing
    confirm: bool


@dataclass(frozen=True, slots=True)
class CallbackDoor:
    """Answers POST /callbacks/{provider}/{token}: an ASGI app, which spares a wrapper a push."""

    store: Store
    tokens: CallbackTokens
    entrances: Mapping[str, Entrance]
    words: UnknownWords
    timeout: Timeout
    clock: Clock
    watch: Watch = field(default_factory=Watch)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self.answer(request)
        except Problem as problem:
            self.watch.refused(request.path_params["provider"], problem.status)
            raise
        await response(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        began = monotonic()
        entrance, token = self._enter(request)
        raw = await _read(request)
        if entrance.provider.signed:
            await self._verify(entrance, request, raw)
        try:
            body = parse_json(raw)
            challenge = entrance.provider.challenge(body)
            if challenge is not NO_CHALLENGE:
                # MiniMax gives 3 s and waits with its submit call open: nothing else happens here
                echo = _echo(challenge)
                self.watch.challenged(entrance.provider.name, monotonic() - began)
                return echo
            update = entrance.provider.parse(body)
        except (BadBody, UnreadableBody) as error:
            await self._keep_unread(entrance, token, raw)
            raise Problem(400, str(error)) from None
        self.words.note(entrance.provider, update.provider_status)
        recorded = await self._record(entrance, token, raw, update)
        logger.debug(
            "push",
            extra={
                "provider": entrance.provider.name,
                "task": recorded.task.id if recorded.task else None,
                "status": update.status,
                "verdict": recorded.verdict,
            },
        )
        return Response(_TAKEN, media_type="application/json")

    def _enter(self, request: Request) -> tuple[Entrance, CallbackToken]:
        name = request.path_params["provider"]
        entrance = self.entrances.get(name)
        token = self.tokens.read(name, request.path_params["token"], self.clock())
        if entrance is None or token is None:
            raise Problem(404, "no such callback address")
        return entrance, token

    async def _verify(self, entrance: Entrance, request: Request, raw: bytes) -> None:
        try:
            headers = {name.lower(): value for name, value in request.headers.items()}
            await entrance.provider.verify(headers, raw, entrance.keys, self.clock())
        except BadSignature as error:
            raise Problem(401, f"the signature does not hold: {error}") from None

    async def _keep_unread(self, entrance: Entrance, token: CallbackToken, raw: bytes) -> None:
        item = Unread(entrance.provider.name, Receipt(token.token_id, raw))
        try:
            await self.store.write(keep_unread, item)
        except StoreUnavailableError:
            raise store_away() from None

    async def _record(
        self, entrance: Entrance, token: CallbackToken, raw: bytes, update: TaskUpdate
    ) -> Recorded:
        provider = entrance.provider
        report = Report(
            provider=provider.name,
            provider_task_id=str(update.provider_task_id),
            update=update,
            source=Source.PUSH,
            trusted=provider.signed,
            hold=entrance.confirm,
            registration=Registration(
                timeout=self.timeout(update.kind),
                kind=update.kind,
                metadata=token.metadata,
                expect_push=True,
            ),
            receipt=Receipt(token.token_id, raw),
            ask_in=PUSH_PACE,
        )
        try:
            return await self.store.write(record, report)
        except StoreUnavailableError:
            raise store_away() from None


async def _read(request: Request) -> bytes:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "send the body without a content encoding")
    try:
        return await read_body(request, BODY_LIMIT, BODY_SECONDS)
    except BodyTooLarge:
        raise Problem(413, f"the body is over {BODY_LIMIT} bytes") from None
    except BodyTooSlow:
        raise Problem(408, f"the body took longer than {BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        raise Problem(400, "the connection ended before the body did") from None


def _echo(challenge: Any) -> Response:
    value = dump_json(challenge)
    if len(value) > CHALLENGE_LIMIT:
        raise Problem(413, f"the challenge is over {CHALLENGE_LIMIT} bytes")
    return Response(b'{"challenge":' + value + b"}", media_type="application/json")
