"""Three providers in one app: their documented wire formats, on tasks that make nothing.

What is behind them: book (tasks and counts), faults (what goes wrong on purpose), courier (pushes),
and one file per provider for its routes and shapes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from starlette.applications import Starlette

from deploy.demo.atlascloud_simulator import AtlasCloud
from deploy.demo.book import Book, SimulatedTask, Stats
from deploy.demo.courier import Courier
from deploy.demo.faults import Faults
from deploy.demo.minimax_simulator import MiniMax
from deploy.demo.opencomputing_simulator import OpenComputing
from store.clock import Clock, monotonic, system_clock

NO_FAULTS = Faults()


def random_text(random: Random) -> str:
    return f"{random.getrandbits(128):032x}"


def base_urls(url: str) -> dict[str, str]:
    """The providers' base URLs when the simulator is served at url.

    >>> base_urls("http://127.0.0.1:9000")["atlascloud"]
    'http://127.0.0.1:9000/api/v1'
    """
    return {
        MiniMax.name: url,
        AtlasCloud.name: f"{url}/api/v1",
        OpenComputing.name: url,
    }


class Simulator:
    """Serve `app` (its lifespan sends the pushes), then ask it like the real providers.

    durations: the least and most seconds that a task takes from its submission to its end; the
    first quarter it is queued. faults apply to every provider that provider_faults does not name.
    make_challenge draws what MiniMax sends as challenge: any JSON value. signing_seed: the 32 bytes
    of Atlas Cloud's Ed25519 key. monotonic must run at the pace of the event loop's sleep, or no
    push comes when it is due. pictures: the URL below which images are, None where nothing is. Two
    simulators with one seed make the same tasks.
    """

    def __init__(
        self,
        api_key: str,
        *,
        durations: tuple[float, float] = (2.0, 8.0),
        seed: int = 0,
        faults: Faults = NO_FAULTS,
        provider_faults: Mapping[str, Faults] | None = None,
        signing_seed: bytes | None = None,
        make_challenge: Callable[[Random], Any] = random_text,
        challenge_deadline_seconds: float = 3.0,
        clock: Clock = system_clock,
        monotonic: Callable[[], float] = monotonic,
        pictures: str | None = None,
    ) -> None:
        self._book = Book(
            seed=seed,
            durations=durations,
            faults=faults,
            provider_faults=provider_faults or {},
            clock=clock,
            monotonic=monotonic,
            pictures=pictures,
        )
        self._courier = Courier(self._book.stats, monotonic)
        minimax = MiniMax(
            self._book,
            self._courier,
            api_key,
            make_challenge=make_challenge,
            challenge_deadline_seconds=challenge_deadline_seconds,
        )
        atlascloud = AtlasCloud(self._book, self._courier, api_key, signing_seed=signing_seed)
        opencomputing = OpenComputing(self._book, api_key)
        self.app = Starlette(
            routes=[*minimax.routes, *atlascloud.routes, *opencomputing.routes],
            lifespan=self._lifespan,
        )

    @property
    def stats(self) -> Stats:
        return self._book.stats

    @property
    def tasks(self) -> Sequence[SimulatedTask]:
        """Every task in the order of submission, with the end it has or will have."""
        return self._book.tasks

    def change_faults(self, faults: Faults, provider: str | None = None) -> None:
        """From now on these faults: for one provider, or for all that have none of their own.

        What goes wrong with a task's pushes was settled when it was submitted and stays.
        """
        self._book.change_faults(faults, provider)

    async def settle(self) -> None:
        """Return when every task has ended and every push is sent."""
        await self._courier.idle()
        for task in self._book.tasks:
            await self._courier.until(task.ends_from)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with self._courier.at_work():
            yield
