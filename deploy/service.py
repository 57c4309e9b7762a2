"""One Taskbell process: its parts, made once and given what they need, and how they start and end."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import random
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol
from urllib.parse import urlsplit

import httpx

from deploy import __version__
from deploy.admission import Rooms, make_rooms
from deploy.descriptors import descriptors
from deploy.expiry import Expiry
from deploy.metrics import Metrics
from deploy.network import shown
from deploy.secret_urls import hide_secret_urls
from deploy.settings import ProviderSettings, Settings
from deploy.traces import Traces
from dispatch.client import Client
from dispatch.guard import Guard
from dispatch.sending import Sender
from dispatch.worker import IN_FLIGHT, Worker
from receiver.access import Access
from receiver.asking import HttpAsker
from receiver.budget import Health, RateLimiter
from receiver.feed import MOST as MOST_FOLLOWERS
from receiver.feed import Feed
from receiver.known_states import KnownStates
from receiver.lately import Lately
from receiver.pages.once import OnceLinks
from receiver.poller import Line, Poller
from receiver.provider import Provider, providers
from receiver.provider_watch import ProviderWatch
from receiver.words import UnknownWords
from store.clock import Clock, monotonic, system_clock
from store.database import Database
from store.errors import StoreError
from store.events import Kind
from store.retention import Prune, prune
from store.store import Store
from store.vault import Vault
from store.writer import Committed, Watch

logger = logging.getLogger("taskbell")

USER_AGENT = f"taskbell/{__version__}"
DRAIN_SECONDS = 10.0
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
"""What --dev opens to deliveries."""

_PRUNE_SECONDS = 60.0

Jitter = Callable[[], float]
Monotonic = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


class Loop(Protocol):
    """What a role does all the time."""

    async def run(self) -> None:
        """Until canceled."""

    async def drain(self, seconds: float) -> None:
        """Let what is under way end; then cut it off."""


@dataclass(slots=True)
class Service:
    """The parts that the HTTP face needs, and the loops of this process's roles."""

    settings: Settings
    store: Store
    clock: Clock
    vault: Vault
    guard: Guard
    sender: Sender
    words: UnknownWords
    feed: Feed
    access: Access
    metrics: Metrics
    lately: Lately
    askers: dict[str, HttpAsker]
    once_links: OnceLinks
    rooms: Rooms
    known_states: KnownStates
    loops: list[Loop] = field(default_factory=list)
    draining: bool = False
    hurried: asyncio.Event = field(default_factory=asyncio.Event)
    _client: Client | None = None
    _traces: Traces | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the loops; on the way out let what is under way end, then close everything."""
        await hide_secret_urls(self.store, self.vault)
        runs = [asyncio.create_task(loop.run()) for loop in self.loops]
        if "poll" in self.settings.roles:
            runs.append(asyncio.create_task(self._tidy()))
        try:
            yield
        finally:
            self.draining = True
            for run in runs:
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)
            await self._drain()
            await self.close()

    async def _drain(self) -> None:
        """Let what is under way end, unless it takes too long or somebody is in a hurry."""
        drains = asyncio.create_task(self._drain_loops(DRAIN_SECONDS))
        hurry = asyncio.create_task(self.hurried.wait())
        await asyncio.wait(
            [drains, hurry], timeout=DRAIN_SECONDS + 1, return_when=asyncio.FIRST_COMPLETED
        )
        hurry.cancel()
        if not drains.done():
            drains.cancel()
            await self._drain_loops(0)

    async def _drain_loops(self, seconds: float) -> None:
        await asyncio.gather(*(loop.drain(seconds) for loop in self.loops))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
        for asker in self.askers.values():
            await asker.close()
        await asyncio.to_thread(self.store.close)
        if self._traces is not None:
            await asyncio.to_thread(self._traces.close)

    async def _tidy(self) -> None:
        """Remove what retention has passed over, a step at a time."""
        expiry = Expiry(self.store, self.clock, self.settings.retention)
        while True:
            removed = 0
            try:
                removed = await expiry.step()
                removed += await self.store.write(prune, Prune(self.settings.retention))
            except StoreError as error:
                logger.info("nothing is tidied up now: %s", error)
            except Exception:  # a bug here must not end it for good
                logger.exception("tidying up failed")
            await asyncio.sleep(1.0 if removed else _PRUNE_SECONDS)


def make_service(
    settings: Settings,
    database: Database,
    *,
    clock: Clock = system_clock,
    monotonic: Monotonic = monotonic,
    sleep: Sleep = asyncio.sleep,
    jitter: Jitter = random.random,
    transport: httpx.AsyncBaseTransport | None = None,
    traces: Traces | None = None,
) -> Service:
    """Open the store and join the parts. The caller has migrated the database.

    clock, monotonic and sleep must run equally fast. transport: what providers are asked through
    when it is not the network. traces: closed with the service. Raises StoreError when another process holds the SQLite file.
    """
    vault, guard = Vault(settings.secret_keys), make_guard(settings)
    client = Client(
        guard,
        timeout=settings.attempt_timeout,
        limit=descriptors().to_subscribers,
        user_agent=USER_AGENT,
    )
    store = Store(database, clock)
    rooms = make_rooms(descriptors().from_clients)
    most = min(MOST_FOLLOWERS, rooms.followers.most)
    feed = Feed(store, monotonic=monotonic, most=most)
    access = Access(store, monotonic)
    access.listen(feed.recheck)  # streams and waits end with their key
    feed.check = access.look
    metrics = Metrics(
        store, clock, monotonic, followers=lambda: len(feed), retention=settings.retention
    )
    store.watch(metrics.committed if traces is None else _both(metrics.committed, traces.committed))
    words = UnknownWords()
    metrics.unknown_words = lambda: len(words)
    has_key = {name: bool(chosen.api_key) for name, chosen in settings.providers.items()}
    heard = ProviderWatch(
        store, providers(), has_key, clock=clock, monotonic=monotonic, other=metrics
    )
    service = Service(
        settings=settings,
        store=store,
        clock=clock,
        vault=vault,
        guard=guard,
        sender=Sender(client, vault, clock, traced=traces is not None),
        words=words,
        feed=feed,
        access=access,
        metrics=metrics,
        lately=Lately(heard, providers(), clock),
        askers={
            name: _asker(chosen, providers()[name], clock, transport)
            for name, chosen in settings.providers.items()
        },
        once_links=OnceLinks(monotonic),
        rooms=rooms,
        known_states=KnownStates(store, providers(), has_key, clock=clock, monotonic=monotonic),
        _client=client,
        _traces=traces,
    )
    if "receive" in settings.roles:
        service.loops.append(service.feed)
    owner = f"{socket.gethostname()[:32]}:{os.getpid()}:{secrets.token_hex(4)}"
    if "poll" in settings.roles:
        service.loops.append(heard)
        service.loops.append(_poller(service, owner, jitter, monotonic, sleep))
    if "dispatch" in settings.roles:
        service.loops.append(_worker(service, owner, jitter))
    return service


def _both(first: Watch, second: Watch) -> Watch:
    def watch(committed: Committed) -> None:
        first(committed)
        second(committed)

    return watch


def make_guard(settings: Settings) -> Guard:
    """The address guard of an installation: it also keeps deliveries from our own door."""
    public = urlsplit(settings.public_url)
    port = public.port or (443 if public.scheme == "https" else 80)
    ports = {port, settings.port} | ({80, 443} if port in (80, 443) else set())
    own = {(str(public.hostname), each) for each in ports} | {(settings.host, settings.port)}
    return Guard(allow=settings.allow_networks, own=own)


def confirms(chosen: ProviderSettings, provider: Provider) -> bool:
    """Whether an ending that is pushed waits for the provider's word."""
    if chosen.confirm == "auto":
        return bool(chosen.api_key) and not provider.signed
    return chosen.confirm == "always"


def timeout_of(settings: Settings, kind: Kind | None) -> timedelta:
    """How long a task of a kind is tracked."""
    return settings.task_timeout_image if kind is Kind.IMAGE else settings.task_timeout_video


def _asker(
    chosen: ProviderSettings,
    provider: Provider,
    clock: Clock,
    transport: httpx.AsyncBaseTransport | None,
) -> HttpAsker:
    return HttpAsker(
        chosen.base_url,
        chosen.api_key,
        clock,
        user_agent=USER_AGENT,
        concurrency=chosen.concurrency,
        owns=provider.owns,
        way=chosen.route.way,
        transport=transport,
    )


def _tell_how(chosen: ProviderSettings, provider: Provider) -> None:
    """Log the proxy that a provider is asked through, so that nobody has to guess."""
    if chosen.api_key and chosen.route.way.proxy:
        proxy, because = shown(chosen.route.way.proxy), chosen.route.because
        logger.info("%s is asked through the proxy %s (%s)", provider.name, proxy, because)


def _poller(
    service: Service, owner: str, jitter: Jitter, monotonic: Monotonic, sleep: Sleep
) -> Poller:
    lines = {}
    for name, provider in providers().items():
        chosen = service.settings.providers[name]
        if chosen.api_key:  # the others cannot be asked
            _tell_how(chosen, provider)
            limiter = RateLimiter(chosen.requests_per_second, chosen.concurrency, monotonic, sleep)
            lines[name] = Line(provider, service.askers[name], limiter, Health(jitter))
    return Poller(
        service.store,
        lines,
        words=service.words,
        clock=service.clock,
        owner=owner,
        jitter=jitter,
        watch=service.lately,
    )


def _worker(service: Service, owner: str, jitter: Jitter) -> Worker:
    return Worker(
        service.store,
        service.sender,
        schedule=service.settings.retry_schedule,
        attempt_timeout=service.settings.attempt_timeout,
        clock=service.clock,
        owner=owner,
        jitter=jitter,
        in_flight=min(IN_FLIGHT, descriptors().to_subscribers),
    )
