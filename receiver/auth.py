"""Who may use the management API: bearer keys with a scope, compared in constant time."""

from __future__ import annotations

from starlette.requests import Request

from receiver.problems import Problem, store_away
from store.clock import monotonic
from store.errors import StoreUnavailableError
from store.keys import ApiKey, Scope, digest, find_key, same
from store.store import Store

_REMEMBERED_SECONDS = 5.0  # a revoked key is refused after that at the latest, in every process
_REMEMBERED_MOST = 1000
_LONGEST_KEY = 200


class Authority:
    """Knows the keys. first_key is TASKBELL_API_KEY: an admin key that is in no table."""

    def __init__(self, store: Store, first_key: str | None) -> None:
        self._store = store
        self._first = digest(first_key) if first_key else None
        self._remembered: dict[str, tuple[float, ApiKey]] = {}

    async def require(self, request: Request, scope: Scope) -> None:
        """Raise Problem 401 without a good key, 403 when its scope is too weak."""
        held = await self._scope(_bearer(request))
        if held is None:
            raise Problem(
                401,
                "send a valid API key: Authorization: Bearer <key>",
                {"WWW-Authenticate": 'Bearer realm="taskbell"'},
            )
        if not held.allows(scope):
            raise Problem(403, f"this API key may {held}; {scope} is needed")

    async def _scope(self, key: str | None) -> Scope | None:
        if key is None:
            return None
        key_digest = digest(key)
        if self._first is not None and same(self._first, key_digest):
            return Scope.ADMIN
        found = await self._look_up(key_digest)
        return found.scope if found else None

    async def _look_up(self, key_digest: str) -> ApiKey | None:
        now = monotonic()
        until, key = self._remembered.get(key_digest, (0.0, None))
        if key is not None and until > now:
            return key
        try:
            found = await self._store.read(find_key, key_digest)
        except StoreUnavailableError:
            raise store_away() from None
        if len(self._remembered) >= _REMEMBERED_MOST:
            self._remembered.clear()
        if found:
            self._remembered[key_digest] = (now + _REMEMBERED_SECONDS, found)
        else:
            self._remembered.pop(key_digest, None)
        return found


def _bearer(request: Request) -> str | None:
    given = request.headers.getlist("authorization")
    if len(given) != 1:  # with two, a proxy may have judged by the other one
        return None
    scheme, _, key = given[0].partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(key) <= _LONGEST_KEY:
        return None
    return key
