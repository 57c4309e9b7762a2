"""Public keys of providers that sign their pushes, from their JWKS pages, cached."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from receiver.failures import Blame, Code
from receiver.provider import KeysUnavailable, ProviderError

FRESH = timedelta(hours=24)
STALE = timedelta(days=7)  # how long old keys serve while the page cannot be read
COOL_DOWN = timedelta(seconds=60)  # made-up key ids must not turn us against the provider
MAX_KEYS = 32

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Page:
    """What is known of one JWKS page."""

    keys: Mapping[str, bytes] = field(default_factory=dict)
    fetched_at: datetime | None = None
    tried_at: datetime | None = None


class JwksKeyRing:
    """The KeyRing of receiver/provider.py; one for each provider, whose paths look alike.

    fetch gets the page's URL or path and returns its JSON, or raises ProviderError. A page is fetched
    again when its keys are a day old or lack the wanted id, at most once a minute; a failed fetch
    leaves the old keys in use until they are seven days old.
    """

    def __init__(self, fetch: Callable[[str], Awaitable[Any]]) -> None:
        self._fetch = fetch
        self._pages: dict[str, _Page] = defaultdict(_Page)
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ed25519(self, url: str, key_id: str, now: datetime) -> bytes | None:
        if not _fresh(self._pages[url], key_id, now):
            # whoever comes while a fetch is under way waits here, and uses what it brought
            async with self._locks[url]:
                page = self._pages[url]
                if not _fresh(page, key_id, now) and not _younger(page.tried_at, COOL_DOWN, now):
                    await self._refresh(url, now)
        page = self._pages[url]
        key = page.keys.get(key_id) if _younger(page.fetched_at, STALE, now) else None
        if key is None and page.tried_at != page.fetched_at:
            raise KeysUnavailable("the provider's page of public keys cannot be read")
        return key

    async def _refresh(self, url: str, now: datetime) -> None:
        # noted first, so that a canceled fetch starts the cool-down too
        self._pages[url] = replace(self._pages[url], tried_at=now)
        try:
            keys = read_jwks(await self._fetch(url))
        except ProviderError as error:
            _log.warning("key page not read", extra={"url": url, "code": error.code})
            return
        self._pages[url] = _Page(keys, fetched_at=now, tried_at=now)


def _fresh(page: _Page, key_id: str, now: datetime) -> bool:
    return key_id in page.keys and _younger(page.fetched_at, FRESH, now)


def _younger(moment: datetime | None, age: timedelta, now: datetime) -> bool:
    # abs: a clock set back must not freeze the cache until it has caught up
    return moment is not None and abs(now - moment) < age


def read_jwks(page: Any) -> dict[str, bytes]:
    """The Ed25519 keys (RFC 8037) of a JWKS by key id, the first 32; others are passed over.

    Raises ProviderError when the page is no JWKS at all.
    """
    entries = page.get("keys") if isinstance(page, dict) else None
    if not isinstance(entries, list):
        raise ProviderError("the key page is not a JWKS", code=Code.UNREADABLE, blame=Blame.WAY)
    keys: dict[str, bytes] = {}
    for entry in entries:
        public = _public_bytes(entry)
        if public is not None and len(keys) < MAX_KEYS:
            keys.setdefault(entry["kid"], public)
    return keys


def _public_bytes(entry: Any) -> bytes | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str):
        return None
    if (entry.get("kty"), entry.get("crv")) != ("OKP", "Ed25519"):
        return None
    x = entry.get("x")
    # 43 characters are 32 bytes; decoding alone would skip foreign characters
    if not isinstance(x, str) or not re.fullmatch(r"[A-Za-z0-9_-]{43}=?", x):
        return None
    return base64.urlsafe_b64decode(x[:43] + "=")
