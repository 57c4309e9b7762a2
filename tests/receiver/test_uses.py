"""The last uses of callback tokens: written down seldom, and together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import anyio

from receiver.uses import COARSE, LastUses
from store.callback_urls import Uses
from store.clock import ManualClock
from store.errors import StoreUnavailableError
from store.store import Store
from store.writer import Operation


class Written(Store):
    """A store that only remembers what was to be written. away: it cannot be reached."""

    def __init__(self) -> None:
        self.uses: list[Mapping[str, Any]] = []
        self.away = False
        self.written = anyio.Event()

    async def write(self, _operation: Operation[Any, Any], item: Any) -> Any:
        if self.away:
            raise StoreUnavailableError("away")
        assert isinstance(item, Uses)
        self.uses.append(item.last_at)
        self.written.set()


def note_all(uses: LastUses, clock: ManualClock, tokens: Sequence[str]) -> None:
    for token in tokens:
        uses.note(token, clock())


async def test_uses_are_written_together_after_a_while(clock: ManualClock) -> None:
    store = Written()
    uses = LastUses(store, wait_seconds=0.01)
    note_all(uses, clock, ["a", "b", "a"])

    with anyio.fail_after(10):
        await store.written.wait()

    assert store.uses == [{"a": clock(), "b": clock()}]


async def test_a_token_that_is_used_all_the_time_is_written_seldom(clock: ManualClock) -> None:
    store = Written()
    uses = LastUses(store)
    began = clock()

    for _ in range(100):
        uses.note("a", clock())
        await uses.flush()
        clock.advance(seconds=6)

    assert [each["a"] - began for each in store.uses] == [timedelta(0), COARSE]
    await uses.close()


async def test_a_clock_that_was_set_back_does_not_silence_it(clock: ManualClock) -> None:
    store = Written()
    uses = LastUses(store)
    for moved in (0, -3600):
        clock.advance(seconds=moved)
        uses.note("a", clock())
        await uses.flush()

    assert len(store.uses) == 2
    await uses.close()


async def test_what_could_not_be_written_is_noted_at_the_next_use(clock: ManualClock) -> None:
    store = Written()
    uses = LastUses(store)
    store.away = True
    uses.note("a", clock())
    await uses.flush()
    store.away = False

    uses.note("a", clock())
    await uses.close()

    assert store.uses == [{"a": clock()}]
