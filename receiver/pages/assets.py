"""The files beside the pages: script, style, htmx. Each is served under a name that its content has.

So a browser may keep it for good, and a new version is another name. htmx.min.js is htmx 4.0.1
from the npm package htmx.org, without the line that names its source map; htmx.LICENSE.txt is its
licence.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.problems import Problem

_FOLDER = Path(__file__).parent.parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_FOR_GOOD = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    body: bytes
    media_type: str
    mark: str


@cache
def _assets() -> dict[str, Asset]:
    files = (path for path in _FOLDER.iterdir() if path.suffix in _TYPES)
    return {path.name: _asset(path) for path in files}


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    return Asset(body, _TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:16])


def address(name: str) -> str:
    """Where a file is served. Raises KeyError for one that is not there."""
    return f"/static/{name}?v={_assets()[name].mark}"


async def _serve(request: Request) -> Response:
    asset = _assets().get(request.path_params["name"])
    if asset is None:
        raise Problem(404, "no such file")
    current = request.query_params.get("v") == asset.mark
    kept = _FOR_GOOD if current else "no-cache"
    headers = {"cache-control": kept, "content-type": asset.media_type}
    return Response(asset.body, headers=headers)


def static_route() -> Route:
    return Route("/static/{name}", _serve)
