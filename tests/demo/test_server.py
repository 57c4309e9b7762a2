import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from deploy.demo.server import LocalServer


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def test_an_app_answers_on_a_real_socket_until_the_block_ends() -> None:
    app = Starlette(routes=[Route("/", hello)])

    async with (
        LocalServer(app) as server,
        httpx.AsyncClient(trust_env=False, verify=False) as client,
    ):
        answer = await client.get(server.url)

    assert answer.text == "hello"
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(server.url)


async def test_the_lifespan_runs_and_signal_handlers_are_left_alone() -> None:
    steps = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        steps.append("started")
        yield
        steps.append("ended")

    before = signal.getsignal(signal.SIGINT)

    async with LocalServer(Starlette(lifespan=lifespan)):
        during = signal.getsignal(signal.SIGINT)
        steps.append("served")

    assert steps == ["started", "served", "ended"]
    assert during is before


async def test_an_app_that_cannot_start_is_an_error_and_not_an_exit() -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise OSError("no disk")
        yield

    with pytest.raises(RuntimeError, match="did not start"):
        async with LocalServer(Starlette(lifespan=lifespan)):
            pass
