"""Who may use the management API: bearer keys with a scope, compared in constant time."""

from __future__ import annotations

import asyncio
import logging
import math

from starlette.requests import Request

from receiver.guesses import ALLOWED, Guesses, neighbourhood
from receiver.problems import Problem, store_away
from store.clock import monotonic
from store.errors import StoreUnavailableError
from store.keys import ApiKey, Scope, digest, find_key, known_digests, same
from store.store import Store

logger = logging.getLogger("taskbell.api")

FIRST_KEY = "first"
"""How the audit calls TASKBELL_API_KEY, which has no id."""

_REMEMBERED_SECONDS = 5.0  # a revoked key is refused after that at the latest, in every process
_REMEMBERED_MOST = 1000
_LONGEST_KEY = 200


class Authority:
    """Knows the keys. first_key is TASKBELL_API_KEY: an admin key that is in no table.

    An address that guesses too often is answered 429 and costs no question to the database, but
    only for wrong keys: everybody behind one proxy has its address, and an honest client must not
    be locked out by whoever guesses beside it.
    """

    def __init__(self, store: Store, first_key: str | None) -> None:
        self._store = store
        self._first = digest(first_key) if first_key else None
        self._remembered: dict[str, tuple[float, ApiKey]] = {}
        self._guesses = Guesses()
        self._digests: frozenset[str] = frozenset()
        self._digests_until = 0.0
        self._reading = asyncio.Lock()

    async def require(self, request: Request, scope: Scope) -> str:
        """The key's id. Raise Problem 401 without a good key, 403 when its scope is too weak."""
        text = _bearer(request)
        held = await self._key(request, digest(text)) if text else None
        if held is None:
            raise Problem(
                401,
                "send a valid API key: Authorization: Bearer <key>",
                {"WWW-Authenticate": 'Bearer realm="taskbell"'},
            )
        key_id, its_scope = held
        if not its_scope.allows(scope):
            raise Problem(403, f"this API key may {its_scope}; {scope} is needed")
        return key_id

    async def _key(self, request: Request, key_digest: str) -> tuple[str, Scope] | None:
        if self._first is not None and same(self._first, key_digest):
            return FIRST_KEY, Scope.ADMIN
        now = monotonic()
        until, key = self._remembered.get(key_digest, (0.0, None))
        if key is None or until <= now:
            try:
                key = await self._look_up(request, key_digest, now)
            except StoreUnavailableError:
                raise store_away() from None
        return (key.id, key.scope) if key else None

    async def _look_up(self, request: Request, key_digest: str, now: float) -> ApiKey | None:
        address = neighbourhood(request.client.host if request.client else "")
        number = self._guesses.count(address, now)
        if number > ALLOWED and not await self._may_be_good(key_digest, now):
            raise _too_many_guesses(self._guesses.seconds_left(address, now))
        found = await self._store.read(find_key, key_digest)
        if found:
            self._guesses.take_back(address)
            self._remember(key_digest, found, now)
        else:
            self._remembered.pop(key_digest, None)
            _tell(address, number)
        return found

    async def _may_be_good(self, key_digest: str, now: float) -> bool:
        """Whether there was such a key a moment ago: one question for all guesses of five seconds."""
        async with self._reading:
            if self._digests_until <= now:
                self._digests = await self._store.read(known_digests)
                self._digests_until = now + _REMEMBERED_SECONDS
        return key_digest in self._digests

    def _remember(self, key_digest: str, key: ApiKey, now: float) -> None:
        if len(self._remembered) >= _REMEMBERED_MOST:
            self._remembered.clear()
        self._remembered[key_digest] = (now + _REMEMBERED_SECONDS, key)


def _tell(address: str, number: int) -> None:
    if number == ALLOWED:
        logger.warning(
            "many wrong API keys from one address: more are refused for the rest of a minute",
            extra={"address": address},
        )


def _too_many_guesses(wait: float) -> Problem:
    return Problem(
        429,
        "too many wrong API keys came from this address; a right one is still taken",
        {"Retry-After": str(math.ceil(wait))},
    )


def _bearer(request: Request) -> str | None:
    given = request.headers.getlist("authorization")
    if len(given) != 1:  # with two, a proxy may have judged by the other one
        return None
    scheme, _, key = given[0].partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(key) <= _LONGEST_KEY:
        return None
    return key
