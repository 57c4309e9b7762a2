"""Whether anybody has a provider's API key: this process, or another one that polls."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from receiver.provider import Provider
from receiver.trouble import no_key
from store.clock import Clock
from store.events import Failure
from store.provider_states import ProviderState, read_states
from store.store import Store

FRESH_SECONDS = 2.0


class MissingKeys:
    """has_key: of each provider, whether this process has its key; then nobody else is asked."""

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, Provider],
        has_key: Mapping[str, bool],
        *,
        clock: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._providers = providers
        self._has_key = has_key
        self._clock = clock
        self._monotonic = monotonic
        self._states: Mapping[str, ProviderState] = {}
        self._read_at = -math.inf

    async def of(self, name: str) -> Failure | None:
        """What to say when no running process can poll a provider. Raises StoreUnavailableError."""
        if self._has_key[name]:
            return None
        if self._monotonic() - self._read_at > FRESH_SECONDS:
            self._states = await self._store.read(read_states)
            self._read_at = self._monotonic()
        state = self._states.get(name)
        if state is not None and state.attended(self._clock()):
            return None
        return no_key(self._providers[name])
