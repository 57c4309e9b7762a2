"""Who is signed in: sessions as the store has them, remembered for a moment."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta

from receiver.access import Access, Remembered
from receiver.auth import Authority, Holder
from receiver.problems import store_away
from store.audit import Actor, Audited, Entry, audited
from store.clock import Clock
from store.errors import NotFoundError, StoreUnavailableError
from store.keys import digest
from store.logins import End, Login, NewLogin, begin, end, find_login, see
from store.store import Store

COARSE = timedelta(minutes=5)
"""A session in use is written down this often."""


class Logins:
    """Begins, finds and ends sessions, by the secret that the browser's cookie holds."""

    def __init__(self, store: Store, authority: Authority, access: Access, clock: Clock) -> None:
        self._store = store
        self._authority = authority
        self._access = access
        self._clock = clock
        self._remembered: Remembered[Login] = Remembered(access)

    async def begin(self, secret: str, holder: Holder, lasts: timedelta) -> None:
        """Raises StoreUnavailableError."""
        new = NewLogin(
            digest(secret), holder.key_id, self._authority.ticket(holder), holder.name, lasts
        )
        by = Entry(holder.actor, "session.created")
        await self._store.write(audited(begin), Audited(new, by, lambda login: login.id))

    async def admit(self, secret: str) -> Holder | None:
        """Whose session it is; None when it is over, or its key revoked. Raises Problem 503."""
        login = await self._find(secret)
        if login is None or login.expires_at <= self._clock():
            return None
        holder = await self._authority.admit(login.ticket)
        return None if holder is None else replace(holder, session_id=login.id)

    async def end(self, secret: str) -> None:
        """Nothing when it is over already. Raises StoreUnavailableError."""
        login = await self._store.read(find_login, digest(secret), self._clock())
        if login is None:
            return
        by = Entry(Actor(login.key_id, login.id, login.name), "session.deleted")
        ended: Audited[End, None] = Audited(End(login.id), by, lambda _none: login.id)
        with contextlib.suppress(NotFoundError):  # ended elsewhere at this moment
            await self._store.write(audited(end), ended)
        self._access.changed()

    async def _find(self, secret: str) -> Login | None:
        name = digest(secret)
        login = self._remembered.get(name)
        if login is not None:
            return login
        keep, now = self._remembered.asking(), self._clock()
        try:
            login = await self._store.read(find_login, name, now)
        except StoreUnavailableError:
            raise store_away() from None
        keep(name, login)
        if login is not None and now - login.last_seen_at >= COARSE:
            with contextlib.suppress(StoreUnavailableError):
                await self._store.write(see, login.id)
        return login
