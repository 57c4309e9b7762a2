"""The HTTP server: uvicorn, with connections of ours, no more of them than there may be."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from deploy.connections import Connection
from deploy.crowd import Crowd

logger = logging.getLogger("taskbell.connections")

_BACKLOG = 2048
_AT_ONCE = 32
_AGAIN_SECONDS = 0.05


class Acceptor:
    """Takes connections while its crowd has room. The others wait in the kernel, and are not reset.

    asyncio and uvloop accept all there are, until the process has no descriptor left for anything.
    """

    def __init__(
        self,
        listener: socket.socket,
        crowd: Crowd,
        connection: Callable[[], Connection],
    ) -> None:
        self._listener = listener
        self._crowd = crowd
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._joining: set[asyncio.Task[None]] = set()
        self._door = select.poll()
        self._door.register(listener, select.POLLIN)
        self._again: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._listener.setblocking(False)
        self._listener.listen(_BACKLOG)
        self._loop.add_reader(self._listener, self._accept_some)

    async def stop(self) -> None:
        """Take those who have connected already, and listen no more."""
        self._pause()
        while self._has_room() and self._accept():
            pass
        self._pause()
        self._listener.close()
        if self._joining:
            await asyncio.wait(self._joining)

    def _accept_some(self) -> None:
        for _ in range(_AT_ONCE):
            if not self._has_room():
                self._pause(then=_AGAIN_SECONDS)
                return
            if not self._accept():
                return

    def _has_room(self) -> bool:
        """Whether there is a place for whoever comes next; nobody has to go while nobody comes."""
        return not (self._crowd.is_full and self._door.poll(0)) or self._crowd.makes_room()

    def _accept(self) -> bool:
        """Whether somebody was there."""
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            logger.error("no connection can be taken: %s", error.strerror)
            self._pause(then=1.0)
            return False
        accepted.setblocking(False)
        with contextlib.suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._connection()
        self._crowd.expects(connection)
        joining = self._loop.create_task(self._join(accepted, connection))
        self._joining.add(joining)
        joining.add_done_callback(self._joining.discard)
        return True

    async def _join(self, accepted: socket.socket, connection: Connection) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, accepted)
        except OSError:  # it is gone already
            self._crowd.left(connection)
            accepted.close()

    def _pause(self, then: float | None = None) -> None:
        self._loop.remove_reader(self._listener)
        if self._again is not None:
            self._again.cancel()
        if then is not None:
            self._again = self._loop.call_later(then, self._resume)

    def _resume(self) -> None:
        self._again = None
        self._loop.add_reader(self._listener, self._accept_some)


class BoundedServer(uvicorn.Server):
    """Serves an app on a socket that is bound; nothing else is uvicorn's to decide."""

    def __init__(
        self, app: ASGIApp | str, listener: socket.socket, crowd: Crowd, **options: Any
    ) -> None:
        """options: of uvicorn's Config, beside those that have to be so."""
        self.crowd = crowd
        self._listener = listener
        self._acceptor: Acceptor | None = None
        super().__init__(
            uvicorn.Config(
                app,
                ws="none",
                log_config=None,
                access_log=False,  # it would print callback tokens
                server_header=False,
                proxy_headers=False,  # whoever connects would choose the address that we count by
                date_header=True,
                **options,
            )
        )

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        watch = asyncio.create_task(self.crowd.keep_watch())
        try:
            await super().serve(sockets)
        finally:
            watch.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        self._acceptor = Acceptor(self._listener, self.crowd, self._connection)
        self._acceptor.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is on its way, then take nobody any more; the rest is uvicorn's."""
        assert self._acceptor is not None  # noqa: S101 - uvicorn shuts down what it has started
        await self.crowd.end()
        await self._acceptor.stop()
        await super().shutdown()

    def _connection(self) -> Connection:
        state = self.lifespan.state
        return Connection(self.config, self.server_state, state, crowd=self.crowd)
