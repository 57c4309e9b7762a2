"""Requests below the path of TASKBELL_PUBLIC_URL, whether or not a proxy cuts that path off."""

from __future__ import annotations

from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send


class BelowPath:
    """Takes the path off the front of each request's, so that nothing else needs to know of it.

    A request without it is served just the same: its proxy has cut it off, or it came past it.
    """

    def __init__(self, app: ASGIApp, path: str) -> None:
        """path: "" or like /taskbell, without a slash at its end."""
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._path:
            rest = scope["path"].removeprefix(self._path)
            if rest != scope["path"] and rest[:1] in ("", "/"):
                # in place: who handles errors around us has this very scope
                scope["path"] = rest or "/"
                scope["raw_path"] = quote(scope["path"]).encode()
        await self._app(scope, receive, send)
