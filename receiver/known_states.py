"""The states of providers as a process knows them: read at most every two seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from receiver.provider import Provider
from receiver.trouble import no_key
from store.clock import Clock
from store.events import Failure
from store.provider_states import ProviderState, State, read_states
from store.store import Store

FRESH_SECONDS = 2.0


class KnownStates:
    """has_key: of each provider, whether this process has its key."""

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

    async def down(self) -> list[ProviderState]:
        """The providers that are down. Raises StoreUnavailableError."""
        now = self._clock()
        shown = [state.at(now) for state in (await self._current()).values()]
        down = [each for each in shown if each.state is State.DOWN]
        return sorted(down, key=lambda state: state.provider)

    async def missing_key(self, name: str) -> Failure | None:
        """What to say when no running process can poll a provider. Raises StoreUnavailableError.

        A process that has the key asks nobody.
        """
        if self._has_key[name]:
            return None
        state = (await self._current()).get(name)
        if state is not None and state.attended(self._clock()):
            return None
        return no_key(self._providers[name])

    async def _current(self) -> Mapping[str, ProviderState]:
        if self._monotonic() - self._read_at > FRESH_SECONDS:
            self._states = await self._store.read(read_states)
            self._read_at = self._monotonic()
        return self._states
