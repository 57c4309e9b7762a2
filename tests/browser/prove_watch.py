"""The rig itself: whatever it promises to notice, it notices."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from playwright.async_api import Browser
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from deploy.demo.server import LocalServer
from tests.browser.windows import Windows

_POLICY = "default-src 'none'; script-src 'nonce-ours'; img-src *"
_FINE = "<script nonce=ours>console.log('all is well'); console.info('still')</script>"
_ASKS = "<script nonce=ours>alert('boo')</script>"
_TROUBLES = {
    "<script nonce=ours>console.warn('hm')</script>": "console warning: hm",
    "<script nonce=ours>console.error('oh')</script>": "console error: oh",
    "<script nonce=ours>throw new Error('lost')</script>": "uncaught: .*lost",
    "<script nonce=ours>Promise.reject(new Error('lost'))</script>": "uncaught: .*lost",
    _ASKS: "dialog: boo",
    "<script>console.log('never')</script>": "console error: .*inline script",
    "<p style='color: red'>styled</p>": "console error: .*inline style",
    "<img alt='' src='http://elsewhere.example/x.png'>": "another host: http://elsewhere.example",
    "<img alt='' src='http://93.184.216.34/x.png'>": "another host: http://93.184.216.34/x.png",
    "<img alt='' src='http://127.0.0.1:9/x.png'>": "failed: http://127.0.0.1:9/x.png",
    "<img alt='' src='/broken'>": "answered 503: ",
}
_WITHOUT_JAVASCRIPT = [content for content in _TROUBLES if "script" not in content]


def _page(content: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_request: Request) -> Response:
        page = f"<!doctype html><title>t</title>{content}"
        return HTMLResponse(page, headers={"content-security-policy": _POLICY})

    return answer


async def _broken(_request: Request) -> Response:
    return Response(status_code=503)


async def _icon(_request: Request) -> Response:
    return Response(status_code=204)


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    """Serves every content under its number; 0 is the one without trouble."""
    pages = [_FINE, *_TROUBLES]
    routes = [Route(f"/{number}", _page(content)) for number, content in enumerate(pages)]
    routes += [Route("/broken", _broken), Route("/favicon.ico", _icon)]
    async with LocalServer(Starlette(routes=routes)) as server:
        yield server.url


async def test_a_page_without_trouble_has_none(windows: Windows, origin: str) -> None:
    page = await windows.open(origin)

    await page.goto("/0")

    assert windows.watch(page).asked == [f"{origin}/0"]


@pytest.mark.parametrize("javascript", [True, False])
async def test_trouble_does_not_go_unnoticed(
    chromium: Browser, origin: str, javascript: bool
) -> None:
    windows = Windows(chromium)
    page = await windows.open(origin, javascript=javascript)

    for number, (content, trouble) in enumerate(_TROUBLES.items(), start=1):
        if javascript or content in _WITHOUT_JAVASCRIPT:
            before = len(windows.watch(page).troubles)
            await page.goto(f"/{number}")
            noticed = windows.watch(page).troubles[before:]
            assert any(re.search(trouble, each) for each in noticed), (content, noticed)

    assert await windows.close()


async def test_trouble_may_be_expected_and_must_come_then(chromium: Browser, origin: str) -> None:
    windows = Windows(chromium)
    page = await windows.open(origin)
    windows.watch(page).expect("boo")
    windows.watch(page).expect("teapot")

    await page.goto(f"/{1 + list(_TROUBLES).index(_ASKS)}")

    assert await windows.close() == ["expected, but nothing matched: teapot"]
