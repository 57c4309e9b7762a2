"""Notices between the processes on one PostgreSQL, by LISTEN and NOTIFY: what a commit concerns.

A notice is a hint that saves waiting for the next look (store/rounds.py). Losing one costs a second
at most, so none is kept or repeated. They are heard on a connection that leads through no pooler in
transaction mode, which LISTEN would not outlast. SQLite has one process, and nobody to tell.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import select
import socket
import threading
from collections.abc import Callable, Collection, Set
from typing import TYPE_CHECKING, Any

from store.clock import monotonic
from store.database import Database, connect_alone
from store.sessions import Statement

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger("taskbell.store")

EVENTS = "events"
"""The topic: the log has grown. Whoever reads it looks again after a tenth of a second."""

_EVENTS_SECONDS = 0.05  # so it is announced no more often than that
_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 30.0
_STEADY_SECONDS = (
    10.0  # a connection that lasted that long is lost as any other: no news, made anew
)
_CLOSE_SECONDS = 1.0  # a thread that is still connecting, to a host that is away, is left behind

# the channel of a table, so that installations in two schemas of one database do not hear each other
_CHANNEL = "'taskbell_' || 'events'::regclass::oid"
_ANNOUNCE = f"SELECT pg_notify({_CHANNEL}, %(payload)s)"


class Notices:
    """Announces to other processes, and hears them once listen() was called; close() at the end.

    heard is called with topics, in a thread of this class.
    """

    def __init__(self, database: Database, heard: Callable[[Collection[str]], object]) -> None:
        self._database = database
        self._heard = heard
        self._origin = secrets.token_hex(4)
        self._lost = False
        """Whether it was said that there is no connection."""
        self._since = math.inf
        """When the present connection began to hear."""
        self._events_at = -math.inf
        self._thread: threading.Thread | None = None
        self._stop, self._stopped = socket.socketpair()

    def announce(self, topics: Set[str]) -> list[Statement]:
        """What tells the other processes when, and only if, the transaction commits that runs it."""
        if not topics or not self._database.postgresql or self._was_said(topics):
            return []
        return [(_ANNOUNCE, {"payload": " ".join((self._origin, *sorted(topics)))})]

    def _was_said(self, topics: Set[str]) -> bool:
        """A notice wakes every process that listens, ours included: not one for each transaction."""
        if EVENTS not in topics:
            return False
        before, now = self._events_at, monotonic()
        if topics == {EVENTS} and now - before < _EVENTS_SECONDS:
            return True
        self._events_at = now
        return False

    def listen(self) -> None:
        """Start hearing, in the background: PostgreSQL may still be away."""
        if self._thread is None and self._database.postgresql:
            self._thread = threading.Thread(target=self._run, name="taskbell-notices", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._stop.close()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
        else:
            self._stopped.close()

    def _run(self) -> None:
        import psycopg  # takes 50 ms, which SQLite's users need not wait

        wait = 0.0
        with self._stopped:
            while not self._closed_within(wait):
                self._since = math.inf
                try:
                    self._hear_all()
                except psycopg.Error as error:
                    wait = self._wait_after(error, wait)

    def _wait_after(self, error: psycopg.Error, waited: float) -> float:
        """Note that the connection is lost; how long to wait for the next one.

        Who hangs up on what is idle, a time-out of the server's, a pooler or a firewall, does so again
        and again: that is worth no line in the log each time.
        """
        if monotonic() - self._since >= _STEADY_SECONDS:
            return 0.0
        self._note_lost(error)
        return min(2 * waited, _LONGEST_WAIT_SECONDS) or _WAIT_SECONDS

    def _hear_all(self) -> None:
        """Pass notices on until close(). Raises psycopg.Error when there is no connection."""
        with contextlib.closing(connect_alone(self._database)) as connection:
            _subscribe(connection)
            self._since = monotonic()
            # psycopg's own waiting wakes up ten times a second
            news = select.poll()
            news.register(connection.fileno(), select.POLLIN)
            news.register(self._stopped, select.POLLIN)
            while not self._closed_within(0):
                if topics := self._topics(connection):
                    self._heard(topics)
                if self._lost and monotonic() - self._since >= _STEADY_SECONDS:
                    self._note_back()
                news.poll(_STEADY_SECONDS * 1000 if self._lost else None)

    def _topics(self, connection: psycopg.Connection[Any]) -> set[str]:
        topics: set[str] = set()
        for notice in connection.notifies(timeout=0):
            origin, *about = notice.payload.split()
            if origin != self._origin:
                topics.update(about)
        return topics

    def _closed_within(self, seconds: float) -> bool:
        closed = select.poll()
        closed.register(self._stopped, select.POLLIN)
        return bool(closed.poll(seconds * 1000))

    def _note_lost(self, error: psycopg.Error) -> None:
        if not self._lost:
            reason = str(error).strip().split("\n")[0][:200]
            logger.warning("no notices from other processes, looking every second: %s", reason)
        self._lost = True

    def _note_back(self) -> None:
        logger.warning("notices from other processes are back")
        self._lost = False


def _subscribe(connection: psycopg.Connection[Any]) -> None:
    [channel] = connection.execute(f"SELECT {_CHANNEL}").fetchone() or [""]
    connection.execute(f'LISTEN "{channel}"'.encode())
