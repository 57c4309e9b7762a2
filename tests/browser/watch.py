"""What goes wrong in a browser while a test looks elsewhere."""

from __future__ import annotations

import re

from playwright.async_api import (
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    Response,
    WebError,
)

_QUIET = frozenset({"debug", "info", "log", "verbose"})
_GIVEN_UP = "net::ERR_ABORTED"  # by the page itself: it left, or closed its stream


class Watch:
    """Notes every trouble of a browser context: no page may have any.

    Console warnings and errors (among them what the content security policy or the rule against
    mixed content forbids), uncaught errors, dialogs, requests to another host than `origin`'s,
    requests that failed, and answers of 500 and above.
    """

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self._origin = origin
        self._troubles: list[str] = []
        self._expected: list[str] = []
        self.asked: list[str] = []
        context.on("console", self._said)
        context.on("weberror", self._broke)
        context.on("dialog", self._interrupted)
        context.on("request", self._asked)
        context.on("requestfailed", self._failed)
        context.on("response", self._answered)
        context.on("page", self._opened)

    def expect(self, pattern: str) -> None:
        """Take troubles that match for what the test is about. It fails without one."""
        self._expected.append(pattern)

    @property
    def troubles(self) -> list[str]:
        """What nobody expected, and what was expected and did not come."""
        unseen = [
            f"expected, but nothing matched: {pattern}"
            for pattern in self._expected
            if not any(re.search(pattern, trouble) for trouble in self._troubles)
        ]
        return unseen + [
            trouble
            for trouble in self._troubles
            if not any(re.search(pattern, trouble) for pattern in self._expected)
        ]

    def _said(self, message: ConsoleMessage) -> None:
        if message.type not in _QUIET:
            self._troubles.append(f"console {message.type}: {message.text}")

    def _broke(self, error: WebError) -> None:
        self._troubles.append(f"uncaught: {error.error}")

    async def _interrupted(self, dialog: Dialog) -> None:
        self._troubles.append(f"dialog: {dialog.message}")
        await dialog.dismiss()  # the page stands still until then

    def _asked(self, request: Request) -> None:
        self.asked.append(request.url)
        if not request.url.startswith((f"{self._origin}/", "data:", "blob:")):
            self._troubles.append(f"asked another host: {request.url}")

    def _failed(self, request: Request) -> None:
        if request.failure != _GIVEN_UP:
            self._troubles.append(f"failed: {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 500:
            self._troubles.append(f"answered {response.status}: {response.url}")

    def _opened(self, page: Page) -> None:
        page.on("crash", lambda _: self._troubles.append(f"crashed: {page.url}"))
