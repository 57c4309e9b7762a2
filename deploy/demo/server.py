"""Serve an ASGI app on a real loopback socket, inside the running event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

import uvicorn
from starlette.types import ASGIApp

IDLE_SECONDS = 75
"""Longer than clients keep a connection: a request that is sent while we close it is lost."""

_GRACE_SECONDS = 2


class LocalServer:
    """Async context manager: the app answers at `url` while the block runs.

    Port 0 takes a free one. listener: a socket from `bound`, for an app that must know its port
    before it serves. The process's signal handlers stay as they are. Raises RuntimeError on
    entering when the app's lifespan fails to start.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        listener: socket.socket | None = None,
    ) -> None:
        self._app = app
        self._address = (host, port)
        self._listener = listener
        self._server: _QuietServer | None = None
        self._serving: asyncio.Task[None] | None = None
        self.url = ""

    async def __aenter__(self) -> LocalServer:
        listener = self._listener or bound(*self._address)
        host, port = listener.getsockname()[:2]
        self.url = f"http://{host}:{port}"
        self._server = _QuietServer(self._app)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({self._serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            ready.cancel()
            listener.close()
            await self._serving
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None and self._serving is not None:
            self._server.leave.set()
            await self._serving


def bound(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Return a socket that holds its address from now on, for LocalServer(listener=…)."""
    # asyncio turns Nagle's algorithm off only where the protocol is named: without it, an answer
    # written in two pieces waits 40 ms for the other side's delayed acknowledgement
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


class _QuietServer(uvicorn.Server):
    """A uvicorn server that is one guest among others in its process."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                log_config=None,
                log_level=None,
                http="httptools",
                ws="none",
                timeout_keep_alive=IDLE_SECONDS,
                lifespan="on",
                date_header=False,
                server_header=False,
            )
        )
        self.ready = asyncio.Event()
        self.leave = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:  # uvicorn would end the whole process
            raise RuntimeError("the app did not start; uvicorn.error logged why") from None

    async def main_loop(self) -> None:
        """Wait for the end without uvicorn's ten ticks a second, so that leaving is prompt."""
        await self.on_tick(0)
        self.ready.set()
        await self.leave.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let open requests finish for a while, then end the lifespan. uvicorn's own waits longer."""
        for server in self.servers:
            server.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn tells by nothing else
                    await asyncio.sleep(0.005)
        for task in state.tasks:
            task.cancel()
        await self.lifespan.shutdown()
