"""The callback door: providers' challenges and pushes. The token in the URL is the proof."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from receiver.body import BadBody, BodyTooLarge, BodyTooSlow, dump_json, parse_json, read_body
from receiver.keyring import COOL_DOWN
from receiver.leftovers import Allowance
from receiver.places import Places, is_short_of_places, short_of_places
from receiver.problems import Problem, store_away
from receiver.provider import (
    NO_CHALLENGE,
    BadSignature,
    KeyRing,
    KeysUnavailable,
    Provider,
    UnreadableBody,
)
from receiver.redaction import Redactor, redacted
from receiver.revoked import RevokedTokens
from receiver.sieve import completed
from receiver.tokens import CallbackToken, CallbackTokens
from receiver.trouble import in_words
from receiver.uses import LastUses
from receiver.watch import Watch
from receiver.words import UnknownWords
from store.callback_tokens import ForeignPushError
from store.clock import Clock, monotonic
from store.errors import StoreUnavailableError
from store.events import Kind, Source, TaskUpdate, Verdict
from store.records import (
    Challenge,
    Receipt,
    Recorded,
    Registration,
    Report,
    TooLarge,
    Unread,
    keep_challenge,
    keep_too_large,
    keep_unread,
    record,
)
from store.store import Store

logger = logging.getLogger("taskbell.callbacks")

BODY_LIMIT = 1024 * 1024
BODY_SECONDS = 5.0
BEGINNING_BYTES = 64 * 1024
"""Kept and read of a push that is too large: enough to see which task it is about."""

CHALLENGE_LIMIT = 4 * 1024
_TAKEN = b'{"status":"success"}'

# what may be kept of one token's pushes in an hour
_MEBIBYTE = 1024 * 1024
UNREAD = partial(Allowance, "unreadable pushes", 20, 2 * _MEBIBYTE)
REPEATS = partial(Allowance, "pushes without news", 1_000, 2 * _MEBIBYTE)
UNKNOWN = partial(Allowance, "pushes of unknown tasks", 1_000, 8 * _MEBIBYTE)
CHALLENGES = partial(Allowance, "challenges", 200, _MEBIBYTE)
_SMALL = 16 * 1024  # bytes of a push: how many such may be kept, the store knows (unconfirmed.py)
_UNKNOWN_WAIT_SECONDS = 600
_TOLD_MOST = 1_000

PUSH_PACE = timedelta(seconds=60)
"""The first question about a task that pushes, in case the next push is lost."""

Timeout = Callable[[Kind | None], timedelta]


@dataclass(frozen=True, slots=True)
class Entrance:
    """A provider at the door: its adapter, its public keys, whether its pushes need confirming.

    redact: cuts our key at the provider out of what is kept of its pushes.
    """

    provider: Provider
    keys: KeyRing
    confirm: bool
    redact: Redactor


class _Left(Enum):
    """What a push left behind in the store, beside the news it brought."""

    NOTHING = auto()
    RECEIPT = auto()
    UNKNOWN_TASK = auto()


@dataclass(frozen=True, slots=True)
class CallbackDoor:
    """Answers POST /callbacks/{provider}/{token}: an ASGI app, which spares a wrapper a push."""

    store: Store
    tokens: CallbackTokens
    revoked: RevokedTokens
    entrances: Mapping[str, Entrance]
    words: UnknownWords
    timeout: Timeout
    clock: Clock
    room: Places
    unread: Allowance = field(default_factory=UNREAD)
    repeats: Allowance = field(default_factory=REPEATS)
    unknown: Allowance = field(default_factory=UNKNOWN)
    challenges: Allowance = field(default_factory=CHALLENGES)
    told: set[str] = field(default_factory=set)
    watch: Watch = field(default_factory=Watch)
    uses: LastUses | None = None

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
        try:
            raw = await _read(request)
        except BodyTooLarge as error:
            with self._place(request):
                await self._keep_beginning(entrance, token, entrance.redact.raw(error.beginning))
            raise Problem(413, str(error)) from None
        if entrance.provider.signed:
            with self._place(request):
                await self._verify(entrance, request, raw)
        try:
            body = parse_json(raw)
            challenge = entrance.provider.challenge(body)
            if challenge is not NO_CHALLENGE:
                # MiniMax gives 3 s and waits with its submit call open: nothing else happens here
                echo = _echo(challenge)
                self.watch.challenged(entrance.provider.name, monotonic() - began)
                echo.background = BackgroundTask(self._keep_challenge, request, token)
                return echo
            update = in_words(entrance.provider, entrance.provider.parse(body))
        except (BadBody, UnreadableBody) as error:
            with self._place(request):
                await self._keep_unread(entrance, token, entrance.redact.raw(raw))
            raise Problem(400, str(error)) from None
        update, kept = redacted(update, entrance.redact), entrance.redact.raw(raw)
        self.words.note(entrance.provider, update.provider_status)
        with self._place(request):
            await self._record(entrance, token, kept, update)
        return Response(_TAKEN, media_type="application/json")

    @contextlib.contextmanager
    def _place(self, request: Request) -> Iterator[None]:
        """Wait for the store, or for a provider's keys, if one more may. Raises Problem 503."""
        if is_short_of_places(request.scope):
            raise short_of_places()
        with self.room.one():
            yield

    def _enter(self, request: Request) -> tuple[Entrance, CallbackToken]:
        name = request.path_params["provider"]
        entrance = self.entrances.get(name)
        now = self.clock()
        token = self.tokens.read(name, request.path_params["token"], now)
        if entrance is None or token is None or self.revoked.has(token.token_id):
            raise _no_such_address()
        if self.uses is not None:
            self.uses.note(token.token_id, now)
        return entrance, token

    async def _verify(self, entrance: Entrance, request: Request, raw: bytes) -> None:
        try:
            headers = {name.lower(): value for name, value in request.headers.items()}
            await entrance.provider.verify(headers, raw, entrance.keys, self.clock())
        except BadSignature as error:
            raise Problem(401, f"the signature does not hold: {error}") from None
        except KeysUnavailable as error:  # it may well be the provider's: have it sent again
            wait = str(int(COOL_DOWN.total_seconds()))
            raise Problem(503, f"{error}; try again", {"Retry-After": wait}) from None

    async def _keep_unread(self, entrance: Entrance, token: CallbackToken, raw: bytes) -> None:
        if not self.unread.spend(token.token_id, len(raw), self.clock()):
            return
        item = Unread(entrance.provider.name, Receipt(token.token_id, raw))
        try:
            await self._refuse_revoked(token)
            await self.store.write(keep_unread, item)
        except StoreUnavailableError:
            self.unread.give_back(token.token_id, len(raw))
            raise store_away() from None

    async def _keep_beginning(
        self, entrance: Entrance, token: CallbackToken, beginning: bytes
    ) -> None:
        """Keep a receipt of a push that is too large, and have the provider asked about its task."""
        now, size = self.clock(), len(beginning)
        if not self.unread.spend(token.token_id, size, now):
            return
        task_id = _named(entrance.provider, beginning)
        register = task_id is not None and self.unknown.spend(token.token_id, size, now)
        registration = Registration(timeout=self.timeout(None), expect_push=True)
        item = TooLarge(
            entrance.provider.name,
            Receipt(token.token_id, beginning, token.metadata, token.single_task),
            task_id,
            registration if register else None,
        )
        created = False
        try:
            await self._refuse_revoked(token)
            created = await self.store.write(keep_too_large, item)
        except StoreUnavailableError:
            self.unread.give_back(token.token_id, size)
            raise store_away() from None
        finally:
            if register and not created:
                self.unknown.give_back(token.token_id, size)

    async def _keep_challenge(self, request: Request, token: CallbackToken) -> None:
        """Behind the answer: for the timeline of its task. It is no loss when that cannot be."""
        if self.challenges.spend(token.token_id, 0, self.clock()):
            with contextlib.suppress(StoreUnavailableError, Problem), self._place(request):
                await self.store.write(keep_challenge, Challenge(token.provider, token.token_id))

    async def _refuse_revoked(self, token: CallbackToken) -> None:
        """Memory may be old when no challenge and no push came for a while."""
        if await self.revoked.has_now(token.token_id):
            raise _no_such_address()

    async def _record(
        self, entrance: Entrance, token: CallbackToken, raw: bytes, update: TaskUpdate
    ) -> None:
        """Have it recorded, as far as there is room for what may turn out to bring nothing."""
        now, size = self.clock(), len(raw)
        room = self.repeats.spend(token.token_id, size, now)
        large = entrance.confirm and size > _SMALL
        room_for_unknown = large and self.unknown.spend(token.token_id, size, now)
        register = room_for_unknown or not large
        only_news = not (room and register)
        receipt = Receipt(token.token_id, raw, token.metadata, token.single_task, only_news)
        report = self._report(entrance, token, update, receipt, register=register)
        left = _Left.NOTHING
        try:
            left = await self._write(token, report)
        finally:
            if room and left is not _Left.RECEIPT:
                self.repeats.give_back(token.token_id, size)
            if room_for_unknown and left is not _Left.UNKNOWN_TASK:
                self.unknown.give_back(token.token_id, size)

    async def _write(self, token: CallbackToken, report: Report) -> _Left:
        try:
            await self._refuse_revoked(token)
            recorded = await self.store.write(record, report)
        except StoreUnavailableError:
            raise store_away() from None
        except ForeignPushError:
            self._note_foreign(token)
            return _Left.RECEIPT
        _log(report, recorded)
        if recorded.task is None:
            self.unknown.tell(token.token_id, self.clock())
            raise _too_many_unknown()
        if recorded.verdict is Verdict.RECORDED:
            return _Left.NOTHING
        return _Left.UNKNOWN_TASK if recorded.created else _Left.RECEIPT

    def _report(
        self,
        entrance: Entrance,
        token: CallbackToken,
        update: TaskUpdate,
        receipt: Receipt,
        *,
        register: bool,
    ) -> Report:
        provider = entrance.provider
        registration = Registration(
            timeout=self.timeout(update.kind),
            kind=update.kind,
            expect_push=True,
        )
        return Report(
            provider=provider.name,
            provider_task_id=str(update.provider_task_id),
            update=update,
            source=Source.PUSH,
            trusted=provider.signed,
            hold=entrance.confirm,
            registration=registration if register else None,
            receipt=receipt,
            ask_in=PUSH_PACE,
        )

    def _note_foreign(self, token: CallbackToken) -> None:
        """Log once that a token for one task was used for another."""
        if token.token_id not in self.told and len(self.told) < _TOLD_MOST:
            self.told.add(token.token_id)
            logger.warning(
                "a callback URL for one task was used for another: kept as a receipt",
                extra={"provider": token.provider, "token": token.token_id},
            )


def _no_such_address() -> Problem:
    """The same for every token that is not good, whatever the reason."""
    return Problem(404, "no such callback address")


def _too_many_unknown() -> Problem:
    return Problem(
        429,
        "too many tasks that nobody tracks were pushed to this address; try again later",
        {"Retry-After": str(_UNKNOWN_WAIT_SECONDS)},
    )


def _log(report: Report, recorded: Recorded) -> None:
    logger.debug(
        "push",
        extra={
            "provider": report.provider,
            "task": recorded.task.id if recorded.task else None,
            "status": report.update.status,
            "verdict": recorded.verdict,
        },
    )


def _named(provider: Provider, beginning: bytes) -> str | None:
    """The task that a push names, of which only the beginning is known."""
    try:
        return provider.named(parse_json(completed(beginning)))
    except BadBody:
        return None


async def _read(request: Request) -> bytes:
    """The body. Raises BodyTooLarge with its beginning, and Problem."""
    encodings = request.headers.getlist("content-encoding")
    if any(encoding.lower() != "identity" for encoding in encodings):
        raise Problem(415, "send the body without a content encoding")
    try:
        return await read_body(request, BODY_LIMIT, BODY_SECONDS, beginning=BEGINNING_BYTES)
    except BodyTooSlow:
        raise Problem(408, f"the body took longer than {BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        raise Problem(400, "the connection ended before the body did") from None


def _echo(challenge: Any) -> Response:
    value = dump_json(challenge)
    if len(value) > CHALLENGE_LIMIT:
        raise Problem(413, f"the challenge is over {CHALLENGE_LIMIT} bytes")
    return Response(b'{"challenge":' + value + b"}", media_type="application/json")
