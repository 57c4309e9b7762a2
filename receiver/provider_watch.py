"""Keeps the states of providers: hears every answer to a poll, and writes down what follows.

One process at a time polls a provider (store/shifts.py), so one at a time writes its state. Nothing
is written for an answer as such: only a new state, and every some seconds when was last polled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from receiver.provider import Provider
from receiver.provider_state import Evidence, Step
from receiver.trouble import no_key
from receiver.watch import Heard, Watch
from store.clock import Clock
from store.errors import StoreError
from store.provider_states import Note, ProviderState, State, note_states
from store.store import Store

logger = logging.getLogger("taskbell.providers")

BEAT_SECONDS = 60.0
"""Between two notes that a provider is polled by this process, when nothing else is new."""

SOON_SECONDS = 15.0
"""Between two notes of when it was last asked."""

_AGAIN_SECONDS = 5.0  # after a write that failed
_KNOWN = frozenset({State.OK, State.DEGRADED, State.DOWN})


class ProviderWatch(Watch):
    """Hears, and passes on to `other`; a loop that writes.

    has_key: of each provider, whether this process can poll it.
    """

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, Provider],
        has_key: Mapping[str, bool],
        *,
        clock: Clock,
        monotonic: Callable[[], float],
        other: Watch,
    ) -> None:
        self._store = store
        self._providers = providers
        self._has_key = has_key
        self._clock = clock
        self._monotonic = monotonic
        self._other = other
        self._evidence = {name: Evidence() for name in providers if has_key[name]}
        self._steps: dict[str, list[Step]] = defaultdict(list)
        self._heard: set[str] = set()  # since the last note
        self._noted_at = self._beat_at = -math.inf
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Until canceled."""
        while True:
            self._news.clear()
            wait = await self._write()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._news.wait()

    async def drain(self, seconds: float) -> None:
        """Write what was heard last."""
        self._noted_at = -math.inf
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._write()

    async def _write(self) -> float:
        """Write what is due; the seconds until the next time."""
        now = self._monotonic()
        steps, self._steps = self._steps, defaultdict(list)
        notes = [self._note(name, step) for name, each in steps.items() for step in each]
        beat = now - self._beat_at >= BEAT_SECONDS
        if beat:
            notes += [self._beat(name) for name in self._providers if name not in steps]
            self._beat_at = now
        if beat or now - self._noted_at >= SOON_SECONDS:
            noted = {note.provider for note in notes}
            notes += [self._note(name) for name in sorted(self._heard - noted)]
            self._heard.clear()
            self._noted_at = now
        try:
            states = await asyncio.gather(*(self._store.write(note_states, note) for note in notes))
        except StoreError as error:
            logger.info("states of providers are not written now: %s", error)
            self._failed(notes)
            return _AGAIN_SECONDS
        self._adopt(states)
        return SOON_SECONDS

    def _failed(self, notes: Sequence[Note]) -> None:
        """Whatever is written there now: the next answer tells it again."""
        self._beat_at = -math.inf
        for note in notes:
            if note.provider in self._evidence:
                self._evidence[note.provider].state = None
                self._heard.add(note.provider)

    def _adopt(self, states: Sequence[ProviderState]) -> None:
        for state in states:
            evidence = self._evidence.get(state.provider)
            if evidence is not None and not self._steps.get(state.provider):
                evidence.state = state.state

    def _beat(self, name: str) -> Note:
        if self._has_key[name]:
            return self._note(name, Step(State.IDLE, _KNOWN))
        provider = self._providers[name]
        return Note(name, provider.title, to=State.NO_KEY, reason=no_key(provider), has_key=False)

    def _note(self, name: str, step: Step | None = None) -> Note:
        evidence, now = self._evidence[name], self._clock()
        return Note(
            name,
            self._providers[name].title,
            to=step.to if step else None,
            keep=step.keep if step else frozenset(),
            reason=step.reason if step else None,
            lone_task=step.lone_task if step else None,
            asked_ago=_ago(evidence.asked_at, now),
            answered_ago=_ago(evidence.answered_at, now),
        )

    # What is heard

    def verdict(self, heard: Heard) -> None:
        name = heard.task.provider
        evidence = self._evidence.get(name)
        # anyone with a callback URL can name tasks that make answers fail
        told = heard.provider_is_there or heard.task.version > 0
        if evidence is not None and told:
            self._heard.add(name)
            step = evidence.heard(heard)
            if step is not None:
                self._steps[name].append(step)
                self._news.set()
        self._other.verdict(heard)

    def took_over(self, provider: str) -> None:
        if provider in self._evidence:
            self._evidence[provider].forget_state()
        self._other.took_over(provider)

    def challenged(self, provider: str, seconds: float) -> None:
        self._other.challenged(provider, seconds)

    def refused(self, provider: str, status: int) -> None:
        self._other.refused(provider, status)

    def waited(self, provider: str, seconds: float) -> None:
        self._other.waited(provider, seconds)

    def asked(self, provider: str, result: str) -> None:
        self._other.asked(provider, result)


def _ago(moment: datetime | None, now: datetime) -> timedelta | None:
    return max(now - moment, timedelta(0)) if moment is not None else None
