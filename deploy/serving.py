"""Running the app under uvicorn: first start, the socket, signals, and what a person is told."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from deploy import __version__, logs
from deploy.app import all_endpoints, make_app
from deploy.crowd import Crowd, Limits
from deploy.descriptors import descriptors
from deploy.listening import BoundedServer
from deploy.secrets import with_dev_api_key, with_secret_keys
from deploy.service import LOOPBACK, Service, make_service
from deploy.settings import Settings, load, local_url, process_environment, wants_traces
from deploy.traces import open_traces
from receiver.openapi import openapi
from receiver.provider import providers
from receiver.tokens import CallbackTokens, new_token_id
from store import keys
from store.claims import release
from store.clock import system_clock
from store.database import Database, open_database
from store.fitness import check
from store.keys import NewKey, Scope, new_key_text
from store.schema import migrate
from store.sqlite_file import check_place, exposed
from store.store import Store

logger = logging.getLogger("taskbell")

GRACE_SECONDS = 10
"""For requests under way at shutdown; after that the loops drain, ten more at the most."""


def run(settings: Settings, *, dev: bool, limits: Limits | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, then end cleanly; a second one of them hurries it.

    limits: on clients, when not the usual ones. Raises SettingsError, StoreError, OSError.
    """
    logs.set_up()
    if settings.sqlite_path is not None:
        check_place(settings.sqlite_path)  # before keys are written beside it
    settings = with_secret_keys(settings)
    if dev:
        logging.getLogger("taskbell").setLevel(logging.DEBUG)  # a line for each push and attempt
        opened = (*settings.allow_networks, *LOOPBACK)
        settings = replace(with_dev_api_key(settings), allow_networks=opened)
    logs.hide(_secrets(settings))
    listener = _listen(settings)
    settings = _with_port(settings, listener.getsockname()[1])
    with contextlib.ExitStack() as failed:
        failed.callback(listener.close)
        database = _usable_database(settings)
        failed.pop_all()
    traces = open_traces(system_clock) if wants_traces(process_environment()) else None
    service = make_service(settings, database, traces=traces)
    if not database.postgresql:
        # the store holds the file's lock, so what the last process had claimed is nobody's now
        service.store.write_now(release, None)
    if settings.api_key is None:
        _make_first_key(service.store)
    _spare_the_collector()  # before anybody is invited to Ctrl-C: a finalizer would swallow it
    _warn(settings)
    if dev:
        _greet(settings, service.once_links.issue())
    logger.info(
        "serving",
        extra={
            "url": local_url(settings.host, settings.port),
            "version": __version__,
            "database": database.name,
            "roles": ",".join(sorted(settings.roles)),
        },
    )
    limits = limits or Limits(connections=descriptors().from_clients)
    _Server(service, listener, Crowd(limits)).run()


def _secrets(settings: Settings) -> list[str]:
    """The values that no log line may hold."""
    given = [settings.api_key, *settings.secret_keys]
    given += [chosen.api_key for chosen in settings.providers.values()]
    for url in (settings.database_url, settings.direct_database_url):
        password = urlsplit(url).password if url else None
        given.append(unquote(password) if password else None)
    return [each for each in given if each]


def _usable_database(settings: Settings) -> Database:
    """Return the database at this version's schema. Raises StoreError."""
    database = open_database(settings.database_url, settings.direct_database_url)
    try:
        check(database)
        migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def _spare_the_collector() -> None:
    """Let it look at what requests leave behind, not at the modules, and less often.

    Its work grows with all that is alive; a tenth to a fifth of a busy process's time went into it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


class _Server(BoundedServer):
    """Ends with exit code 0 when it was asked to end."""

    def __init__(self, service: Service, listener: socket.socket, crowd: Crowd) -> None:
        self._service = service
        super().__init__(
            make_app(service),
            listener,
            crowd,
            timeout_graceful_shutdown=GRACE_SECONDS,
            lifespan="on",
        )
        service.metrics.connections = lambda: len(self.server_state.connections)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again at the end: a clean stop would look like a kill
        loop = asyncio.get_running_loop()
        wanted = (signal.SIGINT, signal.SIGTERM)
        for number in wanted:
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in wanted:
                loop.remove_signal_handler(number)

    def _stop(self, number: signal.Signals) -> None:
        if self._service.draining:
            self._hurry()
            return
        logger.info("stopping: finishing what is under way")
        self._service.draining = True
        self._service.feed.end()  # uvicorn waits for what is under way, and streams do not end
        self.handle_exit(number, None)

    def _hurry(self) -> None:
        # uvicorn's own way, which only Ctrl-C has, leaves the service running
        logger.info("stopping now: what is under way is cut off")
        self._service.hurried.set()
        self.crowd.disperse()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # with the protocol named, asyncio switches Nagle's delay off on what is accepted
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno,
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror};"
            " TASKBELL_PORT or --port takes another one",
        ) from None
    listener.set_inheritable(False)
    return listener


def _with_port(settings: Settings, port: int) -> Settings:
    if settings.port == port:
        return settings
    public = settings.public_url.replace(f":{settings.port}", f":{port}")
    return replace(settings, port=port, public_url=public)


def _make_first_key(store: Store) -> None:
    """On the very first start make an admin key, and show it: there is no other way in."""
    text = new_key_text()
    if store.write_now(keys.create_first, NewKey("first start", Scope.ADMIN, text)):
        _say(f"Your admin API key, shown this once:\n\n    {text}\n")


def _warn(settings: Settings) -> None:
    for path, mode in exposed(settings.sqlite_path) if settings.sqlite_path else ():
        logger.warning("others on this machine can read %s (mode %04o): chmod 600 it", path, mode)
    for name, provider in providers().items():
        if settings.providers[name].api_key is None:
            logger.info(
                "no API key for %s: its tasks cannot be polled or confirmed (%s_API_KEY)",
                provider.title,
                name.upper(),
            )


def _greet(settings: Settings, once: str) -> None:
    tokens = CallbackTokens(settings.secret_keys)
    token = tokens.issue("minimax", new_token_id(), expires_at=None, metadata={})
    url = f"{settings.public_url}/callbacks/minimax/{token}"
    here = local_url(settings.host, settings.port) + urlsplit(settings.public_url).path
    prefix = "" if settings.port == Settings().port else f"TASKBELL_URL={here} "
    _say(
        f"""Taskbell {__version__} for development, at {here}

Dashboard       {here}/login?once={once}
                (signs in once, within ten minutes; later, sign in with the key)
API key         {settings.api_key}
MiniMax pushes  {url}

Try, in another terminal of this folder:
  curl -d '{{"challenge": "hello"}}' {url}
  {prefix}./deploy/run callback-url minimax
  {prefix}./deploy/run tasks
"""
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document, from the same table that serves (in a database of a moment)."""
    with tempfile.TemporaryDirectory() as folder:
        file = f"sqlite:///{Path(folder)}/taskbell.db"
        settings = with_secret_keys(load({"TASKBELL_DATABASE_URL": file}))
        service = make_service(settings, open_database(file))
        try:
            return openapi(all_endpoints(service), __version__)
        finally:
            asyncio.run(service.close())
