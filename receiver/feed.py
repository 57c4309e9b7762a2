"""The feed: events as they are committed, read once for all that follow them in this process.

What was read lately is remembered, and a follower has its place there. One that is further back
reads the log by itself until it has caught up. So a follower costs its place, however slow it is,
and an idle one is woken for what it wants alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from operator import attrgetter
from typing import TypeVar

from starlette.types import Receive

from receiver.problems import Busy, Problem
from receiver.progress import Progress
from store.errors import CursorAheadError
from store.eventlog import (
    Entry,
    Stretch,
    Wanted,
    check_cursor,
    cursor_before,
    last_cursor,
    read_on,
)
from store.events import Task
from store.notices import EVENTS
from store.rounds import LOOK_SECONDS, Rounds
from store.store import Store

logger = logging.getLogger("taskbell.feed")

HEARTBEAT_SECONDS = 15.0
MOST = 2_000
"""Followers: streams, and calls that wait for a task's end."""

_PAGE = 500
_CATCH_UP_PAGE = 100
_REMEMBERED = 2_000
_REMEMBERED_BYTES = 8 * 1024 * 1024
_AT_ONCE_BYTES = 64 * 1024
_AGAIN_SECONDS = 0.1  # not every commit is announced to other processes (store/notices.py)
_BREATH_SECONDS = 0.02  # what is committed meanwhile is read together

EVERYTHING = Wanted()

Key = TypeVar("Key")


class Feed:
    """A loop that reads the log while anybody follows it; `rounds` looks every second, or when woken.

    most: how many may follow.
    """

    def __init__(self, store: Store, *, monotonic: Callable[[], float], most: int = MOST) -> None:
        self.monotonic = monotonic
        self.ended = False
        self._store = store
        self._most = most
        self._followers: set[Follower] = set()
        self._by_task: dict[str, set[Follower]] = {}
        self._by_wish: dict[Wanted, set[Follower]] = {}
        self._recent: _Recent | None = None  # None: nobody follows, or nobody has caught up
        self._progress, self._progress_at = Progress(store), -math.inf
        self._anyone = asyncio.Event()
        self.check: Callable[[], Awaitable[object]] | None = None
        """Called each second while anybody follows: it may find that followers are to be rechecked."""
        self.rechecks = 0
        self._checked_at = -math.inf
        self.rounds = Rounds(store, EVENTS, self._look, logger=logger)

    async def run(self) -> None:
        """Until canceled. Before the first follower comes nothing is listened to."""
        await self._anyone.wait()
        await self.rounds.run()

    async def drain(self, seconds: float) -> None:
        self.end()
        await self.rounds.drain(seconds)

    def end(self) -> None:
        """Send everybody away and let nobody in: the process is about to stop."""
        self.ended = True
        for follower in self._followers:
            follower.wake()

    def recheck(self) -> None:
        """Have everybody look anew whether they may hear more: a key was revoked, say."""
        self.rechecks += 1
        for follower in self._followers:
            follower.wake()

    async def now(self, since: datetime | None = None) -> int:
        """The cursor after which all is news, or was recorded since. Raises StoreUnavailableError."""
        if since is not None:
            return await self._store.read(cursor_before, since)
        return await self._store.read(last_cursor)

    async def check_cursor(self, after: int) -> None:
        """Raise CursorError when nobody can go on from there; StoreUnavailableError."""
        await self._store.read(check_cursor, after)

    @contextlib.contextmanager
    def follow(self, wanted: Wanted, after: int, *, progress: bool = False) -> Iterator[Follower]:
        """Follow what comes behind a cursor. Raises Problem 503 when there is no room.

        progress: of the tasks it names, too.
        """
        if self.ended:
            raise Problem(503, "shutting down", {"Retry-After": "1"})
        if len(self._followers) >= self._most:
            raise Busy(503, "too many are waiting for events here", {"Retry-After": "5"})
        follower = Follower(self, wanted, after)
        watched = wanted.task_ids if progress and wanted.task_ids else ()
        self._add(follower)
        self._progress.add(follower, watched)
        try:
            yield follower
        finally:
            self._remove(follower)
            self._progress.remove(follower, watched)

    def __len__(self) -> int:
        """How many follow."""
        return len(self._followers)

    def recent(self, after: int, wanted: Wanted) -> Stretch | None:
        """What is remembered behind a cursor; None when that is too far back."""
        return self._recent.behind(after, wanted) if self._recent else None

    async def read(self, after: int, wanted: Wanted) -> Stretch:
        """The next part of the log, for a follower that has to catch up."""
        stretch = await self._store.read(read_on, after, wanted, limit=_CATCH_UP_PAGE)
        if stretch.at_end and self._recent is None:
            self._recent = _Recent(stretch.upto)
        return stretch.first(_AT_ONCE_BYTES)  # who takes nothing must not hold much

    @property
    def head(self) -> int:
        """The cursor up to which everything was passed on."""
        return self._recent.head if self._recent else 0

    async def _look(self) -> float:
        self._remind()
        await self._check()
        recent = self._recent
        if recent is None:
            return LOOK_SECONDS
        try:
            stretch = await self._store.read(read_on, recent.head, EVERYTHING, limit=_PAGE)
        except CursorAheadError as error:
            self._begin_anew(error)
            return LOOK_SECONDS
        if self._recent is not recent:  # all left meanwhile
            return LOOK_SECONDS
        recent.add(stretch)
        self._tell(stretch.entries)
        await self._show_progress()
        if not stretch.entries:
            return LOOK_SECONDS
        await asyncio.sleep(_BREATH_SECONDS)
        return _AGAIN_SECONDS if stretch.at_end else 0

    async def _show_progress(self) -> None:
        """Not at every event: a look a second is enough."""
        now = self.monotonic()
        if now - self._progress_at >= LOOK_SECONDS:
            self._progress_at = now
            await self._progress.look()

    def _begin_anew(self, error: CursorAheadError) -> None:
        """Send everybody away: those who come back are told that their cursors are of another log."""
        logger.error(
            "the event log ends at cursor %d, and was read up to %d: the database was restored"
            " under this process, or lost commits",
            error.known,
            error.cursor,
        )
        self._recent = None
        for follower in self._followers:
            follower.left = True
            follower.wake()

    async def _check(self) -> None:
        now = self.monotonic()
        if self.check is not None and now - self._checked_at >= LOOK_SECONDS:
            self._checked_at = now
            await self.check()

    def _remind(self) -> None:
        long_ago = self.monotonic() - HEARTBEAT_SECONDS
        for follower in self._followers:
            if follower.heard_at <= long_ago:
                follower.wake()

    def _tell(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            for follower in self._by_task.get(entry.task_id or "", ()):
                if follower.wanted.fits(entry):
                    follower.hear(entry.cursor)
        for wanted, followers in self._by_wish.items():
            first = next((entry.cursor for entry in entries if wanted.fits(entry)), None)
            if first is not None:
                for follower in followers:
                    follower.hear(first)

    def _add(self, follower: Follower) -> None:
        self._followers.add(follower)
        self._anyone.set()
        task_ids = follower.wanted.task_ids
        if task_ids is None:
            self._by_wish.setdefault(follower.wanted, set()).add(follower)
        else:
            for task_id in task_ids:
                self._by_task.setdefault(task_id, set()).add(follower)

    def _remove(self, follower: Follower) -> None:
        self._followers.discard(follower)
        task_ids = follower.wanted.task_ids
        if task_ids is None:
            _discard(self._by_wish, follower.wanted, follower)
        else:
            for task_id in task_ids:
                _discard(self._by_task, task_id, follower)
        if not self._followers:
            self._recent = None


class Follower:
    """One that follows, and its place in the log: all it wants up to there it was given."""

    def __init__(self, feed: Feed, wanted: Wanted, after: int) -> None:
        self.wanted = wanted
        self.heard_at = feed.monotonic()
        self.left = False
        self._feed = feed
        self._place = after
        self._idle = False  # nothing it wants is between its place and the feed's head
        self._news = asyncio.Event()
        self._shown: dict[str, tuple[str | None, float | None]] = {}
        self._moved: dict[str, Task] = {}

    @property
    def over(self) -> bool:
        return self.left or self._feed.ended

    async def next(self) -> list[Entry]:
        """What comes next, as soon as there is something; nothing when woken for another reason.

        At most 64 KiB, and the event that goes beyond. Raises StoreUnavailableError while it catches up.
        """
        entries = await self._read()
        if not entries and not self._moved and not self.over:
            self._idle = True
            await self._news.wait()
            self._news.clear()
            self._idle = False
            entries = await self._read()
        self.heard_at = self._feed.monotonic()
        return entries

    def hear(self, cursor: int) -> None:
        """The first event that it wants since it became idle was read."""
        if self._idle and cursor > self._place:
            self._place, self._idle = cursor - 1, False
            self._news.set()

    def wake(self) -> None:
        """There is another reason: it is time for a sign of life, or to leave."""
        if self._idle:
            self._place, self._idle = max(self._place, self._feed.head), False
        self._news.set()

    def show(self, task: Task) -> None:
        """Progress (receiver.progress.Watcher). Of two changes the later one is kept."""
        said = (task.provider_status, task.progress)
        if self._shown.get(task.id) != said:
            self._shown[task.id], self._moved[task.id] = said, task
            self.wake()

    def take_progress(self) -> list[Task]:
        """What moved since the last time, without an event."""
        moved, self._moved = self._moved, {}
        return list(moved.values())

    @contextlib.asynccontextmanager
    async def leaving_with(self, receive: Receive) -> AsyncIterator[None]:
        """Leave when the client of this request does."""
        watch = asyncio.create_task(self._leave_with(receive))
        try:
            yield
        finally:
            watch.cancel()

    async def _leave_with(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left = True
        self.wake()

    async def _read(self) -> list[Entry]:
        if self.over:
            return []
        while (stretch := self._feed.recent(self._place, self.wanted)) is None:
            try:
                stretch = await self._feed.read(self._place, self.wanted)
            except (
                CursorAheadError
            ):  # the log has become another one: it comes back, and is told so
                self.left = True
                return []
            self._place = stretch.upto
            if stretch.entries or self.over:
                return stretch.entries
        self._place = stretch.upto
        return stretch.entries


class _Recent:
    """The last events, up to head; what was before `floor`, or is at it, is forgotten."""

    def __init__(self, head: int) -> None:
        self.head = self.floor = head
        self._entries: list[Entry] = []
        self._bytes = 0

    def add(self, stretch: Stretch) -> None:
        self.head = stretch.upto
        self._entries += stretch.entries
        self._bytes += sum(len(entry.body) for entry in stretch.entries)
        self._forget()

    def _forget(self) -> None:
        gone = 0
        while len(self._entries) - gone > _REMEMBERED or self._bytes > _REMEMBERED_BYTES:
            self._bytes -= len(self._entries[gone].body)
            self.floor = self._entries[gone].cursor
            gone += 1
        del self._entries[:gone]

    def behind(self, after: int, wanted: Wanted) -> Stretch | None:
        if after < self.floor:
            return None
        found: list[Entry] = []
        size = 0
        for entry in self._entries[bisect_right(self._entries, after, key=_cursor) :]:
            if wanted.fits(entry):
                found.append(entry)
                size += len(entry.body)
                if size >= _AT_ONCE_BYTES:
                    return Stretch(found, entry.cursor, at_end=False)
        return Stretch(found, max(after, self.head), at_end=True)


_cursor = attrgetter("cursor")


def _discard(groups: dict[Key, set[Follower]], key: Key, follower: Follower) -> None:
    groups[key].discard(follower)
    if not groups[key]:
        del groups[key]
