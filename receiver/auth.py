"""Who may use the management API: bearer keys with a scope, compared in constant time."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass

from starlette.requests import Request

from receiver.access import Access, Remembered
from receiver.guesses import ALLOWED, Guesses, neighbourhood
from receiver.problems import Problem, store_away
from store.audit import Actor
from store.errors import StoreUnavailableError
from store.keys import ApiKey, Scope, digest, find_key, get_key, known_digests, same
from store.store import Store

logger = logging.getLogger("taskbell.api")

FIRST_KEY = "first"
"""How the audit calls TASKBELL_API_KEY, which has no id."""

_DIGESTS_SECONDS = 5.0  # a key made meanwhile waits so long, where somebody guesses beside it
LONGEST_KEY = 200


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose key it is: what a page shows of it, and what it may do.

    session_id: of whoever signed in with it; None for a call with the key itself.
    """

    key_id: str
    name: str
    scope: Scope
    session_id: str | None = None

    @property
    def actor(self) -> Actor:
        """As the audit names it."""
        return Actor(self.key_id, self.session_id or self.key_id, self.name)

    def must(self, scope: Scope) -> None:
        """Raise Problem 403 when the key's scope is too weak."""
        if not self.scope.allows(scope):
            raise Problem(403, f"this API key may {self.scope}; {scope} is needed")


_FIRST = Holder(FIRST_KEY, "TASKBELL_API_KEY", Scope.ADMIN)


def _holder(key: ApiKey) -> Holder:
    return Holder(key.id, key.name, key.scope)


class Authority:
    """Knows the keys. first_key is TASKBELL_API_KEY: an admin key that is in no table.

    An address that guesses too often is answered 429 and costs no question to the database, but
    only for wrong keys: everybody behind one proxy has its address, and an honest client must not
    be locked out by whoever guesses beside it.
    """

    def __init__(self, store: Store, first_key: str | None, access: Access | None = None) -> None:
        self._store = store
        self._access = access or Access(store)
        self._first = digest(first_key) if first_key else None
        self._first_ticket = f"{FIRST_KEY}.{digest(f'ticket {self._first}')[:16]}"
        self._remembered: Remembered[ApiKey] = Remembered(self._access)  # by digest, or by id
        self._guesses = Guesses()
        self._digests: frozenset[str] = frozenset()
        self._digests_until = 0.0
        self._reading = asyncio.Lock()

    async def require(self, request: Request, scope: Scope) -> Holder:
        """Whose key it is. Raise Problem 401 without a good key, 403 when its scope is too weak."""
        text = _bearer(request)
        holder = await self.identify(request, text) if text else None
        if holder is None:
            raise Problem(
                401,
                "send a valid API key: Authorization: Bearer <key>",
                {"WWW-Authenticate": 'Bearer realm="taskbell"'},
            )
        holder.must(scope)
        return holder

    async def identify(self, request: Request, text: str) -> Holder | None:
        """Whose key this is; None for a wrong one. Raises Problem 429 for one guess too many."""
        if not 0 < len(text) <= LONGEST_KEY:
            return None
        key_digest = digest(text)
        if self._first is not None and same(self._first, key_digest):
            return _FIRST
        key = self._remembered.get(key_digest)
        if key is None:
            try:
                key = await self._look_up(request, key_digest, self._access.monotonic())
            except StoreUnavailableError:
                raise store_away() from None
        return _holder(key) if key else None

    @property
    def first(self) -> Holder | None:
        """Whoever holds TASKBELL_API_KEY; None when it is not set."""
        return _FIRST if self._first is not None else None

    def ticket(self, holder: Holder) -> str:
        """What a session keeps of a key: its id; of TASKBELL_API_KEY a mark that goes with it."""
        return self._first_ticket if holder.key_id == FIRST_KEY else holder.key_id

    async def admit(self, ticket: str) -> Holder | None:
        """Whose ticket that is; None when its key was revoked, or changed. Raises Problem 503."""
        if same(ticket, self._first_ticket) and self._first is not None:
            return _FIRST
        key = self._remembered.get(ticket)
        if key is None:
            keep = self._remembered.asking()
            try:
                key = await self._store.read(get_key, ticket)
            except StoreUnavailableError:
                raise store_away() from None
            keep(ticket, key)
        return _holder(key) if key else None

    async def _look_up(self, request: Request, key_digest: str, now: float) -> ApiKey | None:
        address = neighbourhood(request.client.host if request.client else "")
        number = self._guesses.count(address, now)
        if number > ALLOWED and not await self._may_be_good(key_digest, now):
            raise _too_many_guesses(self._guesses.seconds_left(address, now))
        keep = self._remembered.asking()
        found = await self._store.read(find_key, key_digest)
        keep(key_digest, found)
        if found:
            self._guesses.take_back(address)
        else:
            _tell(address, number)
        return found

    async def _may_be_good(self, key_digest: str, now: float) -> bool:
        """Whether there was such a key a moment ago: one question for all guesses of five seconds."""
        async with self._reading:
            if self._digests_until <= now:
                self._digests = await self._store.read(known_digests)
                self._digests_until = now + _DIGESTS_SECONDS
        return key_digest in self._digests


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
    return key if scheme.lower() == "bearer" else None
